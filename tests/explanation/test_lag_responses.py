"""A filter of known kernel gives that kernel; histories are those that occurred, and what never was is marked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnam
from tests.explanation import support
from tests.explanation.support import CROSSED, KERNEL
from tests.support.assertions import assert_equal, assert_within

LAGS = 6
PADDED = np.pad(KERNEL, (0, LAGS + 1 - len(KERNEL)))
PAIR = np.pad(CROSSED, (0, LAGS + 1 - len(CROSSED)))


def temps(panel: rnam.Panel, answer: Any) -> Any:
    """(histories, lags + 1), the temperature at the visits from the cut on."""
    temp = panel.values[:, 1].astype(np.float64)
    places = panel.offsets[panel.ids.get_indexer(answer.history.get_level_values(0))]
    first = places + answer.history.get_level_values(1).to_numpy()
    return temp[first[:, None] + np.arange(LAGS + 1)]


def bound(model: Any, panel: rnam.Panel, *added: float) -> float:
    """Of a change that is read twice, before and after, through all of both kernels, each input being rounded. `added`
    is a size or another value of rain."""
    rain, temp = panel.values[:, 0], panel.values[:, 1]
    reached = np.concatenate([rain, *(rain + own for own in added), np.array(added)])
    of_rain, of_temp = support.rounding(model, "rain", reached), support.rounding(model, "temp", temp)
    crossed = np.abs(CROSSED).sum()
    plain = np.abs(KERNEL).sum() + crossed * np.abs(temp).max()
    return float(2 * (of_rain * plain + of_temp * crossed * np.abs(reached).max()))


@pytest.mark.parametrize("size", [0.25, -0.5, 3.0])
def test_an_impulse_gives_the_kernel_of_a_filter(model: Any, panel: rnam.Panel, size: float) -> None:
    answer = support.filtering(model).explain(panel).lag_response("rain", size=size, lags=LAGS)
    expected = size * (PADDED + PAIR * temps(panel, answer))
    assert_within("by_history", answer.by_history[0], expected, bound(model, panel, size))
    assert answer.term == ("rain", "rain & temp", "rain & soil")
    assert_within("of rain", answer.by_term[0], size * PADDED, bound(model, panel, size))
    total = expected.mean(0).cumsum()
    assert_within("cumulative", answer.cumulative.change, total, (LAGS + 1) * bound(model, panel, size))
    assert len(answer.value) == 100 and answer.lag.tolist() == list(range(LAGS + 1))


def test_a_step_gives_the_sum_of_the_kernel(model: Any, panel: rnam.Panel) -> None:
    answer = support.filtering(model, members=2).explain(panel).lag_response("rain", size=1.0, kind="step", lags=LAGS)
    expected = PADDED.cumsum() + PAIR.cumsum() * temps(panel, answer)
    for member in (0, 1):
        assert_within("member", answer.by_history[member], (1 + member) * expected, 2 * bound(model, panel, 1.0))
    sd = expected.mean(0) / np.sqrt(2)
    assert_within("band", answer.response.high - answer.change, np.abs(sd), 2 * bound(model, panel, 1.0))


def test_a_response_is_that_to_a_step_over_the_lags_that_most_have(model: Any, panel: rnam.Panel) -> None:
    e = support.filtering(model).explain(panel)
    answer, exact = e.response("rain", size=2.0), e.lag_response("rain", size=2.0, kind="step", lags=10)
    assert answer.kind == "step"
    assert_equal("change", answer.change, exact.change)
    assert e.response("rain", lags=3).lag.tolist() == [0, 1, 2, 3]
    short = support.filtering(model).explain(rnam.Panel.from_frame(support.weather(days=4), **support.ROLES))
    assert short.response("rain").lag.tolist() == [0, 1, 2, 3]


def test_the_surface_is_the_kernel_times_the_distance_from_the_reference(model: Any, panel: rnam.Panel) -> None:
    answer = support.filtering(model).explain(panel).lag_response(
        "rain", lags=LAGS, reference=0.5, values=[0.0, 1.0, 4.0]
    )  # fmt: skip
    kernel = PADDED + PAIR * temps(panel, answer).mean(0)
    limit = bound(model, panel, 0.5, 4.0)
    assert_within("surface", answer.surface, (answer.values - 0.5)[:, None] * kernel, limit)
    assert_within("at 4", answer.at_value(3.9).change, 3.5 * kernel, limit)
    assert_within("at lag 1", answer.at_lag(1).change, (answer.values - 0.5) * kernel[1], limit)
    assert_within("overall", answer.overall.change, (answer.values - 0.5) * kernel.sum(), (LAGS + 1) * limit)
    assert (answer.value == 0.5).all(), "size is added to the reference"
    assert len(answer.surface_frame()) == 3 * (LAGS + 1)


def test_histories_are_cut_where_the_value_is_near(explanation: Any, panel: rnam.Panel) -> None:
    rain = panel.values[:, 0]
    dry = explanation.lag_response("rain", size=1.0, value=0.0, lags=3, values=())
    assert (dry.value == 0).all() and dry.surface.shape == (0, 4)
    wet = explanation.lag_response("rain", size=1.0, quantile=1.0, lags=3, values=())
    assert wet.value.min() > np.quantile(rain, 0.8)
    own = explanation.lag_response("rain", size=1.0, lags=3, histories=[103, 101], values=())
    assert own.history.tolist() == [(103, 26), (101, 26)]
    late = explanation.lag_response("rain", size=1.0, lags=3, before=20, values=())
    assert set(late.history.get_level_values(1)) == set(range(20, 27))
    chosen = np.zeros(len(rain), bool)
    chosen[[4, 40]] = True
    marked = explanation.lag_response("rain", size=1.0, lags=3, histories=chosen, values=())
    assert marked.history.tolist() == [(100, 4), (101, 10)]
    again = explanation.lag_response("rain", size=1.0, lags=3, sample=5, seed=1, values=())
    assert again.history.equals(explanation.lag_response("rain", size=1.0, lags=3, sample=5, seed=1, values=()).history)


def test_what_never_occurred_is_outside(explanation: Any) -> None:
    usual = explanation.lag_response("rain", size=0.2, lags=3, values=[1.0, 50.0])
    assert usual.outside.mean() < 0.1
    assert (usual.surface_outside[1, 0], usual.surface_outside[0, 0] < 0.2) == (1.0, True)
    held = explanation.lag_response("rain", size=8.0, kind="step", lags=12, sample=10, values=())
    assert held.outside[:, -1].all(), "it never rained so for so long"
    assert np.diff(held.cumulative.outside).min() >= 0


def test_frames_files_and_pictures(explanation: Any, tmp_path: Any) -> None:
    answer = explanation.lag_response("rain", size=2.0, lags=4, sample=8)
    frame = answer.frame()
    np.testing.assert_allclose(frame["cumulative"], frame["change"].cumsum(), rtol=1e-12)
    answer.to_csv(tmp_path / "lag.csv")
    assert (tmp_path / "lag.csv").read_text().splitlines()[0].startswith("lag,time,change,low,high")
    ax = answer.plot()
    np.testing.assert_allclose(ax.lines[1].get_ydata(), answer.change, rtol=1e-12)
    assert ax.get_title(loc="left") == "rain +2 mm" and ax.get_ylabel() == "change of flow"
    surface = answer.plot_surface()
    assert surface.get_ylabel() == "rain (mm)" and len(surface.images) == 1
    for cut in (answer.at_lag(2), answer.overall, answer.cumulative, answer.at_value(1.0)):
        assert len(cut.frame()) == len(cut.x) and cut.plot().lines


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"column": "snow"}, ValueError, "column must be one of rain, temp, kind, area, soil, got 'snow'"),
        ({"column": "area"}, ValueError, "column must be one of numbers of visits, got 'area', one of ids"),
        ({"column": "kind"}, ValueError, "got 'kind', one of levels"),
        ({"lags": 30}, ValueError, "histories must have 30 visits after one at which 'rain' is observed, got none"),
        (
            {"lags": 20, "before": 10},
            ValueError,
            "histories must have 20 visits after and 10 before one at which 'rain'",
        ),
        ({"lags": 28, "histories": "all"}, ValueError, "histories must be 'sample'"),
        ({"histories": [999]}, KeyError, "no basin 999"),
        ({"histories": []}, ValueError, "histories must have an id, got none"),
        ({"histories": np.ones(3, bool)}, ValueError, r"histories must have shape \(360,\)"),
        ({"histories": np.arange(360) == 29}, ValueError, "5 visits after it, got visit 29 of basin 100"),
        ({"size": float("nan")}, ValueError, "size must be"),
        ({"value": float("nan")}, ValueError, "value must be"),
        ({"value": 1.0, "quantile": 0.5}, ValueError, "value must be None where quantile is given"),
        ({"reference": float("inf")}, ValueError, "reference must be"),
        ({"values": [float("nan")]}, ValueError, "values must be finite"),
        ({"kind": "ramp"}, ValueError, "kind must be"),
        ({"quantile": 1.5}, ValueError, "quantile must be from 0 to 1, got 1.5"),
        ({"sample": 0}, ValueError, "sample must be"),
    ],
)
def test_bad_questions_are_refused_by_name(
    explanation: Any, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        explanation.lag_response(**{"column": "rain", "lags": 5, "values": (), **changes})
    answer = explanation.lag_response("rain", lags=2, sample=3)
    with pytest.raises(ValueError, match="lag must be at most 2, got 3"):
        answer.at_lag(3)


def test_a_model_of_single_visits_has_no_lags(panel: rnam.Panel) -> None:
    model = rnam.NAMRegressor((4,), max_epochs=1, random_state=0, verbose=0).fit(panel)
    with pytest.raises(ValueError, match="the model must be recurrent"):
        model.explain(panel).lag_response("rain")
