"""Each method learns, from its rows alone, and repeats with its seed; scores by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from examples import ebm
from examples.tabular import data, methods, scores

QUICK = methods.Settings(hidden=(8,), epochs=8, learning_rate=2e-2)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ebm, "BAGS", 2)


@pytest.mark.parametrize("table", list(data.TABLES))
@pytest.mark.parametrize("method", list(methods.METHODS))
def test_learns_from_its_rows_alone_and_repeats(table: str, method: str) -> None:
    if method == methods.EBM:
        pytest.importorskip("interpret")
    some = data.TABLES[table]()
    (train, test), *_ = some.folds(3, 0)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    said = methods.METHODS[method](some, train, 5, QUICK).predict(some.values[test])
    assert torch.equal(torch.get_rng_state(), before)
    assert said.shape == (len(test),) and said.dtype == np.float64
    assert np.corrcoef(said, some.target[test])[0, 1] > (0.75 if some.binary else 0.5)
    target, values = some.target.copy(), some.values.copy()
    target[test], values[test] = target[test][::-1], 0
    again = methods.METHODS[method](replace(some, target=target, values=values), train, 5, QUICK)
    np.testing.assert_array_equal(again.predict(some.values[test]), said)


def test_another_seed_is_another_nam() -> None:
    some = data.diabetes()
    rows = np.arange(300)
    one, other = (methods.Nam(some, rows, seed, QUICK).predict(some.values[300:]) for seed in (0, 1))
    assert (one != other).all()


def test_the_nam_is_one_of_rnam_and_adds_up() -> None:
    some = data.diabetes()
    nam = methods.Nam(some, np.arange(442), 0, QUICK)
    prediction, contributions = nam.model(*nam.encode(some.values))
    total = contributions[..., 0].double().sum(0) + nam.model.gam.bias.double()
    # 10 terms in float32, standardised predictions below 8: 11 roundings of 8 * 2^-24 at most
    np.testing.assert_allclose(total.detach(), prediction[:, 0].detach(), atol=11 * 8 * 2**-24)
    units = nam.offset + nam.scale * prediction[:, 0].detach().double().numpy()
    np.testing.assert_array_equal(units, nam.predict(some.values))
    assert nam.predict(some.values).mean() == pytest.approx(some.target.mean(), abs=0.3 * some.target.std())


def test_scores_by_hand() -> None:
    some = data.breast_cancer()
    four = replace(some, target=np.array([1.0, 0, 1, 0]), values=some.values[:4])
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
