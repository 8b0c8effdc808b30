"""The models as scikit-learn estimators."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.helper import SliceDict
from torch import Tensor, nn

import rnam
from rnam.sklearn import AdditiveBinaryClassifier, AdditiveClassifier, AdditiveRegressor
from tests.support.assertions import assert_equal

TERMS = 2


class Tabular(nn.Module):
    """An RNAM that takes (batch, terms), one step each."""

    def __init__(self, hidden_dim: int = 4, out_dim: int = 1) -> None:
        super().__init__()
        self.model = rnam.RNAM(TERMS, hidden_dim, out_dim, blocks=1)

    def forward(self, input: Tensor) -> Any:
        return self.model(input.T[:, :, None, None])


class Sequences(nn.Module):
    """An RNAM that takes (batch, seq, terms)."""

    def __init__(self, hidden_dim: int = 4, out_dim: int = 1) -> None:
        super().__init__()
        self.model = rnam.RNAM(TERMS, hidden_dim, out_dim, blocks=1)

    def forward(self, input: Tensor, lengths: Tensor) -> Any:
        return self.model(input.permute(2, 0, 1)[..., None], lengths=lengths)


OPTIONS: dict[str, Any] = dict(max_epochs=30, lr=0.02, optimizer=torch.optim.Adam, batch_size=32, verbose=0)


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, TERMS))
    return x, np.tanh(x[:, 0]) + np.abs(x[:, 1])


def test_pipeline_cross_validation_and_clone(data: tuple[np.ndarray, np.ndarray]) -> None:
    """float64 in and targets (samples,), as scikit-learn has them; the model learns what a constant can't."""
    x, y = data
    estimator = make_pipeline(StandardScaler(), AdditiveRegressor(Tabular, **OPTIONS))
    scores = cross_val_score(clone(estimator), 5 * x + 3, y, cv=3)
    assert scores.mean() > 0.5


