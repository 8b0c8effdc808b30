"""Weights of the estimators: mini-batches and the whole set have one optimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, LRScheduler

import rnam
from rnam.sklearn import AdditiveBinaryClassifier, AdditiveClassifier, AdditiveRegressor
from tests.support.assertions import assert_equal
from tests.support.estimators import nam

ROWS = 70
KINDS = [(AdditiveRegressor, 1, []), (AdditiveBinaryClassifier, 1, [0.0]), (AdditiveClassifier, 3, [-0.5, 0.5])]


class Gradients(Callback):  # type: ignore[misc]
    """The sum of the gradients of all steps."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.sums = {name: torch.zeros_like(value) for name, value in net.module_.named_parameters()}

    def on_grad_computed(self, net: Any, named_parameters: Any, **kwargs: Any) -> None:
        for name, parameter in named_parameters:
            self.sums[name] += parameter.grad


def _net(kind: type, outs: int, members: int, batch: int, **options: Any) -> Any:
    """One that takes steps of size 0, so that all gradients are those at the start."""
    model = {"terms": 2, "hidden": (4,), "out_dim": outs, "members": members, "dtype": torch.float64}
    plain: dict[str, Any] = dict(max_epochs=1, lr=0.0, batch_size=batch, verbose=0, random_state=0)
    return kind(rnam.NAM, **{f"module__{name}": value for name, value in model.items()}, **plain | options)


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X, y and weights, of which a few are large."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, 2)), rng.normal(size=ROWS), np.where(rng.random(ROWS) < 0.1, 20.0, 1.0)


