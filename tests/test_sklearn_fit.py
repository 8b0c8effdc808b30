"""Fits and predictions of the estimators: shapes, random numbers, groups, what 0.2 saved."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GroupShuffleSplit, cross_val_score
from skorch.callbacks import Callback
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import SliceDict, predefined_split

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


# groups


class Parts(Callback):  # type: ignore[misc]
    """The rows of both parts, by their first column."""

    def on_epoch_begin(self, net: Any, dataset_train: Any, dataset_valid: Any, **kwargs: Any) -> None:
        parts = [part for part in (dataset_train, dataset_valid) if part is not None]
        self.rows = [np.array([_row(part[n][0]) for n in range(len(part))]) for part in parts]


def _row(x: Any) -> int:
    return int((x["input"] if isinstance(x, dict) else x)[0])


def _numbered(x: np.ndarray) -> np.ndarray:
    return np.stack([np.arange(len(x)), x[:, 1]], 1)


SPLITS = {
    "default": {},
    "folds": {"train_split": ValidSplit(3)},
    "share": {"train_split": ValidSplit(0.3, random_state=0)},
    "splitter": {"train_split": ValidSplit(GroupShuffleSplit(1, test_size=0.5, random_state=0))},
}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_samples_of_a_group_are_in_one_part(kind: type, split: str, data: Any) -> None:
    x, y = data
    y = y if kind is AdditiveRegressor else (y > 0).astype(int)
    groups = np.array([f"person {n % 12}" for n in range(ROWS)])
    parts = Parts()
    net = _net(kind, callbacks=[parts], lr=0.0, max_epochs=1, **SPLITS[split])
    net.fit(_numbered(x), y, groups=groups)
    training, validation = (set(groups[rows]) for rows in parts.rows)
    assert training and validation and not training & validation and len(training | validation) == 12
    assert sorted(np.concatenate(parts.rows)) == list(range(ROWS))
    net.fit(SliceDict(input=_numbered(x)), y, groups=groups)
    assert not set(groups[parts.rows[0]]) & set(groups[parts.rows[1]])


def test_the_people_of_bootstrap_samples_are_groups(data: Any) -> None:
    x, y = data
    people, parts = np.arange(ROWS) % 12, Parts()
    net = _net(AdditiveRegressor, callbacks=[parts], lr=0.0, module__members=2)
    net.fit(_numbered(x), y, resample=people)
    assert not set(people[parts.rows[0]]) & set(people[parts.rows[1]])
    net.fit(_numbered(x), y, resample=people, groups=np.arange(ROWS) // 10)
    assert set(people[parts.rows[0]]) & set(people[parts.rows[1]])
    net.set_params(train_split=None).partial_fit(_numbered(x), y, groups=people)
    assert [len(rows) for rows in parts.rows] == [ROWS]


def test_groups_that_mean_nothing_are_refused(data: Any) -> None:
    x, y = data
    net = _net(AdditiveRegressor)
    for name, groups, message in (("groups", np.arange(3), r"groups must have shape \(60,\), got \(3,\)"),):
        with pytest.raises(ValueError, match=message):
            net.set_params(module__members=2).fit(x, y, **{name: groups})


def test_a_split_of_ones_own_stays(data: Any) -> None:
    x, y = data
    valid = Dataset(x[:10].astype(np.float32), y[:10].astype(np.float32))
    net = _net(AdditiveRegressor, train_split=predefined_split(valid)).fit(x, y, sample_weight=np.ones(ROWS))
    error = np.mean((net.predict(x[:10]) - y[:10]) ** 2)
    assert net.history[-1, "valid_loss"] == pytest.approx(error, rel=1e-5)


def test_groups_and_weights_go_through_cross_validation(data: Any) -> None:
    x, y = data
    beside = {"sample_weight": np.ones(ROWS), "groups": np.arange(ROWS) // 3}
    assert np.isfinite(cross_val_score(_net(AdditiveRegressor), x, y, cv=3, params=beside)).all()


# saved nets


@pytest.mark.parametrize("kind", KINDS)
def test_a_net_that_0_2_pickled_predicts(kind: type, data: Any) -> None:
    """It has none of the attributes that came later."""
    x, y = data
    net = _net(kind).fit(x, y if kind is AdditiveRegressor else (y > 0).astype(int))
    expected, old = net.predict(x), copy.copy(net)
    later = ("random_state", "rng_", "mean_weight_", "batch_rows_")
    for name in later:
        vars(old).pop(name, None)
    again = pickle.loads(pickle.dumps(old))
    assert np.array_equal(again.predict(x), expected)
    assert again.get_params()["random_state"] is None and clone(again).random_state is None
