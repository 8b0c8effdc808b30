"""No method reads a concentration of the people whom it predicts, or what comes after a record."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest

from examples.remifentanil import data, methods
from examples.remifentanil.methods import Settings
from tests.support.assertions import assert_equal, assert_finite, assert_within

SHORT = Settings(epochs=1)


@pytest.fixture(scope="module")
def table() -> pandas.DataFrame:
    return data.load()


@pytest.fixture(scope="module")
def fold(table: pandas.DataFrame) -> data.Fold:
    return data.folds(data.as_panel(table, gap=False), 5)[0]


def _other(table: pandas.DataFrame, fold: data.Fold) -> pandas.DataFrame:
    """Other concentrations of the people of the fold."""
    return table.assign(
        **{data.TARGET: table[data.TARGET].where(~table["person"].isin(fold.test), table[data.TARGET] + 5)}
    )


@pytest.mark.parametrize("method", [methods.boosting, methods.splines, methods.gru])
def test_held_out_concentrations_change_nothing(
    table: pandas.DataFrame, fold: data.Fold, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "TREES", (5, 10))
    first = method(table, fold, 0, SHORT)
    assert first.shape == (len(data.measured(table, fold.test)),)
    assert_finite("predicted", first)
    assert_equal("predicted", method(_other(table, fold), fold, 0, SHORT), first)


def test_splines_of_the_averages_are_close(table: pandas.DataFrame, fold: data.Fold) -> None:
    """A model of the drug's own kinetics explains most of the spread, which is 1.6."""
    error = methods.splines(table, fold, 0, SHORT) - data.measured(table, fold.test)[data.TARGET].to_numpy()
    assert np.sqrt(np.mean(error**2)) < 0.5


@pytest.mark.parametrize("continuous", [True, False])
def test_the_model_reads_no_concentration_and_nothing_later(
    table: pandas.DataFrame, fold: data.Fold, continuous: bool
) -> None:
    model = methods.recurrent(table, fold, 0, SHORT, continuous=continuous)
    assert model.continuous_ is continuous
    names = [term.name for term in model.encoder_.terms]
    assert ("log_gap" in names) is not continuous
    assert model.pairs_ == ([] if continuous else [("rate", "log_gap")])
    first = methods.told(model, table, fold.test, continuous=continuous)
    again = methods.told(model, _other(table, fold), fold.test, continuous=continuous)
    assert_equal("other concentrations", again, first)
    late = table["minute"] > 15
    later = table.assign(rate=table["rate"] + 100.0 * late)
    changed = methods.told(model, later, fold.test, continuous=continuous)
    before = ~late[data.measured(table, fold.test).index].to_numpy()
    # float32 at size 4, and the same sums
    assert_within("before", changed[before], first[before], 1e-5)
    assert abs(changed - first)[~before].max() > 1e-3