@pytest.mark.parametrize(("members", "resampled"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize(("kind", "outs", "cuts"), KINDS, ids=lambda value: getattr(value, "__name__", ""))
def test_small_batches_have_the_optimum_of_the_whole_set(
    kind: type, outs: int, cuts: list[float], members: int, resampled: bool, data: Any
) -> None:
    """Their gradients add up to that of the whole set, wherever the parameters are; the last batch is short."""
    x, y, weight = data
    y = np.digitize(y, cuts) if cuts else y
    beside = {"sample_weight": weight} | ({"resample": np.arange(ROWS) // 2} if resampled else {})
    sums = {}
    for batch in (32, -1):
        gradients = Gradients()
        _net(kind, outs, members, batch, train_split=None, callbacks=[gradients]).fit(x, y, **beside)
        sums[batch] = gradients.sums
    assert sums[32].keys() == sums[-1].keys()
    for name, whole in sums[-1].items():
        assert whole.abs().max() > 0
        torch.testing.assert_close(sums[32][name] * 32 / ROWS, whole, rtol=1e-10, atol=1e-12)


def test_rows_that_count_for_twenty_are_fitted_as_such() -> None:
    """5% of 2,048 rows at weight 20, in batches of 32: a constant comes to the weighted mean."""
    rng = np.random.default_rng(0)
    heavy = rng.random(2048) < 0.05
    y, weight = np.where(heavy, 1.0, rng.random(2048) * 0.2), np.where(heavy, 20.0, 1.0)
    schedule = ("schedule", LRScheduler("ExponentialLR", gamma=0.7))
    net = AdditiveRegressor(
        rnam.NAM, module__terms=1, module__hidden=(1,), max_epochs=12, lr=0.05, batch_size=32, train_split=None,
        iterator_train__shuffle=True, callbacks=[schedule], verbose=0, random_state=0,
    )  # fmt: skip
    (fitted,) = net.fit(np.zeros((2048, 1)), y, sample_weight=weight).predict(np.zeros((1, 1)))
    assert fitted == pytest.approx(np.average(y, weights=weight), abs=0.01)


@pytest.mark.parametrize("members", [1, 3])
def test_the_history_has_the_weighted_means_of_both_parts(members: int, data: Any) -> None:
    """Of batches whose last ones are short. Each part is divided by its own weights."""
    x, y, weight = data
    net = _net(AdditiveRegressor, 1, members, 13).fit(x, y, sample_weight=weight)
    error = (net.predict(x) - y) ** 2
    valid = np.arange(ROWS) < ROWS // 5  # skorch's default is the first of five folds
    assert net.history[-1, "valid_loss"] == pytest.approx(np.average(error[valid], weights=weight[valid]), rel=1e-9)
    with torch.no_grad():
        each = net.module_(torch.tensor(x), return_members=True).prediction[..., 0].numpy()
    of_each = np.average((each - y)[:, ~valid] ** 2, weights=weight[~valid], axis=1)
    assert net.history[-1, "train_loss"] == pytest.approx(of_each.sum(), rel=1e-9)
    assert net.history[-1, "valid_loss"] != pytest.approx(error[valid].mean(), rel=1e-2)


def test_the_regularizer_counts_for_the_rows_of_its_batch(data: Any) -> None:
    x, y, _ = data
    seen: list[float] = []

    def penalty(contributions: torch.Tensor) -> torch.Tensor:
        value = contributions.square().mean()
        seen.append(float(value.detach()))
        return value

    kept, plain = Gradients(), Gradients()
    _net(AdditiveRegressor, 1, 1, 32, train_split=None, callbacks=[kept], regularizer=penalty).fit(x, y)
    _net(AdditiveRegressor, 1, 1, 32, train_split=None, callbacks=[plain]).fit(x, y)
    whole = _net(AdditiveRegressor, 1, 1, -1, train_split=None, callbacks=[Gradients()], regularizer=penalty).fit(x, y)
    expected = whole.callbacks[0].sums
    name = "networks.layers.0.weight"
    torch.testing.assert_close(kept.sums[name] * 32 / ROWS, expected[name], rtol=1e-10, atol=1e-12)
    assert not torch.allclose(kept.sums[name], plain.sums[name]) and len(seen) == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("power", [-1074, -200, -133, 128, 200, 1019])
def test_the_scale_of_the_weights_has_no_effect(power: int, dtype: torch.dtype, data: Any) -> None:
    """Not where float32 cannot hold them. Powers of 2 lose no digit, so that the fits are the same numbers."""
    x, y, weight = data
    options = {"module__terms": 2, "module__dtype": dtype, "lr": 0.1, "batch_size": 32, "module__members": 2}
    people = np.arange(ROWS) // 2
    expected = nam(**options).fit(x, y, sample_weight=weight, resample=people)
    net = nam(**options).fit(x, y, sample_weight=weight * 2.0**power, resample=people)
    assert_equal("prediction", net.predict(x), expected.predict(x))
    assert net.history[:, ("train_loss", "valid_loss")] == expected.history[:, ("train_loss", "valid_loss")]


@pytest.mark.parametrize("power", [-200, 200])
def test_each_part_has_its_own_scale_of_weights(power: int, data: Any) -> None:
    """Also where float32 cannot hold the ratio of both."""
    x, y, weight = data
    valid = np.arange(ROWS) < ROWS // 5
    fits = [
        nam(module__terms=2, lr=0.1, batch_size=32).fit(x, y, sample_weight=weight * np.where(valid, scale, 1.0))
        for scale in (1.0, 2.0**power)
    ]
    assert_equal("prediction", fits[1].predict(x), fits[0].predict(x))
    assert fits[1].history[-1, "valid_loss"] == fits[0].history[-1, "valid_loss"]


def test_a_part_without_any_weight_is_refused(data: Any) -> None:
    x, y, _ = data
    valid = np.arange(ROWS) < ROWS // 5
    for part, weight in (("training", valid), ("validation", ~valid)):
        with pytest.raises(ValueError, match=f"sample_weight must not be zero for all samples of the {part} part"):
            _net(AdditiveRegressor, 1, 1, 32).fit(x, y, sample_weight=weight.astype(float))
    with pytest.raises(ValueError, match="sample_weight must be greater than 0 somewhere, got 0 everywhere"):
        _net(AdditiveRegressor, 1, 1, 32).fit(x, y, sample_weight=np.zeros(ROWS))


def test_weights_of_objects_and_nullable_numbers_are_taken_and_missing_ones_are_not(data: Any) -> None:
    pandas = pytest.importorskip("pandas")
    x, y, weight = data
    expected = _net(AdditiveRegressor, 1, 1, 32, lr=0.1).fit(x, y, sample_weight=weight).predict(x)
    for form in (pandas.Series(weight).astype("Int64"), pandas.Series(weight).astype(object)):
        got = _net(AdditiveRegressor, 1, 1, 32, lr=0.1).fit(x, y, sample_weight=form).predict(x)
        assert np.array_equal(got, expected)
        with pytest.raises(ValueError, match="sample_weight must be finite, got NaN"):
            _net(AdditiveRegressor, 1, 1, 32).fit(x, y, sample_weight=form.mask(weight > 1))
    with pytest.raises(ValueError, match="sample_weight must hold numbers, got 'heavy'"):
        _net(AdditiveRegressor, 1, 1, 32).fit(x, y, sample_weight=["heavy"] * ROWS)


def test_a_dataset_carries_its_own_weights(data: Any) -> None:
    skorch = pytest.importorskip("skorch")
    x, y, weight = data
    net = _net(AdditiveRegressor, 1, 1, 32, lr=0.1)
    with pytest.raises(ValueError, match="sample_weight, resample and groups must be None for a Dataset"):
        net.fit(skorch.dataset.Dataset(x, y), None, sample_weight=weight)
    assert np.isfinite(net.fit(skorch.dataset.Dataset(x, y), None).predict(x)).all()
