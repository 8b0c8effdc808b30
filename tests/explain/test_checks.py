"""The small regression against one by hand, on series whose answer to an event is known."""

import numpy as np
import pytest

from rnam import explain
from tests.support.assertions import assert_within


def _series(rng: np.random.Generator, steps: int = 4000) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Flow a day after rain: 0.02 a mm after a dry time, 0.035 after a wet one, on noise that lasts."""
    rain = rng.exponential(4, steps) * (rng.random(steps) < 0.3)
    wet = np.repeat(rng.random(steps // 50) < 0.4, 50)
    noise = np.zeros(steps)
    for t in range(1, steps):
        noise[t] = 0.9 * noise[t - 1] + rng.normal() * 0.05
    flow = noise.copy()
    flow[1:] += (np.where(wet, 0.035, 0.02) * rain)[:-1]
    return flow, rain, {"dry": ~wet, "wet": wet}


def test_the_slopes_are_those_of_one_line_for_each_condition() -> None:
    flow, rain, conditions = _series(np.random.default_rng(0))
    found = explain.observed_check(
        flow, {"half": flow / 2 + 3}, rain, conditions, before=1, after=(1, 2), size=20.0
    )  # fmt: skip
    t = np.arange(1, len(flow) - 2)
    rise = (flow[t + 1] + flow[t + 2]) / 2 - flow[t - 1]
    for place, held in enumerate(conditions.values()):
        slope = 20 * np.polyfit(rain[t][held[t]], rise[held[t]], 1)[0]
        # two solutions of one problem, whose condition number is below 100
        assert found.slope[0, place] == pytest.approx(slope, rel=1e-11)
        assert found.slope[1, place] == pytest.approx(slope / 2, rel=1e-11)
        assert found.n[place] == held[t].sum()
    assert found.sources == ("measured", "half")


def test_standard_errors_are_the_spread_of_the_slopes() -> None:
    """Over 200 drawn series, by Newey and West's formula: noise that lasts, rises that overlap."""
    rng = np.random.default_rng(1)
    slopes, errors, apart, apart_errors, contrasts, contrast_errors = [], [], [], [], [], []
    for _ in range(200):
        flow, rain, conditions = _series(rng, 800)
        found = explain.observed_check(
            flow, {"off": flow + rng.normal(size=800) * 0.1}, rain, conditions, after=(1, 2), size=20.0
        )
        slopes.append(found.slope[0])
        errors.append(found.standard_error[0])
        apart.append(found.difference[1])
        apart_errors.append(found.difference_standard_error[1])
        value, error = found.contrast("dry", "wet")
        contrasts.append(value[0])
        contrast_errors.append(error[0])
    # a standard deviation of 200 draws is known to 1 / sqrt(400) = 5%, of which three are 15%
    for drawn, told in ((slopes, errors), (apart, apart_errors), (contrasts, contrast_errors)):
        ratio = np.mean(told, axis=0) / np.std(drawn, axis=0)
        assert_within("ratio", ratio, 1.0, 0.15 + 0.05)  # and 5% for what is lost to 800 steps
    middle = np.array([0.02, 0.035]) * 20 / 2  # of two days after, one has the answer
    assert_within("slopes", np.mean(slopes, axis=0), middle, 4 * np.std(slopes, axis=0) / np.sqrt(200))


def test_differences_do_not_count_the_common_noise_twice() -> None:
    flow, rain, conditions = _series(np.random.default_rng(2))
    found = explain.observed_check(flow, {"same": flow + 1}, rain, conditions)
    # differences of numbers of size 1, in a well-conditioned problem
    assert_within("difference", found.difference, 0.0, 1e-12)
    assert_within("standard error", found.difference_standard_error, 0.0, 1e-12)
    assert found.standard_error.min() > 1e-4


def test_rises_stay_in_their_series_and_a_gap_leaves_rows_out() -> None:
    rain = np.tile([0.0, 10.0, 3.0, 7.0, 0.0, 1.0], 4)
    series = np.repeat([0, 1], 12)
    flow = np.random.default_rng(3).normal(size=24)
    everywhere = {"all": np.ones(24, bool)}
    assert explain.observed_check(flow, {}, rain, everywhere).n.tolist() == [22]
    assert explain.observed_check(flow, {}, rain, everywhere, groups=series).n.tolist() == [20]
    apart = explain.observed_check(flow + 1e6 * series, {}, rain, everywhere, groups=series)
    same = explain.observed_check(flow, {}, rain, everywhere, groups=series)
    # 1e6 is 2**20 units of 1, each value keeps 33 bits
    assert apart.slope == pytest.approx(same.slope, abs=1e-8)
    predicted = flow.copy()
    predicted[5] = np.nan
    lost = explain.observed_check(flow, {"model": predicted}, rain, everywhere)
    assert lost.n.tolist() == [20]
    assert lost.slope[0] == lost.slope[1], "the same rows for both"


