"""Fits and predictions of the estimators: shapes, random numbers, what 0.2 saved."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

import rnam
from rnam.sklearn import AdditiveBinaryClassifier, AdditiveClassifier, AdditiveRegressor

ROWS = 60
KINDS = [AdditiveRegressor, AdditiveBinaryClassifier, AdditiveClassifier]


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(ROWS, 2))
    return x, x[:, 0] - x[:, 1] ** 2 / 2 + 0.25


def _net(kind: type, **options: Any) -> Any:
    plain: dict[str, Any] = dict(max_epochs=3, lr=0.1, batch_size=16, verbose=0, random_state=0)
    outs = 2 if kind is AdditiveClassifier else 1
    return kind(rnam.NAM, **{"module__terms": 2, "module__hidden": (8,), "module__out_dim": outs, **plain, **options})


# shapes


def test_the_prediction_of_one_target_has_one_dimension(data: Any) -> None:
    x, y = data
    for target in (y, y[:, None]):
        assert _net(AdditiveRegressor).fit(x, target).predict(x).shape == (ROWS,)
    net = _net(AdditiveRegressor)
    assert np.sqrt(np.mean((net.fit(x, y).predict(x) - y) ** 2)) < y.std()
    assert net.score(x, y) > 0
    both = _net(AdditiveRegressor, module__out_dim=2).fit(x, np.stack([y, -y], 1))
    assert both.predict(x).shape == (ROWS, 2)


# random numbers


@pytest.mark.parametrize("kind", KINDS)
def test_two_fits_are_alike(kind: type, data: Any) -> None:
    """Parameters, order of the rows, dropout and bootstrap samples; torch's own numbers are left as they were."""
    x, y = data
    y = y if kind is AdditiveRegressor else (y > 0).astype(int)
    options = {"module__dropout": 0.2, "module__members": 2, "iterator_train__shuffle": True}
    net = _net(kind, **options)
    ids = np.arange(ROWS) // 2
    before = torch.get_rng_state()
    net.fit(x, y, resample=ids)
    assert torch.equal(torch.get_rng_state(), before)
    first = net.predict_proba(x)
    torch.rand(7)
    assert np.array_equal(net.fit(x, y, resample=ids).predict_proba(x), first)
    assert np.array_equal(clone(net).fit(x, y, resample=ids).predict_proba(x), first)
    other = _net(kind, **options, **{"random_state": 1}).fit(x, y, resample=ids)
    assert not np.array_equal(other.predict_proba(x), first)


def _net_of(kind: type, seed: Any, **options: Any) -> Any:
    return _net(kind, **options).set_params(random_state=seed)


def test_without_a_random_state_torchs_numbers_go_on(data: Any) -> None:
    x, y = data
    net = _net_of(AdditiveRegressor, None)
    torch.manual_seed(0)
    first, second = (net.fit(x, y).predict(x) for _ in range(2))
    torch.manual_seed(0)
    assert np.array_equal(net.fit(x, y).predict(x), first) and not np.array_equal(first, second)


def test_parts_draw_on_and_whole_runs_are_alike(data: Any) -> None:
    x, y = data
    options = {"module__members": 2, "iterator_train__shuffle": True, "train_split": None, "max_epochs": 1}
    runs = []
    for _ in range(2):
        net, seen = _net(AdditiveRegressor, **options), []
        loss = net.get_loss
        net.get_loss = lambda *a, X, seen=seen, loss=loss, **k: seen.append(X["resample_weight"]) or loss(*a, X=X, **k)
        for _ in range(2):
            net.partial_fit(x, y, resample=np.arange(ROWS))
        runs.append((net.predict(x), torch.cat(seen)))
    assert np.array_equal(runs[0][0], runs[1][0]) and torch.equal(runs[0][1], runs[1][1])
    first, second = runs[0][1].split(ROWS)
    assert not torch.equal(first.sum(1).sort().values, second.sum(1).sort().values) or not torch.equal(first, second)


# saved nets


@pytest.mark.parametrize("kind", KINDS)
def test_a_net_that_0_2_pickled_predicts(kind: type, data: Any) -> None:
    """It has none of the attributes that came later."""
    x, y = data
    net = _net(kind).fit(x, y if kind is AdditiveRegressor else (y > 0).astype(int))
    expected, old = net.predict(x), copy.copy(net)
    later = ("random_state", "rng_")
    for name in later:
        vars(old).pop(name, None)
    again = pickle.loads(pickle.dumps(old))
    assert np.array_equal(again.predict(x), expected)
    assert again.get_params()["random_state"] is None and clone(again).random_state is None
