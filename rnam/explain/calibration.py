"""Are the probabilities right on the whole, and how to put them right without losing the sum."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from rnam import _checks
from rnam.explain import _arrays
from rnam.explain._arrays import Floats

__all__ = [
    "CalibrationCurve",
    "Recalibration",
    "brier_skill",
    "calibration_curve",
    "calibration_slope",
    "observed_expected",
    "recalibrate",
]

STEPS = 100  # Newton's method with halved steps takes under ten where the groups overlap at all widely


@dataclass(frozen=True)
class Recalibration:
    """log-odds -> intercept + slope * log-odds, for a whole additive model.

    A slope below 1 says that the model was overconfident. Scaled by the slope, the contributions sum to the
    recalibrated log-odds with the intercept `of_bias(bias)`.
    """

    intercept: float
    slope: float

    def prediction(self, prediction: ArrayLike | Tensor) -> Floats:
        """The recalibrated log-odds, float64, of the shape given."""
        return np.asarray(self.intercept + self.slope * _arrays.floats("prediction", prediction))

    def contributions(self, contributions: ArrayLike | Tensor) -> Floats:
        """The contributions to the recalibrated log-odds, float64, of the shape given, centred or not."""
        return np.asarray(self.slope * _arrays.floats("contributions", contributions))

    def of_bias(self, bias: ArrayLike | Tensor) -> Floats:
        """The intercept that goes with them, from the model's bias or the intercept of centred contributions."""
        return self.prediction(bias)


def recalibrate(
    prediction: ArrayLike | Tensor, y: ArrayLike | Tensor, sample_weight: ArrayLike | Tensor | None = None
) -> Recalibration:
    """Fit outcome ~ intercept + slope * log-odds by weighted logistic regression, without a penalty.

    To be fitted on data that the model was not trained on. Newton's method in float64.

    Args:
        prediction: log-odds, of any shape.
        y: outcomes, 0 or 1 (or bool), of the same shape.
        sample_weight: at least 0, of the same shape; ones by default.

    Raises:
        TypeError: an argument is not of numbers.
        ValueError: there is no sample, shapes differ, a number is not finite, y is not 0 or 1; one outcome alone; the
            log-odds of weight greater than 0 are all the same, or separate the outcomes, so that no finite slope fits
            best.
        RuntimeError: no convergence in 100 steps.

    Source: Cox, Two further applications of a model for binary regression, Biometrika 45 (1958).

    Example:
        >>> fitted = rnam.explain.recalibrate([-4.0, -4.0, -4.0, 4.0, 4.0, 4.0], [0, 0, 1, 0, 1, 1])
        >>> round(fitted.slope, 6)  # log(2) / 4, since two of three are right on each side
        0.173287
    """
    x, outcome, weight = _arguments("prediction", prediction, y, sample_weight)
    kept = weight > 0
    x, outcome, weight = x[kept], outcome[kept], weight[kept]
    _both_outcomes(outcome)
    ones, zeros = x[outcome == 1], x[outcome == 0]
    if x.min() == x.max():
        raise ValueError(f"prediction must differ between samples, got {x[0]} everywhere")
    if zeros.max() <= ones.min() or ones.max() <= zeros.min():
        raise ValueError(
            "prediction must not separate the outcomes, got groups that do not overlap: no slope fits best"
        )
    # standardised, so that the two columns are orthogonal and of one size
    mean = float(np.average(x, weights=weight))
    scale = math.sqrt(float(np.average((x - mean) ** 2, weights=weight)))
    design = np.stack([np.ones_like(x), (x - mean) / scale], axis=1)
    start, slope = _newton(design, outcome, weight / weight.sum())
    return Recalibration(start - slope * mean / scale, slope / scale)


def _newton(design: Floats, outcome: Floats, weight: Floats) -> tuple[float, float]:
    """The weighted logistic fit on two columns. The loss is strictly convex, so that halved steps always lead down."""

    def loss(at: Floats) -> float:
        odds = design @ at
        return float(weight @ (np.logaddexp(0, odds) - outcome * odds))

    beta = np.zeros(2)
    for _ in range(STEPS):
        odds = design @ beta
        chance, other = np.exp(-np.logaddexp(0, -odds)), np.exp(-np.logaddexp(0, odds))
        # not outcome - chance, which is all rounding where the chance is near its outcome
        gradient = design.T @ (weight * np.where(outcome == 1, other, -chance))
        hessian = (design.T * (weight * chance * other)) @ design
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:
            break
        if np.abs(step).max() <= 1e-10 * max(1.0, float(np.abs(beta).max())):  # the next step is its square
            return float(beta[0] + step[0]), float(beta[1] + step[1])
        before = loss(beta) + 1e-13  # near the end the loss, of weights that sum to 1, changes by less than it rounds
        halvings = 0
        while loss(beta + step * 0.5**halvings) > before:
            halvings += 1
        beta = beta + step * 0.5**halvings
    raise RuntimeError(f"no convergence in {STEPS} steps: the outcomes hardly overlap")


