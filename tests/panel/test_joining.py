"""Panels put together."""

from __future__ import annotations

import numpy as np
import pytest

import rnam
from tests.panel.support import ROLES, panel, people_panel, series, visits
from tests.support.assertions import assert_equal

pandas = pytest.importorskip("pandas")


def test_parts_put_together_are_the_whole() -> None:
    p = panel()
    assert rnam.Panel.concat([p[["c"]], p[["a", "b"]]]).equals(p) and rnam.Panel.concat([p]).equals(p)
    p = people_panel()
    for parts in (p.split([0.5, 0.5], seed=0), [p.take([3]), p.take([1, 0])]):
        joined = rnam.Panel.concat(parts)
        assert joined.equals(p[list(joined)])
    first, second = p.split(until=[20])
    alone = second.take([n for n, id in enumerate(second) if id not in first])
    joined = rnam.Panel.concat([first, alone])
    assert_equal("target", joined.target, np.concatenate([first.target, alone.target]), nan=True)


def test_levels_and_classes_are_joined() -> None:
    df = visits()

    def panel_of(rows: pandas.DataFrame) -> rnam.Panel:
        return rnam.Panel.from_frame(rows, **{**ROLES, "target": "sex", "static": ["age"]})

    first, second = panel_of(df[df["person"] == "c"]), panel_of(df[df["person"] != "c"])
    joined = rnam.Panel.concat([second, first])
    assert first.columns[2].levels == ("x",) and joined.columns[2].levels == ("x", "y", "z")
    other = rnam.Panel.concat([first, second])
    assert other.schema.targets[0].levels == ("f", "m") and list(other.target) == ["f", "m", "f"]
    assert other.to_frame()["ward"].fillna("").tolist() == ["x", "x", "y", "", "z", "x"]
    third, first = (panel_of(df[df["person"] == person]) for person in "ac")
    turned = rnam.Panel.concat([third, first])
    assert turned.schema.targets[0].levels == ("m", "f") and list(turned.target) == ["m", "f"]
    assert turned.columns[2].levels == ("y", "z", "x") and turned.codes[:, 0].tolist() == [0, -1, 1, 2, 2]


def test_numbers_of_other_dtypes_and_dates_of_other_units_are_joined() -> None:
    df = visits().assign(day=pandas.to_datetime(visits()["day"], unit="D").astype("datetime64[s]"))
    rest = df.assign(day=df["day"].astype("datetime64[ns]"), hepato=df["hepato"].astype("float32"))
    first = rnam.Panel.from_frame(df[df["person"] == "c"], **ROLES)
    joined = rnam.Panel.concat([first, rnam.Panel.from_frame(rest[rest["person"] != "c"], **ROLES)])
    assert joined.to_frame()["day"].dtype == "datetime64[ns]" and joined.to_frame()["hepato"].dtype == np.float64
    assert_equal("times", joined.times, panel().times)
    zoned = [part.assign(day=part["day"].dt.tz_localize("Europe/Berlin")) for part in (df, rest)]
    first, second = (rnam.Panel.from_frame(part, **ROLES) for part in zoned)
    joined = rnam.Panel.concat([first["c"], second[["a", "b"]]])
    assert str(joined.to_frame()["day"].dtype) == "datetime64[ns, Europe/Berlin]"
    assert_equal("times", joined.times, first.times)


def test_levels_of_other_dtypes_are_joined() -> None:
    def of(id: int, column: object, **roles: object) -> rnam.Panel:
        df = pandas.DataFrame({"id": id, "t": [0, 1], "c": column})
        return rnam.Panel.from_frame(df, id="id", time="t", categories=["c"], **roles)

    for first, second, expected in (
        ([True, False], np.array([None, True], object), [True, False, None, True]),
        ([1, 2], [2.5, np.nan], [1, 2, 2.5, None]),
        (["a", "b"], np.array(["c", None], object), ["a", "b", "c", None]),
    ):
        got = rnam.Panel.concat([of(0, first), of(1, second)]).to_frame()["c"]
        assert [None if pandas.isna(item) else item for item in got] == expected
    for first, second, kinds in (
        ([False, True], [1, 2], "bool and number"),
        ([1, 2], ["a", "b"], "number and str"),
    ):
        with pytest.raises(ValueError, match=f"column 'c' must have levels of one kind in all panels, got {kinds}"):
            rnam.Panel.concat([of(0, first), of(1, second)])


def test_one_hot_columns_of_other_dtypes_are_joined() -> None:
    roles = dict(id="id", time="t", one_hot={"stage": ["s1", "s2"]})
    whole = pandas.DataFrame({"id": 0, "t": [0, 1], "s1": [1, 0], "s2": [0, 1]})
    gaps = pandas.DataFrame({"id": 1, "t": [0, 1], "s1": [1, np.nan], "s2": [0, np.nan]})
    got = rnam.Panel.concat([rnam.Panel.from_frame(df, **roles) for df in (whole, gaps)]).to_frame()
    assert_equal("s1", got["s1"].to_numpy(), np.array([1, 0, 1, np.nan]), nan=True)


def test_windows_are_joined() -> None:
    options = dict(group="origin", time="ts", values=["temp"], target="temp", horizon=1, window=3)
    both = rnam.Panel.from_series(series(), **options)
    df = series()
    parts = [rnam.Panel.from_series(df[df["origin"] == name], **options) for name in "AB"]
    joined = rnam.Panel.concat(parts)
    assert joined.equals(both)
    assert [part.target.tolist() for part in joined.split(until=["2013-01-01 12:00"])] == [
        part.target.tolist() for part in both.split(until=["2013-01-01 12:00"])
    ]


def test_times_of_another_name_are_refused() -> None:
    p = panel()
    other = rnam.Panel.from_frame(visits().rename(columns={"day": "t"}), **{**ROLES, "time": "t"})
    for call in (lambda: rnam.Panel.concat([p["a"], other["b"]]), lambda: other.reindex(p)):
        with pytest.raises(ValueError, match=r"times must be in column '(day|t)', got '(day|t)'"):
            call()


def test_panels_that_differ_are_refused() -> None:
    p, df = panel(), visits().assign(person=lambda df: df["person"].str.upper())
    ordered = dict(levels={"ward": ["x", "y", "z"]}, ordered=["ward"])
    turned = dict(levels={"ward": ["z", "y", "x"]}, ordered=["ward"])
    dates = df.assign(day=pandas.to_datetime(df["day"], unit="D"))

    def upper(table=df, **changes):
        return rnam.Panel.from_frame(table, **{**ROLES, **changes})

    for panels, message in (
        ([], "panels must be one or more"),
        ([p, df], "panels must be Panels, got DataFrame"),
        ([p, p["a"]], "an id must be in one panel, got person 'a' in two"),
        ([p, upper(values=["bili"])], "panels must have the same values"),
        ([p, upper(at="visit")], "panels must have the same at, got 'id' and 'visit'"),
        ([p, upper(weight=None)], "panels must have the same weight"),
        ([p, upper(group=None)], "panels must have the same group"),
        ([p, upper(target="site", group=None, table=df)], "panels must have the same"),
        ([p, upper(units={})], "column 'bili' must be the same in all panels"),
        ([p, upper(time_unit="year")], "times must be numbers in no unit"),
        ([p, upper(table=dates)], "times must be numbers in no unit"),
        ([p, upper(categories=["ward", "age"])], "panels must have the same static"),
        ([p, upper(**ordered)], "column 'ward' must be the same in all panels"),
        ([panel(**ordered), upper(**turned)], "levels of column 'ward'"),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=message):
            rnam.Panel.concat(panels)
