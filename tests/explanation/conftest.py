"""Models that are trained once for all tests of this folder, and no windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import rnam
from tests.explanation import support

PAIRS = [("rain", "temp"), ("rain", "soil")]


@pytest.fixture(scope="session")
def model() -> Any:
    """A recurrent regressor of two members with pairs, of labels at visits."""
    return support.fitted(rnam.RNAMRegressor, support.basins(), members=2, pairs=PAIRS)


@pytest.fixture(scope="session")
def panel() -> rnam.Panel:
    return support.basins()


@pytest.fixture(scope="session")
def explanation(model: Any, panel: rnam.Panel) -> Any:
    return model.explain(panel)


@pytest.fixture(autouse=True)
def _no_window() -> Iterator[None]:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    yield
    pyplot.close("all")
