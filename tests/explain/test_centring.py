"""Centring, importance and spread against plain loops; what may be moved leaves the output be."""

import numpy as np
import pytest
import torch

from rnam import explain
from tests.explain.support import each, places
from tests.support import bounds
from tests.support.assertions import assert_within

U = bounds.unit(torch.float64)
BOTH = pytest.mark.parametrize("time", [False, True], ids=["last", "over time"])
MEMBERS = pytest.mark.parametrize("members", [False, True], ids=["one", "members"])


def _weighted_mean(pairs: list[tuple[float, float]]) -> float:
    return sum(v * w for v, w in pairs) / sum(w for _, w in pairs)


def _mean_error(pairs: list[tuple[float, float]]) -> float:
    """A mean of n numbers rounds n products and 2 n sums on each way, relative to the largest number."""
    return 2 * (3 * len(pairs) + 2) * U * max(abs(v) for v, _ in pairs)


@BOTH
@MEMBERS
def test_constants_are_weighted_means_where_the_term_is_observed(members: bool, time: bool) -> None:
    values, weight, observed = places(members, time, np.random.default_rng(0))
    weight.flat[0] = 0
    shown = np.where(observed[..., None], values, np.nan)  # what is not observed has no part in it
    centring = explain.Centering.fit(shown, weight, observed, members=members)
    constants = centring.constants if members else centring.constants[None]
    for place, pairs in each(values, weight, observed, members):
        assert abs(constants[place] - _weighted_mean(pairs)) <= _mean_error(pairs)
        assert centring.count[place[1]] == len(pairs)
    # the same constant at every place, observed or not
    np.testing.assert_array_equal(
        centring(values), values - (constants[:, None, :, None] if time else constants[:, None])[() if members else 0]
    )


@BOTH
@MEMBERS
def test_importance_is_the_weighted_standard_deviation(members: bool, time: bool) -> None:
    values, weight, observed = places(members, time, np.random.default_rng(1))
    got = explain.importance(np.where(observed[..., None], values, np.nan), weight, observed, members=members)
    for (m, f, k), pairs in each(values, weight, observed, members):
        mean = _weighted_mean(pairs)
        variance = _weighted_mean([((v - mean) ** 2, w) for v, w in pairs])
        # the mean's error moves the variance by its square alone; squares round as the mean's products do
        error = 2 * _mean_error([((v - mean) ** 2, w) for v, w in pairs]) + 8 * U * max(v * v for v, _ in pairs)
        assert abs((got if members else got[None])[m, f, k] ** 2 - variance) <= error
    centring = explain.Centering.fit(values, weight, observed, members=members)
    centred = explain.importance(centring(values), weight, observed, members=members)
    np.testing.assert_allclose(centred, got, rtol=1e3 * U)  # some 100 roundings of numbers 3 times the spread


def _total(contributions: np.ndarray, intercept: np.ndarray, members: bool) -> np.ndarray:
    shape = (*intercept.shape[:-1], *[1] * (contributions.ndim - 2 - members), intercept.shape[-1])
    return contributions.sum(members + 1) + intercept.reshape(shape)


def _sum_error(values: np.ndarray, constants: np.ndarray, bias: np.ndarray) -> float:
    """On the sum of F centred terms and the intercept, against the sum of those that were not.

    Each of both sums rounds F times and the intercept's F times more, each centred contribution once: 4 F + 1 times,
    relative to sums of absolute values that are at most |bias| + F (max |c| + 2 max |k|).
    """
    terms = constants.shape[-2]
    return (4 * terms + 1) * U * (np.abs(bias).max() + terms * (np.abs(values).max() + 2 * np.abs(constants).max()))


@BOTH
@MEMBERS
def test_the_sum_is_that_of_the_model(members: bool, time: bool) -> None:
    rng = np.random.default_rng(2)
    values, weight, observed = places(members, time, rng)
    values += np.array([100.0, -3, 0]).reshape(3, *[1] * (1 + time))
    bias = rng.normal(size=(*((2,) if members else ()), 2))
    centring = explain.Centering.fit(values, weight, observed, members=members)
    total = _total(centring(values), centring.intercept(bias), members)
    assert_within("sum", total, _total(values, bias, members), _sum_error(values, centring.constants, bias))


@BOTH
@MEMBERS
def test_constants_moved_between_terms_change_nothing(members: bool, time: bool) -> None:
    rng = np.random.default_rng(3)
    values, weight, observed = places(members, time, rng)
    bias = rng.normal(size=(*((2,) if members else ()), 2))
    moved = rng.normal(size=(3, 2))
    others = values + (moved[:, None] if time else moved)
    results = []
    for contributions, constant in ((values, bias), (others, bias - moved.sum(0))):
        centring = explain.Centering.fit(contributions, weight, observed, members=members)
        results.append((centring(contributions), centring.intercept(constant)))
    # two means of at most 30 places (see _mean_error) of numbers below the largest, then one subtraction each
    largest = max(np.abs(values).max(), np.abs(others).max())
    (centred, intercept), (moved, shifted) = results
    assert_within("centred", centred, moved, 2 * (2 * (3 * 30 + 2) + 3) * U * largest)
    assert_within("intercept", intercept, shifted, 3 * 2 * (2 * (3 * 30 + 2) + 9) * U * (largest + 6))


