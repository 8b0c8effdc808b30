"""Each method learns, from its rows alone, and repeats with its seed; scores by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import rnam
from examples import ebm
from examples.tabular import data, methods, scores
from tests.support.assertions import assert_within

QUICK = methods.Settings(epochs=8)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ebm, "BAGS", 2)


@pytest.mark.parametrize("table", list(data.TABLES))
@pytest.mark.parametrize("method", [methods.NAM, methods.LINEAR, methods.EBM])
def test_learns_from_its_rows_alone_and_repeats(table: str, method: str) -> None:
    if method == methods.EBM:
        pytest.importorskip("interpret")
    some = data.TABLES[table]()
    (train, test), *_ = some.folds(3, 0)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    held_out = some.values.iloc[test]
    said = methods.METHODS[method](some, train, 5, QUICK).predict(held_out)
    assert torch.equal(torch.get_rng_state(), before)
    assert said.shape == (len(test),) and said.dtype == np.float64
    assert np.corrcoef(said, some.target[test])[0, 1] > {"breast_cancer": 0.75, "diabetes": 0.5, "hmda": 0.3}[table]
    target, values = some.target.copy(), some.values.copy()
    target[test], values.iloc[test] = target[test][::-1], values.iloc[train[0]].to_numpy()
    again = methods.METHODS[method](replace(some, target=target, values=values), train, 5, QUICK)
    np.testing.assert_array_equal(again.predict(held_out), said)


def test_another_seed_is_another_nam() -> None:
    some = data.diabetes()
    rows = np.arange(300)
    one, other = (methods.Nam(some, rows, seed, QUICK).predict(some.values.iloc[300:]) for seed in (0, 1))
    assert (one != other).all()


def test_the_nam_is_one_of_rnam_and_adds_up() -> None:
    some = data.diabetes()
    nam = methods.Nam(some, np.arange(442), 0, QUICK)
    assert type(nam.model.model_) is rnam.NAM
    parts = nam.model.contributions(some.values)
    assert tuple(parts) == some.terms
    total = parts.sum(axis=1) + nam.model.intercept_[0]
    # predictions of up to 512 points in float32, of 11 summands: 11 * 512 * 2^-24
    assert_within("total", total, nam.predict(some.values), 11 * 512 * 2**-24)
    assert nam.predict(some.values).mean() == pytest.approx(some.target.mean(), abs=0.3 * some.target.std())


def test_scores_by_hand() -> None:
    some = data.breast_cancer()
    four = replace(some, target=np.array([1.0, 0, 1, 0]), values=some.values.iloc[:4])
    odds = np.array([2.0, 1, 0, -1])
    found = scores.scores(four, odds)
    assert found["auc"] == 0.75
    p = 1 / (1 + np.exp(-odds))
    assert found["brier"] == pytest.approx(np.mean((p - four.target) ** 2))
    assert set(found) == set(scores.headings(four))
    numbers = replace(data.diabetes(), target=np.array([1.0, 2, 3, 6]))
    found = scores.scores(numbers, np.array([1.0, 2, 5, 6]))
    assert found == pytest.approx({"r2": 1 - 4 / 14, "rmse": 1})
    assert set(found) == set(scores.headings(numbers))