def test_grid_search_over_the_models_arguments(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    search = GridSearchCV(AdditiveRegressor(Tabular, **OPTIONS), {"module__hidden_dim": [1, 4]}, cv=2)
    search.fit(x, y)
    assert {c["module__hidden_dim"] for c in search.cv_results_["params"]} == {1, 4}


def test_pickle(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    net = AdditiveRegressor(Tabular, **{**OPTIONS, "max_epochs": 2}).fit(x, y)
    assert np.array_equal(pickle.loads(pickle.dumps(net)).predict(x), net.predict(x))


def test_weights_of_0_leave_a_sample_out(data: tuple[np.ndarray, np.ndarray]) -> None:
    """Training on all samples with some weights 0 is training on the others: full batches, no validation."""
    x, y = data
    kept = np.arange(len(y)) % 3 > 0
    options = {**OPTIONS, "max_epochs": 3, "batch_size": -1, "train_split": None}

    def fitted(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> Any:
        torch.manual_seed(0)
        return AdditiveRegressor(Tabular, **options).fit(x, y, sample_weight=weight)

    wrong = np.where(kept, y, 100.0)
    weighted, without = fitted(x, wrong, kept.astype(float)), fitted(x[kept], y[kept], None)
    np.testing.assert_allclose(weighted.predict(x), without.predict(x), rtol=1e-4, atol=1e-5)
    assert np.abs(fitted(x, wrong, None).predict(x) - without.predict(x)).max() > 0.1


def test_weights_go_through_cross_validation(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    net = AdditiveRegressor(Tabular, **OPTIONS)
    scores = cross_val_score(net, x, y, cv=3, params={"sample_weight": np.ones(len(y))})
    assert scores.mean() > 0.5


def test_sequences_in_a_dict() -> None:
    """Padding, by its lengths, is not read: NaN there does no harm."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(90, 6, TERMS)).astype(np.float32)
    lengths = rng.integers(1, 7, 90)
    inside = np.arange(6) < lengths[:, None]
    y = np.where(inside, x[..., 0], 0).sum(1) / lengths
    x[~inside] = np.nan
    given = SliceDict(input=x, lengths=lengths)
    net = AdditiveRegressor(Sequences, **OPTIONS).fit(given, y)
    losses = net.history[:, "train_loss"]
    assert losses[-1] < losses[0] / 2
    with torch.no_grad():
        expected = net.module_(torch.tensor(x), torch.tensor(lengths)).prediction[:, 0]
    np.testing.assert_allclose(net.predict(given), expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(cross_val_score(net, given, y, cv=3)).all()


def test_classifiers(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    binary = AdditiveBinaryClassifier(Tabular, **OPTIONS).fit(x, (y > 1).astype(np.int64))
    assert binary.score(x, (y > 1).astype(np.int64)) > 0.8
    assert binary.predict_proba(x).shape == (len(y), 2)
    classes = np.digitize(y, [0.5, 1.0])
    several = AdditiveClassifier(Tabular, module__out_dim=3, **OPTIONS).fit(x, classes)
    assert several.score(x, classes) > 0.6
    np.testing.assert_allclose(several.predict_proba(x).sum(1), 1, rtol=1e-5)


def test_the_regularizer_is_part_of_the_loss(data: tuple[np.ndarray, np.ndarray]) -> None:
    """A large penalty on contributions holds them at 0, and the bias alone is left."""
    x, y = data
    net = AdditiveRegressor(Tabular, regularizer=lambda c: 1e3 * c.square().mean(), **OPTIONS).fit(x, y)
    assert np.ptp(net.predict(x)) < 0.1


def test_a_criterion_without_single_losses_is_an_error(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    net = AdditiveRegressor(Tabular, criterion__reduction="mean", **OPTIONS)
    with pytest.raises(ValueError, match="criterion must give one loss a sample"):
        net.fit(x, y)


def _nam(members: int, kind: type = AdditiveRegressor, **options: Any) -> Any:
    torch.manual_seed(0)
    plain = dict(max_epochs=4, lr=0.05, optimizer=torch.optim.SGD, batch_size=-1, train_split=None, verbose=0)
    given = {"module__terms": TERMS, "module__hidden": (4,), "module__members": members, "module__dtype": torch.float64}
    return kind(rnam.NAM, **plain, **given, **options)


@pytest.mark.parametrize(
    ("kind", "outs", "cuts"),
    [(AdditiveRegressor, 1, []), (AdditiveBinaryClassifier, 1, [1.0]), (AdditiveClassifier, 3, [0.5, 1.0])],
)
def test_members_learn_as_each_would_alone(
    kind: type, outs: int, cuts: list[float], data: tuple[np.ndarray, np.ndarray]
) -> None:
    """By SGD on the whole set, from the same parameters: to rounding of float64."""
    x, y = data
    y = np.digitize(y, cuts) if cuts else y
    weight = np.linspace(0.5, 2, len(x))
    net = _nam(3, kind, module__out_dim=outs).initialize()
    start = {name: value.clone() for name, value in net.module_.state_dict().items()}
    net.set_params(warm_start=True).fit(x, y, sample_weight=weight)
    got = net.module_.state_dict()
    for k in range(3):
        single = _nam(1, kind, module__out_dim=outs).initialize()
        own = lambda state, k=k: {
            name: value[k] if name == "gam.bias" else value.unflatten(0, (3, -1))[k] for name, value in state.items()
        }
        single.module_.load_state_dict(own(start))
        single.set_params(warm_start=True).fit(x, y, sample_weight=weight)
        for name, value in single.module_.state_dict().items():
            torch.testing.assert_close(own(got)[name], value, rtol=1e-10, atol=1e-12)
            assert not torch.equal(value, own(start)[name])
    assert len(net.predict(x)) == len(x) and np.isfinite(net.score(x, y))


def test_members_learn_from_people_drawn_by_the_bootstrap(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    ids = np.repeat([f"person {n}" for n in range(len(x) // 4)], 4)
    net, seen = _nam(3), []
    loss = net.get_loss
    net.get_loss = lambda *a, X=None, **k: seen.append(X["resample_weight"]) or loss(*a, X=X, **k)
    net.fit(x, y, resample=ids)
    (first, *others) = seen
    assert first.shape == (len(x), 3)
    assert_equal("draws", others, [first] * len(others))
    people = first.reshape(-1, 4, 3)
    assert torch.equal(people, people[:, :1].expand_as(people))  # all samples of a person
    assert torch.equal(people[:, 0].sum(0), torch.full((3,), float(len(people))))
    assert not torch.equal(first[:, 0], first[:, 1])
    again = _nam(3).fit(x, y)
    assert np.abs(net.predict(x) - again.predict(x)).max() > 1e-3
    with pytest.raises(ValueError, match="resample must be None for a model without members"):
        _nam(1).fit(x, y, resample=ids)
    with pytest.raises(ValueError, match=r"resample must have shape \(120,\), got \(3,\)"):
        _nam(3).fit(x, y, resample=ids[:3])


def test_frames_and_integers_are_numbers_like_others(data: tuple[np.ndarray, np.ndarray]) -> None:
    """Columns and an index of a frame have names; the model sees an array, with weights and without."""
    pandas = pytest.importorskip("pandas")
    x, y = np.round(3 * data[0]), data[1]
    index = [f"row {n}" for n in range(len(y))]
    frame, series = pandas.DataFrame(x, index, ["a", "b"]), pandas.Series(y, index)
    weight = np.linspace(0.5, 2, len(y))
    for given in ({}, {"sample_weight": weight}):
        expected = _nam(1).fit(x, y, **given).predict(x)
        of_frame = {name: pandas.Series(value, index) for name, value in given.items()}
        assert np.array_equal(_nam(1).fit(frame, series, **of_frame).predict(frame), expected)
        assert np.array_equal(_nam(1).fit(x.astype(np.int64), y, **given).predict(x.astype(np.int64)), expected)


def test_predictions_of_halves_are_arrays(data: tuple[np.ndarray, np.ndarray]) -> None:
    """NumPy has no bfloat16."""
    x, y = data
    net = AdditiveRegressor(rnam.NAM, module__terms=TERMS, module__dtype=torch.bfloat16, **OPTIONS).fit(x, y)
    with torch.no_grad():
        expected = net.module_(torch.tensor(x, dtype=torch.bfloat16)).prediction[:, 0]
    assert np.array_equal(net.predict(x), expected.float()) and net.score(x, y) > 0.3


def test_times_keep_their_digits() -> None:
    """Seconds since 1970, a minute apart: float32 has none of these."""
    gaps = np.random.default_rng(0).integers(1, 100, (40, 5))
    times = 1.7e9 + gaps.cumsum(1).astype(np.float64)
    given = SliceDict(input=np.ones((40, 5, 1)), times=times)
    options = {"hidden_dim": 4, "out_dim": 1, "blocks": 1, "columns": [[0]], "timing": True}
    plain = {f"module__{name}": value for name, value in options.items()}
    net = AdditiveRegressor(rnam.RNAM, module__terms=1, **plain, **{**OPTIONS, "max_epochs": 1})
    net.fit(given, gaps[:, -1].astype(np.float64))
    with torch.no_grad():
        small = net.module_(torch.ones(40, 5, 1), times=torch.tensor(times - 1.7e9)).prediction[:, 0]
    np.testing.assert_allclose(net.predict(given), small, rtol=1e-5, atol=1e-6)
    assert np.ptp(small.numpy()) > 1e-3


def test_partial_fit_takes_weights(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    weight = np.linspace(0.5, 2, len(y))
    whole = _nam(1).fit(x, y, sample_weight=weight)
    parts = _nam(1).set_params(max_epochs=2)
    for _ in range(2):
        parts.partial_fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(parts.predict(x), whole.predict(x), rtol=1e-10)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), r"sample_weight must have shape \(120,\), got \(3,\)"),
        (np.ones((120, 2)), r"sample_weight must have shape \(120,\), got \(120, 2\)"),
        (-np.ones(120), "sample_weight must be at least 0"),
        (np.full(120, np.nan), "sample_weight must be finite"),
    ],
)
def test_weights_that_mean_nothing_are_refused(
    weight: np.ndarray, message: str, data: tuple[np.ndarray, np.ndarray]
) -> None:
    with pytest.raises(ValueError, match=message):
        _nam(1).fit(*data, sample_weight=weight)


def test_targets_must_be_as_many_as_outputs(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    with pytest.raises(ValueError, match="y must have 1 targets a sample as the model has outputs, got 2"):
        _nam(1).fit(x, np.stack([y, y], 1))
