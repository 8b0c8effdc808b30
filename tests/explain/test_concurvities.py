"""Measures of concurvity against squared multiple correlations and projections by hand; the ends 0 and 1."""

from __future__ import annotations

import numpy as np
import pytest

import rnam
from tests.support.assertions import assert_within

BOUND = 1e-9  # of projections of a few hundred numbers whose bases have condition below 1e3


def test_linear_bases_give_the_squared_multiple_correlation() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 300))
    parts = np.stack([a, b, a + 2 * b + rng.normal(size=300)], axis=1)
    weight = rng.uniform(0, 2, 300)
    found = rnam.explain.concurvity(parts, weight, knots=2)
    root = np.sqrt(weight)[:, None]
    for j in range(3):
        own = parts - np.average(parts, axis=0, weights=weight)
        others = root * np.delete(own, j, 1)
        fitted = others @ np.linalg.lstsq(others, (root * own)[:, j], rcond=None)[0]
        expected = (fitted**2).sum() / ((root * own)[:, j] ** 2).sum()
        for name in ("worst", "observed", "estimate"):
            assert_within(name, getattr(found, name)[j], expected, BOUND)
    correlation = np.cov(parts.T, aweights=weight)
    size = np.sqrt(np.diag(correlation))
    assert_within("pairwise", found.pairwise_observed, (correlation / size[:, None] / size) ** 2, BOUND)


def test_a_function_of_another_term_is_found_by_splines() -> None:
    x = np.linspace(-1, 1, 401)
    parts = np.stack([np.abs(x), x, np.random.default_rng(1).normal(size=401)], axis=1)
    found = rnam.explain.concurvity(parts, knots=5)  # a knot is at 0, where |x| has its corner
    assert found.pairwise_observed[1, 0] == pytest.approx(1, abs=BOUND)
    # two random bases of rank 4 share about (4 + 4) / 400 of each other
    assert found.observed[2] < 0.1 and found.worst[2] < 0.15
    assert (found.worst - np.maximum(found.observed, found.estimate)).min() > -BOUND
    assert (np.diag(found.pairwise_worst) == 1).all()
    # no line through x says |x|, and the other way round |x| says nothing of the sign
    assert rnam.explain.concurvity(parts, knots=2).pairwise_observed[1, 0] < 1e-3
    assert found.pairwise_observed[0, 1] < 1e-3


def test_a_copy_is_1_and_a_constant_nan() -> None:
    x = np.random.default_rng(2).normal(size=100)
    found = rnam.explain.concurvity(np.stack([x, -3 * x, np.full(100, 2.0)], axis=1))
    for name in ("worst", "observed"):
        assert_within(name, getattr(found, name)[:2], np.ones(2), BOUND)
    assert np.isnan(found.worst[2]) and np.isnan(found.pairwise_worst[0, 2]) and found.pairwise_worst[2, 0] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contributions": np.ones((5, 1))}, "contributions must have shape"),
        ({"contributions": np.full((5, 2), np.nan)}, "contributions must be finite"),
        ({"knots": 1}, "knots must be"),
        ({"sample_weight": np.zeros(5)}, "sample_weight must be greater than 0 somewhere"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, object], message: str) -> None:
    given = {"contributions": np.random.default_rng(0).normal(size=(5, 2)), **changes}
    with pytest.raises(ValueError, match=message):
        rnam.explain.concurvity(**given)  # type: ignore[arg-type]
