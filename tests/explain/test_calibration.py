"""Calibration against closed forms and scikit-learn; the recalibrated contributions still sum."""

import numpy as np
import pytest
import torch

from rnam import explain
from tests.support import bounds
from tests.support.assertions import assert_within

U = bounds.unit(torch.float64)


def _data(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    odds = rng.normal(1, 2, 400)
    return odds, (rng.random(400) < 1 / (1 + np.exp(0.5 - 0.7 * odds))).astype(int), rng.uniform(0, 3, 400)


@pytest.mark.parametrize(("intercept", "slope"), [(0.0, 1.0), (0.7, 0.5), (-2.0, 3.0), (0.3, -1.0)])
def test_recalibrate_finds_what_the_outcomes_were_made_with(intercept: float, slope: float) -> None:
    """Four log-odds, each with both outcomes, weighted by their chances: the fit is exact."""
    odds = np.array([-2.0, -0.3, 0.5, 1.5])
    chance = 1 / (1 + np.exp(-(intercept + slope * odds)))
    weight = np.stack([1 - chance, chance], 1)
    fitted = explain.recalibrate(np.repeat(odds[:, None], 2, 1), np.tile([0, 1], (4, 1)), weight)
    # the gradient, of 8 terms, is 0 to some 20 units; the smallest curvature here, on standardised odds, is above 0.01
    assert fitted.slope == pytest.approx(slope, abs=2000 * U * 3)
    assert fitted.intercept == pytest.approx(intercept, abs=2000 * U * 3)


def test_recalibrate_is_an_unpenalised_logistic_regression() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    odds, y, weight = _data()
    model = linear_model.LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000)
    model.fit(odds[:, None], y, sample_weight=weight)
    fitted = explain.recalibrate(torch.tensor(odds), torch.tensor(y, dtype=torch.bool), weight)
    # scikit-learn's solver ends at a gradient of about 1e-9 of curvatures of 0.05 and more
    assert fitted.slope == pytest.approx(model.coef_[0, 0], rel=1e-6)
    assert fitted.intercept == pytest.approx(model.intercept_[0], rel=1e-6)
    assert explain.calibration_slope(odds, y, weight) == pytest.approx(fitted.slope, rel=1e-12)


def test_scores_of_the_fit_are_zero() -> None:
    """The equations of the maximum, in plain Python; a shift and a scale of the log-odds come out again."""
    odds, y, weight = _data(1)
    fitted = explain.recalibrate(odds, y, weight)
    residual = [
        w * (o - 1 / (1 + np.exp(-(fitted.intercept + fitted.slope * x))))
        for x, o, w in zip(odds, y, weight, strict=True)
    ]
    size = sum(weight) * max(abs(odds))
    assert abs(sum(residual)) <= 10 * len(odds) * U * size
    assert abs(sum(r * x for r, x in zip(residual, odds, strict=True))) <= 10 * len(odds) * U * size * max(abs(odds))
    moved = explain.recalibrate(1000 + 5 * odds, y, weight)
    assert moved.slope * 5 == pytest.approx(fitted.slope, rel=1e-9)
    assert moved.intercept + 1000 * moved.slope == pytest.approx(fitted.intercept, abs=1e-9)


def test_weights_are_counts() -> None:
    odds, y, _ = _data(2)
    count = np.random.default_rng(0).integers(0, 4, 400)
    rows = np.repeat(np.arange(400), count)
    p = 1 / (1 + np.exp(-odds))
    for function, x in (
        (explain.calibration_slope, odds),
        (explain.observed_expected, p),
        (explain.brier_skill, p),
    ):
        assert function(x, y, count) == pytest.approx(function(x[rows], y[rows]), rel=1e-11)


def test_recalibrated_contributions_sum_to_the_recalibrated_prediction() -> None:
    rng = np.random.default_rng(3)
    parts, bias = rng.normal(size=(50, 4, 1)), np.array([0.3])
    prediction = parts.sum(1) + bias
    fitted = explain.Recalibration(-0.4, 0.7)
    total = fitted.contributions(parts).sum(1) + fitted.of_bias(bias)
    # 4 products, 4 sums, and the 2 roundings of either intercept, of numbers below the sum of their absolutes
    size = np.abs(parts).sum(1) + 1
    assert_within("sum", total, fitted.prediction(prediction), 16 * U * size)


def test_scores_by_hand() -> None:
    p, y, w = [0.9, 0.6, 0.4, 0.2], [True, False, True, False], [1.0, 2.0, 3.0, 4.0]
    assert explain.observed_expected(p, y, w) == pytest.approx((1 + 3) / (0.9 + 1.2 + 1.2 + 0.8), rel=8 * U)
    error = (1 * 0.01 + 2 * 0.36 + 3 * 0.36 + 4 * 0.04) / 10
    assert explain.brier_skill(p, y, w) == pytest.approx(1 - error / (0.4 * 0.6), rel=64 * U)


