"""Windows of visits and series that are cut into them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnam
from tests.panel.support import people, people_panel, series
from tests.support.assertions import assert_equal

pandas = pytest.importorskip("pandas")

ROLES: dict[str, Any] = dict(group="origin", time="ts", values=["temp"], target="temp")


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(0, 3))
def test_a_window_has_the_label_of_the_row_at_its_horizon(window: int, step: int, burn_in: int, horizon: int) -> None:
    df = series(hours=12).assign(label=lambda df: df["temp"] + 0.5)
    p = rnam.Panel.from_series(
        df, group="origin", time="ts", values=["temp"], target="label", horizon=horizon, window=window, step=step,
        burn_in=burn_in, time_unit="hour",
    )  # fmt: skip
    expected = []
    for name, own in df.groupby("origin"):
        for start in range(0, len(own) - burn_in - window - horizon + 1, step):
            end = start + burn_in + window
            expected.append(
                (name, own["ts"].iloc[end - 1], own["temp"].iloc[start:end], own["label"].iloc[end - 1 + horizon])
            )
    assert list(p.ids) == [(name, time) for name, time, _, _ in expected]
    batch = p.padded()
    assert_equal("values", batch["values"][..., 0], np.stack([values for _, _, values, _ in expected]))
    assert_equal("target", p.target, np.array([label for *_, label in expected]))
    assert_equal("target", batch["target"][:, 0], p.target)
    assert p.at == "id" and list(p.groups) == [name for name, *_ in expected]
    assert p.schema.id == ("origin", "ts_end") and p.schema.targets[0].name == ("label_ahead" if horizon else "label")


def test_windows_share_the_memory_of_their_series() -> None:
    p = people_panel()
    cut = p.windows(2)
    assert cut._parts.visits is p._parts.visits
    assert cut.padded([0])["values"].shape == (1, 2, 1) and cut.values.shape == (2 * len(cut), 1)


def test_a_window_is_found_by_the_id_and_the_time_of_its_end() -> None:
    p = rnam.Panel.from_series(series(), horizon=1, window=3, **ROLES)
    one = p[("B", pandas.Timestamp("2013-01-01 05:00"))]
    assert one.values[:, 0].tolist() == [103.0, 104.0, 105.0] and one.target.tolist() == [106.0]
    df = one.to_frame()
    assert list(df.columns) == ["ts_end", "origin", "ts", "temp", "temp_ahead"]
    assert df["temp_ahead"].tolist() == [106.0] * 3 and df["ts_end"].nunique() == 1


def test_the_labels_of_burn_in_are_hidden() -> None:
    df = people(steps=12)
    p = rnam.Panel.from_frame(df, id="person", time="day", values=["x"], target="label", at="visit")
    cut = p.windows(3, step=2, burn_in=2)
    assert set(cut.lengths) == {5} and cut.at == "visit"
    batch = cut.padded()
    assert np.isnan(batch["target"][:, :2]).all() and list(cut.groups) == [id for id, _ in cut]
    for n, (person, end) in enumerate(cut):
        own = df[df["person"] == person].set_index("day").loc[:end].iloc[-5:]
        assert_equal("values", batch["values"][n, :, 0], own["x"].to_numpy())
        assert_equal("target", batch["target"][n, 2:, 0], own["label"].to_numpy()[2:], nan=True)


def test_windows_of_a_part_show_the_labels_of_the_part() -> None:
    p = rnam.Panel.from_frame(people(steps=12), id="person", time="day", values=["x"], target="label", at="visit")
    early, late = p.split(until=[20])
    cut = late.windows(4, step=4)
    batch = cut.padded()
    assert np.isnan(batch["target"][batch["times"] <= 20]).all()
    assert (~np.isnan(batch["target"])).sum() > 0
    ahead = early.windows(2, horizon=1)
    assert not (ahead.times > 20).any() and ahead.labelled.any()


def test_a_weight_of_a_visit_is_that_of_the_window_whose_label_it_weighs() -> None:
    df = series().assign(w=lambda df: df["temp"] / 2)
    p = rnam.Panel.from_series(df, horizon=2, window=3, weight="w", **ROLES)
    assert_equal("weight", p.weight, p.target / 2)
    assert_equal("weight", p.padded([3])["weight"], p.target[[3]] / 2)


def test_a_single_series_needs_no_group() -> None:
    df = series(groups=1).drop(columns="origin")
    roles = dict(time="ts", values=["temp"], target="temp", cyclic={"hour": 24}, memoryless=["hour"])
    p = rnam.Panel.from_series(df, horizon=6, window=12, **roles)
    assert len(p) == 24 - 12 - 6 + 1 and p.columns[1].period == 24 and p.columns[1].memoryless
    assert p.target.tolist() == [float(hour) for hour in range(17, 24)]
    assert repr(p).splitlines()[0] == "Panel: 7 ids (series and ts_end), 84 visits, 12 to 12 each"


def test_a_series_may_have_a_column_called_series_and_a_copy_of_its_group() -> None:
    df = series(groups=1).rename(columns={"origin": "series"})
    p = rnam.Panel.from_series(
        df.assign(series=1.5), horizon=1, window=3, **{**ROLES, "group": None}, static=["series"]
    )
    assert p.schema.id == ("series_", "ts_end") and set(p.static[:, 0]) == {1.5}
    options = dict(horizon=1, window=3, **ROLES)
    with pytest.raises(ValueError, match="got 'origin' as id or time and in another one; a copy with another name"):
        rnam.Panel.from_series(series(), static=["origin"], **options)
    copied = rnam.Panel.from_series(series().assign(place=lambda df: df["origin"]), static=["place"], **options)
    assert copied.schema.static_categories[0].levels == ("A", "B")


def test_a_missing_label_at_the_horizon_is_none() -> None:
    df = series(groups=1)
    df.loc[[5, 9], "temp"] = np.nan
    p = rnam.Panel.from_series(df, horizon=2, window=3, **ROLES)
    assert np.flatnonzero(np.isnan(p.target)).tolist() == [1, 5]


def test_a_series_with_a_gap_is_refused_or_split() -> None:
    df = series().drop(index=[24 + 10, 24 + 11])
    with pytest.raises(
        ValueError,
        match=r"a time at each step of 0 days 01:00:00, got .* 09:00:00 and then .* 12:00:00 in origin 'B'; gaps=",
    ):
        rnam.Panel.from_series(df, horizon=1, window=3, **ROLES)
    p = rnam.Panel.from_series(df, horizon=1, window=3, gaps="split", **ROLES)
    hours = p.padded()["values"][..., 0] % 100
    assert_equal("steps", np.diff(hours), np.ones((len(p), 2)))
    assert_equal("horizon", p.target % 100 - hours[:, -1], np.ones(len(p)))
    assert len(p) == (24 - 3) + (10 - 3) + (12 - 3)


SERIES_ERRORS = {
    "one role": (dict(horizon=0), "each column must have one role, got 'temp'"),
    "horizon": (dict(horizon=-1), "horizon must be at least 0"),
    "window": (dict(window=0), "length must be at least 1"),
    "long": (dict(window=24), "they take 25, got at most 24"),
    "gaps": (dict(gaps="fill"), "gaps must be one of"),
    "at": (dict(at="id"), "unexpected argument 'at'"),
    "time": (dict(time="t"), "group and time must name columns of df, got 't'"),
}


@pytest.mark.parametrize("case", SERIES_ERRORS)
def test_series_that_give_no_windows_are_refused(case: str) -> None:
    changes, message = SERIES_ERRORS[case]
    with pytest.raises((TypeError, ValueError), match=message):
        rnam.Panel.from_series(series(), **{**ROLES, "horizon": 1, "window": 3, **changes})


@pytest.mark.parametrize("name", ["ts_end", "temp_ahead"])
def test_a_column_called_as_windows_call_theirs_is_refused(name: str) -> None:
    df = series().assign(**{name: 1.0})
    with pytest.raises(ValueError, match=f"windows must have a name of their own for '{name}'"):
        rnam.Panel.from_series(df, horizon=1, window=3, **{**ROLES, "values": [name]})


def test_series_off_the_grid_are_refused() -> None:
    df = series()
    df.loc[5, "ts"] += pandas.Timedelta("10min")
    for gaps in ("refuse", "split"):
        with pytest.raises(ValueError, match=r"got 2013-01-01 04:00:00 and then 2013-01-01 05:10:00 in origin 'A'$"):
            rnam.Panel.from_series(df, horizon=1, window=3, gaps=gaps, **ROLES)
    with pytest.raises(ValueError, match="a series must have two times or more"):
        rnam.Panel.from_series(df.iloc[[0, 24]], horizon=1, window=1, **ROLES)


def test_windows_that_cannot_be_are_refused() -> None:
    p, df = people_panel(), people()
    roles = dict(id="person", time="day", values=["x"])
    by_id = rnam.Panel.from_frame(df, target="sex", **roles)
    for call, message in (
        (lambda: by_id.windows(1), 'labels at visits, got at="id"'),
        (lambda: p.windows(2).windows(1), "windows must be cut from ids, got a panel of windows"),
        (lambda: p.windows(2, step=0), "step must be at least 1"),
        (lambda: p.windows(2, burn_in=-1), "burn_in must be at least 0"),
        (lambda: rnam.Panel.from_frame(df, **roles).windows(1, horizon=1), "horizon must be None"),
        (lambda: rnam.Panel.from_frame(df, like=p.windows(2)), "like must be a panel of ids"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()


def test_a_grid_of_decimal_numbers_is_regular_to_its_rounding() -> None:
    df = pandas.DataFrame({"t": np.arange(100) * 0.1, "x": np.arange(100.0)})
    assert len(rnam.Panel.from_series(df, time="t", values=["x"], target="x", horizon=1, window=9)) == 91


def test_windows_are_described_by_the_rows_that_they_share() -> None:
    p = people_panel(values=[], categories=["kind"], cyclic={"x": 3})
    gaps = rnam.Panel.from_frame(people().assign(x=lambda df: df["x"].where(df["x"] > 0)), like=p)
    for cut in (gaps, gaps.take([5, 2]), gaps.windows(2), gaps.take([7, 3, 1]).windows(3)):
        share = np.isnan(cut.values).mean()
        assert f"x [period 3]; {share:.1%} missing" in repr(cut)


def test_the_unit_of_dates_is_told() -> None:
    p = rnam.Panel.from_series(series(), horizon=1, window=3, time_unit="hour", **ROLES)
    assert repr(p).splitlines()[1].endswith(", in hours")
