"""Shapes are what the model says of held values, of single rows exactly; pure pairs leave the sum as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest

import rnam
from rnam import explain
from tests.explanation import support
from tests.explanation.test_explanation import ROUNDED
from tests.support.assertions import assert_equal, assert_within


def held(rain: float, temp: float, soil: str, days: int) -> Any:
    """A basin where rain and temp stay what they are."""
    return pandas.DataFrame(
        {"basin": 1, "day": np.arange(days), "rain": rain, "temp": temp, "kind": None, "soil": soil, "area": np.nan}
    )


def test_a_recurrent_term_is_held_until_it_settles(explanation: Any, model: Any) -> None:
    shape = explanation.shape("rain")
    raw = model.contributions(held(2.0, 9.0, "clay", 32)).iloc[-1]
    at = np.interp(2.0, shape.x, shape.contribution - shape.moved)
    low, high = np.searchsorted(shape.x, 2.0) - 1, np.searchsorted(shape.x, 2.0)
    near = np.ptp((shape.contribution - shape.moved)[low : high + 1])
    constant = explanation.centring.constants.mean(0)[0, 0]
    assert abs(at + constant - raw["rain"]) <= near + ROUNDED
    exact = model.contributions(held(float(shape.x[-1]), 9.0, "clay", 32)).iloc[-1]["rain"]
    assert_within("at a point", (shape.contribution - shape.moved)[-1] + constant, exact, ROUNDED)
    assert 0 < shape.settled <= 16 and shape.n.sum() == 360 and shape.unit == "mm"
    assert shape.outside[-1] and not shape.level


def test_after_typical_histories(explanation: Any, panel: rnam.Panel, model: Any) -> None:
    shape = explanation.shape("temp")
    assert shape.after.shape == (3, len(shape.x))
    assert shape.after_told[0].startswith("last value after a low history (basin 1")
    basin, day = map(int, shape.after_told[2].split("(basin ")[1].rstrip(")").split(", "))
    frame = support.weather()
    own = frame[(frame["basin"] == basin) & (frame["day"] <= day)].drop(columns=["flow", "high"]).copy()
    own.loc[own["day"] == day, "temp"] = shape.x[5]
    exact = model.contributions(own).iloc[-1]["temp"] - explanation.centring.constants.mean(0)[1, 0]
    assert_within("after", shape.after[2, 5], exact, ROUNDED)


def test_categories_are_levels_and_static_terms_are_exact(explanation: Any, model: Any) -> None:
    kind = explanation.shape("kind")
    assert kind.level == ("=cmd", "dry", "wet") and kind.n_missing > 50
    ax = kind.plot()
    assert [text.get_text().split("\n")[0] for text in ax.get_xticklabels()] == list(kind.level)
    soil = explanation.shape("soil")
    assert (soil.kind, soil.settled, soil.after.shape) == ("static", 0.0, (0, 2))
    raw = [model.contributions(held(1.0, 9.0, name, 3)).iloc[-1]["soil"] for name in ("clay", "sand")]
    found = soil.contribution - soil.moved
    assert_within("difference", found[1] - found[0], raw[1] - raw[0], ROUNDED)


def test_pure_pairs_leave_the_sum(explanation: Any, model: Any) -> None:
    pair = explanation.shape("rain & temp")
    share = pair.n / pair.n.sum()
    assert_within("rows", (share * pair.interaction).sum(1), 0.0, 1e-12)
    assert_within("columns", (share * pair.interaction).sum(0), 0.0, 1e-12)
    rain, temp = explanation.shape("rain"), explanation.shape("temp")
    others = explanation.shape("rain & soil")
    for i, j in ((0, 0), (3, 5), (7, 2)):
        x, y = float(pair.x[i]), float(pair.y[j])
        raw = model.contributions(held(x, y, "sand", 32)).iloc[-1]
        terms = ["rain", "temp", "soil", "rain & temp", "rain & soil"]
        numbers = [explanation.reader.term(name) for name in terms]
        expected = raw[terms].sum() - explanation.centring.constants.mean(0)[numbers, 0].sum()
        k = int(np.flatnonzero(others.x == x)[0])
        level = others.y_level.index("sand")
        found = rain.contribution[rain.x == x] + temp.contribution[temp.x == y]
        found = found + explanation.shape("soil").contribution[level] + pair.interaction[i, j] + pair.constant
        found = found + others.interaction[k, level] + others.constant
        assert_within("sum", found, np.array([expected]), 4 * ROUNDED)
    np.testing.assert_allclose(pair.contribution, pair.interaction + pair.first[:, None] + pair.second + pair.constant)


def test_single_rows_are_exact() -> None:
    panel = support.basins()
    model = rnam.NAMRegressor((4,), max_epochs=2, random_state=0, verbose=0, pairs=[("rain", "temp")]).fit(panel)
    e = model.explain(panel)
    shape = e.shape("temp")
    values = panel.values[:, 1]
    at = int(np.flatnonzero(values == shape.x[0])[0])
    raw = model.contributions(panel)["temp"].iloc[at] - e.centring.constants[0, 1, 0]
    assert_within("temp", (shape.contribution - shape.moved)[0], raw, ROUNDED)
    assert (shape.kind, shape.settled, len(shape.after)) == ("memoryless", 0.0, 0)
    assert shape.plot().get_xlabel() == "temp (°C)"


def test_frames_files_and_pictures(explanation: Any, tmp_path: Any) -> None:
    shapes = explanation.shapes()
    assert list(shapes) == ["rain", "temp", "kind", "rain & temp", "rain & soil", "area", "soil"]
    assert len(shapes) == 7 and repr(shapes).startswith("Shapes of rain, temp")
    assert set(shapes.frame()["term"]) == {"rain", "temp", "kind", "area", "soil"}
    assert len(shapes.plot().figure.axes) >= 7
    with pytest.raises(ValueError, match="ax must be None for all terms"):
        shapes.plot(shapes["rain"].plot())
    shapes.to_csv(tmp_path / "shapes.csv")
    for name in shapes:
        ax = explanation.shape(name).plot()
        assert ax.get_xlabel()
        explanation.shape(name).to_csv(tmp_path / "shape.csv")
    frame = explanation.shape("rain & soil").frame()
    assert list(frame)[:3] == ["rain", "soil", "interaction"] and frame["n"].sum() == 360
    assert "'=cmd" in (explanation.shape("kind").to_csv(tmp_path / "kind.csv") or (tmp_path / "kind.csv").read_text())
    with pytest.raises(ValueError, match=r"term must be one of rain, temp, .*got 'snow'"):
        explanation.shape("snow")


def test_the_timing_term_has_no_shape(panel: rnam.Panel) -> None:
    model = support.fitted(rnam.RNAMRegressor, panel, timing=True, continuous=True, max_epochs=1)
    e = model.explain(panel)
    assert "timing" in e.importance().term and "timing" not in e.shapes()
    with pytest.raises(ValueError, match="got 'timing'"):
        e.shape("timing")
    assert np.isfinite(e.shape("rain").contribution).all()


def test_a_band_holds_the_whole_curve_of_refits(panel: rnam.Panel, explanation: Any) -> None:
    with pytest.raises(ValueError, match=r"10 members or more, got \(2, "):
        explanation.shape("rain").simultaneous()
    shape = support.fitted(rnam.RNAMRegressor, panel, members=10, max_epochs=1).explain(panel).shape("rain")
    assert_within("mean", shape.by_member.mean(0), shape.contribution, 1e-12)
    band = shape.simultaneous(0.8)
    exact = explain.simultaneous(shape.by_member, level=0.8)
    assert_equal("lower", band.lower, exact.lower)
    assert_within("middle", (band.lower + band.upper) / 2, shape.contribution, 1e-12)
    assert_equal("width", band.upper - band.lower > 2 * shape.by_member.std(0), np.full(len(shape.x), True))