def test_the_brier_score_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    odds, y, weight = _data(4)
    p = 1 / (1 + np.exp(-odds))
    rate = np.full(400, np.average(y, weights=weight))
    scores = [metrics.brier_score_loss(y, q, sample_weight=weight) for q in (p, rate)]
    assert explain.brier_skill(p, y, weight) == pytest.approx(1 - scores[0] / scores[1], rel=1e-11)


@pytest.mark.parametrize("groups", [1, 4, 10])
def test_calibration_curve_against_loops(groups: int) -> None:
    odds, y, weight = _data(5)
    p = np.round(1 / (1 + np.exp(-odds)), 2)  # with ties
    weight[:20] = 0
    got = explain.calibration_curve(p, y, weight, groups=groups)
    kept = sorted((a, b, w) for a, b, w in zip(p, y, weight, strict=True) if w > 0)
    total, below, members = sum(w for *_, w in kept), 0.0, {}
    ends = []
    for a, _, w in kept:  # the quantiles: where the weight up to and with a place reaches a share of the whole
        below += w
        while len(ends) < groups - 1 and below >= total * (len(ends) + 1) / groups:
            ends.append(a)
    for a, b, w in kept:
        members.setdefault(sum(end < a for end in ends), []).append((a, b, w))
    assert len(members) == len(got.n)
    for (_, group), predicted, observed, n in zip(sorted(members.items()), *got, strict=True):
        mass = sum(w for *_, w in group)
        assert predicted == pytest.approx(sum(a * w for a, _, w in group) / mass, rel=4 * 400 * U)
        assert observed == pytest.approx(sum(b * w for _, b, w in group) / mass, rel=4 * 400 * U)
        assert n == len(group)


ODDS, Y = [-1.0, 0.0, 0.5, 2.0], [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((ODDS[:3], Y), ValueError, r"y must have the shape of prediction, \(3,\), got \(4,\)"),
        ((ODDS, [0, 1, 2, 1]), ValueError, "y must be 0 or 1"),
        ((ODDS, Y, [1, 1, 1]), ValueError, r"sample_weight must have shape \(4,\)"),
        (([-np.inf, 0, 0.5, 2], Y), ValueError, "prediction must be finite"),
        ((ODDS, [1, 1, 1, 1]), ValueError, "y must hold both outcomes"),
        ((ODDS, Y, [1, 0, 1, 0]), ValueError, "y must hold both outcomes"),
        (([1.0, 1, 1, 1], Y), ValueError, "prediction must differ between samples, got 1"),
        ((ODDS, [0, 0, 1, 1]), ValueError, "prediction must not separate the outcomes"),
        ((ODDS, [1, 1, 0, 0]), ValueError, "prediction must not separate the outcomes"),
        (([-1.0, 0, 0, 2], [0, 0, 1, 1]), ValueError, "prediction must not separate the outcomes"),
    ],
)
def test_what_cannot_be_fitted_is_refused(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        explain.recalibrate(*arguments)


def test_hardly_overlapping_outcomes_are_fitted_or_refused_but_not_guessed() -> None:
    """A slope that grows as log(1 / share) of what overlaps; with far too little, float64 ends."""
    for share in (1e-3, 1e-9):
        fitted = explain.recalibrate([-1.0, -1, 1, 1], [0, 1, 0, 1], [1, share, share, 1])
        assert fitted.slope == pytest.approx(np.log(1 / share), rel=1e-6)
    with pytest.raises(RuntimeError, match="no convergence"):
        explain.recalibrate([-1.0, -1, 1, 1], [0, 1, 0, 1], [1, 1e-300, 1e-300, 1])


def test_bad_probabilities() -> None:
    with pytest.raises(ValueError, match=r"probability must be from 0 to 1, got -0.5 to 0.5"):
        explain.brier_skill([-0.5, 0.5], [0, 1])
    with pytest.raises(ValueError, match="probability must be greater than 0 somewhere"):
        explain.observed_expected([0, 0], [0, 1])
    with pytest.raises(ValueError, match="y must hold both outcomes"):
        explain.brier_skill([0.5, 0.5], [1, 1])
    with pytest.raises(ValueError, match="groups must be at least 1"):
        explain.calibration_curve([0.5, 0.5], [0, 1], groups=0)
    with pytest.raises(TypeError, match="groups must be an int, got float"):
        explain.calibration_curve([0.5, 0.5], [0, 1], groups=1.5)
    for function in (explain.calibration_curve, explain.observed_expected, explain.brier_skill):
        with pytest.raises(ValueError, match="probability must hold at least one number, got none"):
            function([], [])
