"""Scores of predictions whose scores are known."""

import numpy as np
import pytest

from examples.river.scores import scores


def test_a_perfect_prediction_and_the_mean() -> None:
    rng = np.random.default_rng(0)
    flow = [rng.normal(3, 1, 200) for _ in range(5)]
    right = scores(flow, flow, 1.5)
    assert right == pytest.approx({"r2": 1, "nse": 1, "slope": 1, "coverage": 1, "least": 1, "width": 1, "cpu": 1.5})
    half = scores(flow, [3 + (own - 3) / 2 for own in flow], 0.0)
    assert half["slope"] == pytest.approx(2, abs=1e-12)


def test_the_band_of_a_block_is_made_of_the_others() -> None:
    rng = np.random.default_rng(1)
    told = [rng.normal(size=500) for _ in range(5)]
    noise = [rng.normal(size=500) for _ in range(5)]
    flow = [a + b for a, b in zip(told, noise, strict=True)]
    even = scores(flow, told, 0.0)
    # 2,500 days, a standard error of .006; the bands themselves have another
    assert even["coverage"] == pytest.approx(0.9, abs=0.02)
    assert even["width"] == pytest.approx(np.exp(2 * 1.645), rel=0.1)
    flow[2] = told[2] + 3 * noise[2]
    odd = scores(flow, told, 0.0)
    assert odd["least"] < 0.55, "one block of five that differs is not covered by the days of the others"


def test_one_block_alone_has_no_band() -> None:
    flow = np.random.default_rng(2).normal(size=50)
    assert list(scores([flow], [flow * 0.9], 2.0)) == ["r2", "nse", "slope", "cpu"]
