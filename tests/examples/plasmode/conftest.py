"""A made-up cohort, and short runs on it that several tests look at.

The tests are left out where the extra `demo` is not installed; of the real data one test reads them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from examples.plasmode import data, training
    from examples.training import Progress

NEEDED = ("matplotlib", "pandas", "sklearn", "tqdm")
collect_ignore_glob = [] if all(map(importlib.util.find_spec, NEEDED)) else ["test_*.py"]


@pytest.fixture(scope="session")
def people() -> data.Cohort:
    from examples.plasmode import data
    from tests.examples.plasmode.support import frames

    persons, labs = frames()
    return data.cohort(persons, data.clean(labs)[0])


@pytest.fixture(scope="session")
def trained(people) -> tuple[training.Task, Progress]:
    """Both models of a seed, after two epochs."""
    from examples.plasmode import training
    from examples.training import Progress

    settings = training.Settings(people=60, epochs=2, members=2)
    task, progress = training.Task.make(people, settings), Progress()
    for _ in training.train(task, progress, torch.device("cpu")):
        pass
    return task, progress


@contextmanager
def on_the_made_up(people: data.Cohort) -> Iterator[pytest.MonkeyPatch]:
    """The command line reads the made-up cohort, and its pictures are empty: `test_picture.py` has real ones."""
    from matplotlib.figure import Figure

    from examples.plasmode import data, demo

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "load", lambda: (people, data.Dropped(1000, 500, 20, 3)))
        patch.setattr(demo.picture, "draw", lambda *_: Figure())
        yield patch


@pytest.fixture
def made_up(people) -> Iterator[None]:
    with on_the_made_up(people):
        yield


@pytest.fixture(scope="session")
def finished(people, tmp_path_factory) -> Path:
    """The folder of a short run that was never interrupted."""
    from examples.plasmode import demo
    from tests.examples.plasmode.support import SHORT

    out = tmp_path_factory.mktemp("finished")
    with on_the_made_up(people):
        arguments = [*SHORT, "--seeds", "0", "1", "--out", str(out), "--json", str(out / "results.json")]
        assert demo.main(arguments) == 0
    return out