def test_the_frame_has_a_row_for_each_source_and_condition() -> None:
    flow, rain, conditions = _series(np.random.default_rng(4), 500)
    found = explain.observed_check(flow, {"model": flow * 0.9}, rain, conditions)
    frame = found.frame()
    assert frame[["source", "condition"]].to_numpy().tolist() == [
        ["measured", "dry"], ["measured", "wet"], ["model", "dry"], ["model", "wet"]
    ]  # fmt: skip
    assert frame["slope"].to_numpy().reshape(2, 2).tolist() == found.slope.tolist()
    assert frame["n"].tolist() == [*found.n, *found.n]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"after": ()}, ValueError, "after must hold at least one step"),
        ({"after": (0,)}, ValueError, "after"),
        ({"before": -1}, ValueError, "before"),
        ({"event": np.zeros(9)}, ValueError, r"event must have shape \(10,\), got \(9,\)"),
        ({"event": np.zeros(10)}, ValueError, "event must differ between the rows of condition 'a', got one size"),
        ({"y": np.full(10, np.inf)}, ValueError, "y must be finite or NaN"),
        ({"predictions": {"m": np.zeros(9)}}, ValueError, r"predictions\['m'\] must have shape \(10,\)"),
        ({"predictions": {"measured": np.zeros(10)}}, ValueError, "one that is called 'measured'"),
        ({"conditions": {}}, ValueError, "one or more"),
        ({"conditions": {"a": np.ones(10)}}, TypeError, r"conditions\['a'\] must be bool, got float64"),
        ({"conditions": {"a": np.ones(9, bool)}}, ValueError, r"conditions\['a'\] must have shape \(10,\)"),
        ({"conditions": {"a": np.arange(10) < 2}}, ValueError, "must hold at three rows or more with a rise, got 1"),
        ({"conditions": dict.fromkeys("ab", np.ones(10, bool))}, ValueError, "two at row 0"),
        ({"groups": np.zeros(9)}, ValueError, r"groups must have shape \(10,\), got \(9,\)"),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, object], error: type[Exception], words: str) -> None:
    given: dict[str, object] = {
        "y": np.arange(10.0), "predictions": {}, "event": np.arange(10.0), "conditions": {"a": np.ones(10, bool)},
        **change,
    }  # fmt: skip
    with pytest.raises(error, match=words):
        explain.observed_check(**given)  # type: ignore[arg-type]


def test_an_unknown_condition_is_refused() -> None:
    flow, rain, conditions = _series(np.random.default_rng(5), 500)
    with pytest.raises(ValueError, match="condition must be one of"):
        explain.observed_check(flow, {}, rain, conditions).contrast("dry", "frozen")


def test_the_covariance_is_newey_and_wests() -> None:
    """Term by term, with two series and rows that are left out; and without its neighbours it is another one."""
    rng = np.random.default_rng(6)
    rows, before, after = 60, 2, (1, 3)
    flow, rain = rng.normal(size=rows).cumsum(), rng.exponential(3, rows)
    flow[20] = np.nan
    series, first = np.arange(rows) >= 35, rng.random(rows) < 0.5
    found = explain.observed_check(
        flow, {}, rain, {"a": first, "b": ~first}, before=before, after=after, size=10.0, groups=series
    )
    x, rise, at = [], [], []
    for t in range(rows):
        steps = [t - before, t + 1, t + 3]
        if min(steps) < 0 or max(steps) >= rows or any(series[s] != series[t] or np.isnan(flow[s]) for s in steps):
            continue
        held = [float(first[t]), float(not first[t])]
        x.append([*(rain[t] / 10 * own for own in held), *held])
        rise.append((flow[t + 1] + flow[t + 3]) / 2 - flow[t - before])
        at.append(t)
    design, y = np.array(x), np.array(rise)
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    scores, reach, middle = (y - design @ beta)[:, None] * design, before + max(after) - 1, np.zeros((4, 4))
    for i, s in enumerate(at):
        for j, t in enumerate(at):
            if abs(s - t) <= reach and series[s] == series[t]:
                middle += (1 - abs(s - t) / (reach + 1)) * np.outer(scores[i], scores[j])
    bread = np.linalg.inv(design.T @ design)
    expected = bread @ middle @ bread * len(at) / (len(at) - 4)
    # sums of some 500 products of size 1, through a matrix of condition below 1000
    assert_within("covariance", found.covariance[0], expected[:2, :2], 1e-10 * abs(expected).max())
    assert_within("standard error", found.standard_error[0], np.sqrt(np.diag(expected))[:2], 1e-9)
