"""Categories: their levels and codes, unseen levels, one-hot groups, cyclic and memoryless columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnam
from tests.panel.support import ROLES, panel, visits
from tests.support.assertions import assert_equal

pandas = pytest.importorskip("pandas")


def of_levels(column: Any, **options: Any) -> rnam.Panel:
    df = pandas.DataFrame({"id": 0, "t": range(len(column)), "c": column})
    return rnam.Panel.from_frame(df, id="id", time="t", categories=["c"], **options)


LEVELS = {
    "words": (["b", "a", None, "b"], ("a", "b"), [1, 0, -1, 1]),
    "numbers": ([10, 9, 10], (9, 10), [1, 0, 1]),
    "floats": ([0.5, np.nan, 0.0], (0.0, 0.5), [1, -1, 0]),
    "bools": ([True, False], (False, True), [1, 0]),
    "nullable": (pandas.array([3, None, 1], dtype="Int64"), (1, 3), [1, -1, 0]),
    "pandas": (pandas.Categorical(["lo", "hi"], ["lo", "mid", "hi"]), ("lo", "mid", "hi"), [0, 2]),
}  # fmt: skip


@pytest.mark.parametrize("kind", LEVELS)
def test_levels_are_in_a_stable_order_and_come_back(kind: str) -> None:
    column, levels, codes = LEVELS[kind]
    p = of_levels(column)
    assert p.columns[0].levels == levels
    assert [type(level) for level in p.columns[0].levels] == [type(level) for level in levels]
    assert_equal("codes", p.codes[:, 0], np.array(codes, np.int32))
    pandas.testing.assert_series_equal(p.to_frame()["c"], pandas.Series(column), check_names=False)
    assert of_levels(column[::-1]).columns == p.columns


def test_levels_that_are_given_and_an_order() -> None:
    column = ["hi", "lo", "hi"]
    p = of_levels(column, levels={"c": ["lo", "mid", "hi"]}, ordered=["c"])
    assert p.columns[0].levels == ("lo", "mid", "hi") and p.columns[0].ordered
    assert_equal("codes", p.codes[:, 0], np.array([2, 0, 2], np.int32))
    assert str(p.columns[0]) == "c [3 levels, ordered]"
    by_pandas = of_levels(pandas.Categorical(column, ["lo", "hi"], ordered=True))
    assert by_pandas.columns[0].ordered and by_pandas.to_frame()["c"].dtype.ordered
    with pytest.raises(ValueError, match="column 'c' must hold one of 'lo', got 'hi', id 0 at t 0; unseen="):
        of_levels(column, levels={"c": ["lo"]})
    unseen = of_levels(column, levels={"c": ["lo"]}, unseen="missing")
    assert_equal("codes", unseen.codes[:, 0], np.array([-1, 0, -1], np.int32))


def test_a_later_table_has_the_columns_and_levels_of_the_first() -> None:
    first = panel()
    later = visits().iloc[::-1].iloc[[5, 2]].drop(columns=["died", "weight", "site"])
    p = rnam.Panel.from_frame(later, like=first)
    assert p.columns == first.columns and p.target is None and p.weight is None and p.groups is None
    assert_equal("codes", p.codes[:, 0], np.array([0, 0], np.int32))
    later["ward"] = "new"
    with pytest.raises(
        ValueError, match="column 'ward' must hold one of 'x', 'y', 'z', got 'new', person 'c' at day 0"
    ):
        rnam.Panel.from_frame(later, like=first)
    p = rnam.Panel.from_frame(later, like=first, unseen="missing")
    assert_equal("codes", p.codes[:, 0], np.array([-1, -1], np.int32))
    assert rnam.Panel.from_frame(visits(), like=first).equals(first)
    with pytest.raises(ValueError, match="values must be left out where like is given"):
        rnam.Panel.from_frame(visits(), like=first, values=["bili"])
    with pytest.raises(ValueError, match="roles must name columns of df, got 'bili'"):
        rnam.Panel.from_frame(visits().drop(columns="bili"), like=first)
    dates = visits().assign(day=pandas.to_datetime(visits()["day"], unit="D"))
    with pytest.raises(ValueError, match="times must be numbers in no unit"):
        rnam.Panel.from_frame(dates, like=first)


def test_classes_of_a_later_table_are_those_of_the_first() -> None:
    first = panel(target="sex", static=["age"])
    men = visits()[lambda df: df["sex"] == "m"]
    p = rnam.Panel.from_frame(men, like=first)
    assert p.schema.targets == first.schema.targets
    assert p.target is not None and list(p.target) == ["m"] and p.padded()["target"].tolist() == [[1.0]]


def test_reindex_gives_the_columns_of_another_panel() -> None:
    first, df = panel(), visits()
    other = panel(values=["hepato", "bili"], units={"hepato": "0, 1"}, titles={})
    assert other.reindex(first).equals(first) and other.take([1, 0]).reindex(first).equals(first.take([1, 0]))
    fewer = rnam.Panel.from_frame(df[df["ward"] != "y"], **ROLES)
    assert fewer.columns[2].levels == ("x", "z")
    again = fewer.reindex(first)
    assert again.columns == first.columns and again.codes[:, 0].max() == 2
    with pytest.raises(ValueError, match="column 'ward' must hold one of 'x', 'z', got 'y'"):
        first.reindex(fewer)
    assert_equal("codes", first.reindex(fewer, unseen="missing").codes[:, 0], np.array([0, 0, -1, -1, 1, 0], np.int32))
    assert first["b"].reindex(fewer).columns == fewer.columns  # of others alone is a level unseen
    with pytest.raises(ValueError, match="values must have column 'age', got"):
        first.reindex(panel(values=["age"], static=["sex"], units={}, titles={}))


def test_one_hot_columns_are_one_category() -> None:
    df = pandas.DataFrame({"id": 0, "t": [0, 1, 2], "s1": [1.0, 0, np.nan], "s2": [0, 1, np.nan]})
    roles = dict(id="id", time="t", one_hot={"stage": ["s1", "s2"]}, titles={"stage": "Stage"})
    p = rnam.Panel.from_frame(df, **roles)
    assert p.columns[0].levels == ("s1", "s2") and p.columns[0].title == "Stage"
    assert_equal("codes", p.codes[:, 0], np.array([0, 1, -1], np.int32))
    pandas.testing.assert_frame_equal(p.to_frame(), df)
    assert rnam.Panel.from_frame(df, like=p).equals(p)
    for cells in ([0, 0], [1, 1], [2, 0], [1, np.nan]):
        df.loc[2, ["s1", "s2"]] = cells
        with pytest.raises(
            ValueError, match=r"one_hot\['stage'\] must have a single 1 and else 0, got \[.*\], id 0 at t 2"
        ):
            rnam.Panel.from_frame(df, **roles)
    with pytest.raises(ValueError, match=r"one_hot\['stage'\] must have at least two columns, got 1"):
        rnam.Panel.from_frame(df, id="id", time="t", one_hot={"stage": ["s1"]})


def test_cyclic_and_memoryless_columns() -> None:
    df = pandas.DataFrame({"id": 0, "t": [0, 1], "x": [1.0, 2.0], "hour": [23, 0], "born": [180, 180]})
    p = rnam.Panel.from_frame(
        df, id="id", time="t", values=["x"], static=["born"], cyclic={"hour": 24, "born": 365.25}, memoryless=["hour"]
    )
    x, hour, born = p.columns
    assert (x.period, hour.period, born.period) == (None, 24.0, 365.25) and (hour.memoryless, x.memoryless) == (
        True,
        False,
    )
    assert str(hour) == "hour [memoryless, period 24]" and p.values.shape == (2, 2)
    assert rnam.Panel.from_frame(df, like=p).equals(p)
    listed = rnam.Panel.from_frame(df, id="id", time="t", values=["hour", "x"], cyclic={"hour": 24})
    assert [column.name for column in listed.columns] == ["hour", "x"]


def test_numbers_of_ids_may_be_levels() -> None:
    p = panel(categories=["ward", "age"])
    assert [column.name for column in p.schema.static_categories] == ["age", "sex"]
    assert p.schema.static_categories[0].levels == (33.0, 41.0, 50.0)
    assert rnam.Panel.from_frame(visits(), like=p).equals(p)


def test_levels_that_are_missing_come_back_as_missing() -> None:
    """A dtype of bools or of whole numbers has no missing value, and would make one of the levels of it."""
    for column, levels, expected in (
        ([True, False], [True], [True, None]),
        ([1, 2], [2], [None, 2]),
        (pandas.array([True, None, False], dtype="boolean"), [True], [True, pandas.NA, pandas.NA]),
    ):
        got = of_levels(column, levels={"c": levels}, unseen="missing").to_frame()["c"]
        pandas.testing.assert_series_equal(got, pandas.Series(expected, dtype=got.dtype, name="c"))
        assert got.isna().tolist() == [pandas.isna(item) for item in expected]


def test_reindex_keeps_the_numbers_and_the_dtypes_of_the_table() -> None:
    df = pandas.DataFrame({"id": 0, "t": [0, 1], "x": [1, 2], "s": 3, "c": [1, 2]})
    roles = dict(id="id", time="t", values=["x"], static=["s"], categories=["c"])
    like = rnam.Panel.from_frame(df, **roles)
    other = df.assign(x=[1.5, np.nan], s=3.5, c=[1.0, np.nan])
    frame = rnam.Panel.from_frame(other, **roles).reindex(like).to_frame()
    pandas.testing.assert_frame_equal(frame, other)


def test_a_later_table_has_the_kinds_of_the_first() -> None:
    first, ages = panel(), visits().assign(age=visits()["age"].astype(str))
    with pytest.raises(ValueError, match=r"column 'age' must hold numbers, got '50.0', person 'c' at day 0"):
        rnam.Panel.from_frame(ages, like=first)
    words = visits().assign(died=visits()["died"].map({True: "yes", False: "no"}))
    with pytest.raises(ValueError, match="column 'died' must hold numbers, got 'yes'"):
        rnam.Panel.from_frame(words, like=first)


def test_an_unknown_class_is_refused_where_an_unseen_level_is_missing() -> None:
    first = panel(target="sex", static=["age"])
    for sex in ("x", None):
        later = visits().assign(sex=["f", "m", "m", sex, "f", "m"])
        if sex is None:
            assert rnam.Panel.from_frame(later, like=first, unseen="missing").target.tolist() == ["f", "m", None]
            continue
        with pytest.raises(ValueError, match="column 'sex' must hold one of 'f', 'm', got 'x', person 'b' at day 2"):
            rnam.Panel.from_frame(later, like=first, unseen="missing")


def test_of_two_targets_the_one_that_is_there_is_read() -> None:
    first = panel(target=["died", "sex"], static=["age"])
    later = rnam.Panel.from_frame(visits().drop(columns="died"), like=first)
    assert [column.name for column in later.schema.targets] == ["sex"] and later.target.tolist() == ["f", "m", "f"]


def test_a_later_table_may_have_ids_and_times_in_its_index() -> None:
    first, indexed = panel(), visits().set_index(["person", "day"])
    assert rnam.Panel.from_frame(indexed, like=first).equals(first)
    assert rnam.Panel.from_frame(visits(), like=rnam.Panel.from_frame(indexed, like=first)).equals(first)


def test_intervals_and_tuples_are_no_levels() -> None:
    for column in (pandas.cut([1, 2, 3], 2), pandas.Series([(1, 2), (3, 4)])):
        with pytest.raises(
            TypeError, match=r"column 'c' must hold words, numbers or bools as levels, got .*astype\(str\)"
        ):
            of_levels(column)