@BOTH
@MEMBERS
def test_numbers_added_to_every_class_leave_the_probabilities(members: bool, time: bool) -> None:
    rng = np.random.default_rng(4)
    values, weight, observed = places(members, time, rng, out=4)
    bias = rng.normal(size=(*((2,) if members else ()), 4))
    added = rng.normal(size=(*values.shape[:-1], 1))  # another for each sample, term and step
    results = []
    for contributions in (values, values + added):
        centring = explain.Centering.fit(contributions, weight, observed, members=members, classes=True)
        centred, intercept = centring(contributions), centring.intercept(bias)
        # 4 numbers, each rounded a few times, of size below 2 * 5
        assert_within("mean", centred.mean(-1), 0.0, 8 * U * 10)
        assert np.abs(intercept.mean()) <= 40 * U * 10
        results.append((centred, _total(centred, intercept, members)))
    largest = np.abs(values).max() + np.abs(added).max()
    assert_within("centred", results[0][0], results[1][0], 2 * (2 * (3 * 30 + 2) + 12) * U * largest)
    logits = _total(values, bias, members)
    reduced = logits - logits.mean(-1, keepdims=True)
    assert_within("sum", results[0][1], reduced, 4 * _sum_error(values, centring.constants, bias))
    softmax = [torch.tensor(np.ascontiguousarray(x)).softmax(-1).numpy() for x in (logits, results[0][1])]
    # a softmax turns an absolute error of its logits into a relative one of at most twice it; 16 roundings beside
    error = 2 * 4 * _sum_error(values, centring.constants, bias) + 16 * U
    assert_within("softmax", *softmax, error)


def test_a_term_that_is_never_observed_keeps_its_contributions() -> None:
    values, weight, observed = places(False, False, np.random.default_rng(5))
    observed[:, 1] = False
    centring = explain.Centering.fit(values, weight, observed)
    assert centring.count[1] == 0
    np.testing.assert_array_equal(centring(values)[:, 1], values[:, 1])
    assert (explain.importance(values, weight, observed)[1] == 0).all()


def test_constants_of_one_reference_center_other_data_over_time_or_not() -> None:
    rng = np.random.default_rng(6)
    centring = explain.Centering.fit(rng.normal(size=(6, 3, 5, 2)))
    for shape in ((4, 3, 2), (4, 3, 7, 2)):
        assert centring(torch.zeros(shape)).shape == shape
    changes = rng.normal(size=(1, 3, 7, 2))
    centred = centring(changes)
    # a difference between visits is that of the model: two roundings of numbers below 2 * the largest
    bound = 4 * U * 2 * (np.abs(changes).max() + np.abs(centring.constants).max())
    assert_within("changes", np.diff(centred, axis=2), np.diff(changes, axis=2), bound)


def test_a_weight_of_samples_is_that_of_their_visits() -> None:
    values, weight, observed = places(False, True, np.random.default_rng(7))
    sample = weight[:, 0]
    every = np.repeat(sample[:, None], 5, 1)
    a, b = (explain.Centering.fit(values, w, observed).constants for w in (sample, every))
    np.testing.assert_array_equal(a, b)


@BOTH
def test_spread_centers_each_member_on_the_same_reference_first(time: bool) -> None:
    rng = np.random.default_rng(8)
    values, weight, observed = places(True, time, rng)
    shift = rng.normal(size=(2, 1, 3, 1)) * 50
    values = values + (shift[..., None] if time else shift)
    centring = explain.Centering.fit(values, weight, observed, members=True)
    got = explain.spread(values, centring)
    a, b = centring(values)
    # of two members: half the sum, and half the difference times the square root of 2
    np.testing.assert_allclose(got.mean, (a + b) / 2, atol=4 * U * 300)
    np.testing.assert_allclose(got.sd, np.abs(a - b) / np.sqrt(2), atol=16 * U * 300)
    assert_within("sd without the constants", got.sd, 0.0, 10.0)
    bias = rng.normal(size=(2, 2))
    prediction = _total(values, bias, True).mean(0)
    total = _total(got.mean, centring.intercept(bias).mean(0), False)
    assert_within("sum", total, prediction, 3 * _sum_error(values, centring.constants, bias))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"reference": np.zeros((2, 3))}, ValueError, r"reference must have shape \(batch, terms, out\) or"),
        ({"members": True}, ValueError, r"reference must have shape \(members, batch, terms, out\) or"),
        ({"reference": [[["a"]]]}, TypeError, "reference must be an array of numbers"),
        ({"weight": np.ones(5)}, ValueError, r"sample_weight must have shape \(6,\), got \(5,\)"),
        ({"weight": np.zeros(6)}, ValueError, "greater than 0 somewhere"),
        ({"weight": -np.ones(6)}, ValueError, "at least 0, got -1"),
        ({"weight": np.full(6, np.nan)}, ValueError, "sample_weight must be finite"),
        ({"observed": np.ones((6, 3))}, TypeError, "observed must be bool, got float64"),
        ({"observed": np.ones((6, 2), bool)}, ValueError, r"observed must have shape \(6, 3\), got \(6, 2\)"),
        ({"reference": np.zeros((6, 3, 1)), "classes": True}, ValueError, "classes must be False"),
    ],
)
def test_bad_references(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        explain.Centering.fit(**{"reference": np.zeros((6, 3, 2))} | change)


def test_bad_use_of_constants() -> None:
    centring = explain.Centering.fit(np.zeros((6, 3, 2)))
    with pytest.raises(ValueError, match=r"contributions must have \(terms, out\) \(3, 2\), got \(4, 2\)"):
        centring(np.zeros((6, 4, 2)))
    with pytest.raises(ValueError, match=r"bias must have shape \(2,\), got \(3,\)"):
        centring.intercept(np.zeros(3))
    with pytest.raises(ValueError, match="centering must be of at least 2 members"):
        explain.spread(np.zeros((2, 6, 3, 2)), centring)
