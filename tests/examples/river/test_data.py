"""Held-out days are far from those of training, and no flow is an input."""

import numpy as np
import pytest

from examples.river import data, rivals
from tests.support.assertions import assert_within


def test_ten_years_of_days() -> None:
    days = data.load()
    assert len(days) == 3653
    assert (days["date"].diff().dropna().dt.days == 1).all()
    assert days["flow"].iloc[[0, -1]].tolist() == [143.0, 30.5]
    assert days["log_flow"].isna().sum() == data.SPIN_UP
    assert days[list(data.WEATHER)].isna().sum().sum() == 0
    assert days["range"].min() > 0


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="spotpy"):
        data.load()


@pytest.mark.parametrize("kind", ["blocks", "forecast"])
def test_blocks_are_purged_and_each_day_is_held_out_once(kind: str) -> None:
    days = data.load()
    panel = data.as_panel(days)
    cut = data.blocks(panel, 5) if kind == "blocks" else [data.forecast(panel)]
    held = [data.rows(block.test) for block in cut]
    for block, own in zip(cut, held, strict=True):
        train = data.rows(block.train)
        assert (np.diff(own) == 1).all()
        assert abs(train[:, None] - own[[0, -1]]).min() > (0 if kind == "forecast" else data.PURGE)
        assert not ((train >= own[0]) & (train <= own[-1])).any()
        assert len(block.inner) == 3
        for inner_train, inner_held in block.inner:
            chosen = data.rows(inner_held)
            assert set(chosen) <= set(train)
            assert abs(data.rows(inner_train)[:, None] - chosen[[0, -1]]).min() > data.PURGE
    known = np.arange(data.SPIN_UP, len(days)) if kind == "blocks" else np.flatnonzero(days["date"] >= "1986-01-01")
    assert np.concatenate(held).tolist() == known.tolist()


def test_features_are_weather_so_far() -> None:
    """Another weather from a day on changes nothing before it, and another flow nothing at all."""
    days = data.load()
    other = days.copy()
    other.loc[2000:, list(data.WEATHER)] += 5.0
    other["flow"] = other["log_flow"] = 0.0
    known = np.arange(60, 1900)
    for features in (lambda table: rivals.lagged(table)[0], lambda table: rivals.distributed(table, known)):
        first, second = features(days), features(other)
        assert np.array_equal(first[:2000], second[:2000])
        assert (first[2000] != second[2000]).any()
        assert np.isfinite(first).all()


def test_distributed_lags_add_up_over_values_and_lags() -> None:
    """The splines of each column sum to 1 at each lag, and so do those of lags: all features of a column sum to the
    number of lags."""
    features = rivals.distributed(data.load(), np.arange(60, 3653))
    each = features.reshape(len(features), len(data.WEATHER), -1).sum(-1)
    assert_within("sum", each, rivals.REACH + 1, 1e-9)