def calibration_slope(
    prediction: ArrayLike | Tensor, y: ArrayLike | Tensor, sample_weight: ArrayLike | Tensor | None = None
) -> float:
    """The slope of `recalibrate`: 1 is right, below 1 overconfident, above 1 timid.

    Args, Raises: as in `recalibrate`; `prediction` are log-odds.

    Example:
        >>> round(rnam.explain.calibration_slope([-4.0, -4.0, -4.0, 4.0, 4.0, 4.0], [0, 0, 1, 0, 1, 1]), 6)
        0.173287
    """
    return recalibrate(prediction, y, sample_weight).slope


def observed_expected(
    probability: ArrayLike | Tensor, y: ArrayLike | Tensor, sample_weight: ArrayLike | Tensor | None = None
) -> float:
    """The weighted number of outcomes over the sum of the probabilities: above 1 says that risks were too low.

    Args:
        probability: from 0 to 1, of any shape.
        y, sample_weight: as in `recalibrate`.

    Raises:
        TypeError, ValueError: as in `recalibrate`; a probability is not from 0 to 1; all are 0.

    Example:
        >>> rnam.explain.observed_expected([0.25, 0.25, 0.5, 0.5], [0, 0, 1, 1])
        1.3333333333333333
    """
    p, outcome, weight = _probabilities(probability, y, sample_weight)
    expected = float(weight @ p)
    if expected == 0:
        raise ValueError("probability must be greater than 0 somewhere, got 0 everywhere")
    return float(weight @ outcome) / expected


def brier_skill(
    probability: ArrayLike | Tensor, y: ArrayLike | Tensor, sample_weight: ArrayLike | Tensor | None = None
) -> float:
    """1 - squared error / that of the overall weighted rate: 1 is perfect, 0 no better than the rate.

    Args, Raises: as in `observed_expected`; ValueError where y holds one outcome alone.

    Source: Brier, Monthly Weather Review 78 (1950); as a skill against the rate, Murphy, ibid. 101 (1973).

    Example:
        >>> rnam.explain.brier_skill([0.0, 0.0, 0.5, 1.0], [0, 0, 1, 1])
        0.75
    """
    p, outcome, weight = _probabilities(probability, y, sample_weight)
    _both_outcomes(outcome[weight > 0])
    rate = np.average(outcome, weights=weight)
    return float(1 - np.average((p - outcome) ** 2, weights=weight) / (rate * (1 - rate)))


class CalibrationCurve(NamedTuple):
    """Groups of samples by probability, each (groups,): the weighted mean probability, the weighted rate of the
    outcome, and the number of samples."""

    predicted: Floats
    observed: Floats
    n: Floats


def calibration_curve(
    probability: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    sample_weight: ArrayLike | Tensor | None = None,
    *,
    groups: int = 10,
) -> CalibrationCurve:
    """The rate of the outcome in groups of similar probability and, as near as equal values allow, equal weight.

    Args:
        probability, y, sample_weight: as in `observed_expected`.
        groups: how many; fewer come back where many probabilities are equal, which stay together.

    Raises:
        TypeError, ValueError: as in `observed_expected`; groups is no int, or less than 1.

    Example:
        >>> curve = rnam.explain.calibration_curve([0.1, 0.3, 0.7, 0.9], [0, 0, 1, 1], groups=2)
        >>> curve.predicted, curve.observed
        (array([0.2, 0.8]), array([0., 1.]))
    """
    groups = _checks.positive_int("groups", groups)
    p, outcome, weight = _probabilities(probability, y, sample_weight)
    kept = weight > 0
    p, outcome, weight = p[kept], outcome[kept], weight[kept]
    inner = np.quantile(p, np.arange(1, groups) / groups, weights=weight, method="inverted_cdf")
    group = np.unique(np.searchsorted(inner, p), return_inverse=True)[1]
    total = np.bincount(group, weight)
    return CalibrationCurve(
        np.bincount(group, weight * p) / total,
        np.bincount(group, weight * outcome) / total,
        np.bincount(group).astype(np.float64),
    )


def _arguments(
    name: str, value: ArrayLike | Tensor, y: ArrayLike | Tensor, sample_weight: ArrayLike | Tensor | None
) -> tuple[Floats, Floats, Floats]:
    """Flat and checked."""
    x, outcome = _arrays.finite(name, value), _arrays.finite("y", y)
    _arrays.same_shape("y", outcome, name, x)
    if x.size == 0:
        raise ValueError(f"{name} must hold at least one number, got none")
    if not np.isin(outcome, (0, 1)).all():
        raise ValueError("y must be 0 or 1, got other numbers")
    weight = _arrays.sample_weight(sample_weight, x.shape)
    return x.ravel(), outcome.ravel(), weight.ravel()


def _probabilities(
    probability: ArrayLike | Tensor, y: ArrayLike | Tensor, sample_weight: ArrayLike | Tensor | None
) -> tuple[Floats, Floats, Floats]:
    p, outcome, weight = _arguments("probability", probability, y, sample_weight)
    if not (p.min() >= 0 and p.max() <= 1):
        raise ValueError(f"probability must be from 0 to 1, got {p.min()} to {p.max()}")
    return p, outcome, weight


def _both_outcomes(outcome: Floats) -> None:
    if len(np.unique(outcome)) != 2:
        raise ValueError("y must hold both outcomes where the weight is greater than 0, got one")
