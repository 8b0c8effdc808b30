"""Bands of whole curves: how often they hold the truth, and what they are where it is known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from rnam import explain
from tests.support.assertions import assert_equal, assert_within

POINTS = 40


def _smooth(rng: np.random.Generator, curves: int, length: float) -> np.ndarray:
    """Normal curves (curves, POINTS) whose points are correlated over `length` of the range, of growing size."""
    x = np.linspace(0, 1, POINTS)
    root = np.linalg.cholesky(np.exp(-0.5 * ((x[:, None] - x) / length) ** 2) + 1e-8 * np.eye(POINTS))
    return rng.normal(size=(curves, POINTS)) @ root.T * (0.5 + x)


@pytest.mark.parametrize("members", [12, 50])
@pytest.mark.parametrize("length", [0.1, 0.5])
def test_it_holds_the_whole_curve_as_often_as_it_says(members: int, length: float) -> None:
    """The estimate is off by a curve, and refits are off from the estimate by curves of the same kind."""
    rng = np.random.default_rng(0)
    trials, whole, each = 400, 0, 0
    for _ in range(trials):
        estimate = _smooth(rng, 1, length)
        refits = estimate + _smooth(rng, members, length)
        band = explain.simultaneous(refits)
        whole += bool(((band.lower <= 0) & (band.upper >= 0)).all())
        sd = refits.std(0, ddof=1)
        each += bool((abs(refits.mean(0)) <= stats.norm.ppf(0.95) * sd).all())
    # four standard errors of a share of 400
    assert abs(whole / trials - 0.9) < 4 * math.sqrt(0.09 / trials), whole / trials
    assert each / trials < 0.85, "a band for each point misses somewhere"


def test_of_one_point_it_is_the_interval_of_students_t() -> None:
    members = np.random.default_rng(1).normal(3.0, 2.0, size=(15, 1))
    band = explain.simultaneous(members, level=0.8)
    half = stats.t.ppf(0.9, 14) * members.std(ddof=1) * math.sqrt(1 + 1 / 15)
    # the quantile of 4,000 draws: its standard error is sqrt(.8 * .2 / 4000) over the density 2 f(t), four of them
    error = 4 * math.sqrt(0.16 / 4000) / (2 * stats.t.pdf(stats.t.ppf(0.9, 14), 14)) * half / stats.t.ppf(0.9, 14)
    assert_within("upper", band.upper, members.mean(0) + half, error)
    assert_within("lower", band.lower, members.mean(0) - half, error)


def test_it_is_that_of_the_curves_in_any_shape_and_repeats() -> None:
    curves = _smooth(np.random.default_rng(2), 12, 0.2)
    band = explain.simultaneous(curves)
    table = explain.simultaneous(torch.from_numpy(curves.reshape(12, 8, 5)))
    assert_equal("upper", table.upper, band.upper.reshape(8, 5))
    again, other = explain.simultaneous(curves), explain.simultaneous(curves, seed=1)
    assert_equal("again", again.lower, band.lower)
    assert not np.array_equal(other.lower, band.lower)
    scaled = explain.simultaneous(curves * 1e-9)
    assert_within("scaled", scaled.upper, band.upper * 1e-9, 1e-20)


def test_where_all_members_agree_there_is_no_width() -> None:
    curves = _smooth(np.random.default_rng(3), 12, 0.2)
    curves[:, 7] = 0.1
    band = explain.simultaneous(curves)
    assert_within("agreed", [band.lower[7], band.upper[7]], 0.1, 1e-15)
    assert_equal("others", band.lower == band.upper, np.arange(POINTS) == 7)
    same = explain.simultaneous(np.ones((10, 3)))
    assert_equal("all agree", same.lower, same.upper)


@pytest.mark.parametrize(
    ("curves", "options", "words"),
    [
        (np.zeros((9, 4)), {}, r"curves must have shape \(members, ...\) with 10 members or more, got \(9, 4\)"),
        (np.zeros(12), {}, r"got \(12,\)"),
        (np.full((12, 3), np.nan), {}, "curves must be finite"),
        (np.zeros((12, 3)), {"level": 1.0}, "level must be between 0 and 1, got 1.0"),
        (np.zeros((12, 3)), {"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_what_no_band_can_be_of_is_refused(curves: np.ndarray, options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        explain.simultaneous(curves, **options)
