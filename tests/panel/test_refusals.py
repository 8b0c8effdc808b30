"""What a panel refuses, by the name of the column and of the id."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnam
from tests.panel.support import ROLES, panel, visits

pandas = pytest.importorskip("pandas")


def with_cell(column: str, row: int, value: Any) -> Any:
    df = visits().astype({column: object})
    df.loc[row, column] = value
    return df


CELLS = {
    "word": ("bili", 3, "n/a", "column 'bili' must hold numbers, got 'n/a', person 'b' at day 2; name it"),
    "number as a word": ("bili", 0, "1.5", "column 'bili' must hold numbers, got '1.5', person 'c' at day 0; name it"),
    "infinity": ("bili", 3, np.inf, "column 'bili' must hold finite numbers, got inf, person 'b' at day 2"),
    "large": ("hepato", 4, 10**400, "column 'hepato' must hold numbers .* person 'c' at day 9"),
    "static": ("age", 5, 42.0, r"column 'age' must have one value .*, got 41.0 and 42.0, person 'a' at day 11"),
    "static words": ("sex", 4, "m", "column 'sex' must have one value .*, got 'f' and 'm', person 'c' at day 9"),
    "label": ("died", 2, True, "column 'died' must have one value .*, got 0.0 and 1.0, person 'a' at day 4"),
    "group": ("site", 5, 8, "column 'site' must have one value for each person, got 7 and 8, person 'a' at day 11"),
    "no group": ("site", 5, None, "column 'site' must have a group in each row, got None, person 'a' at day 11"),
    "weight": ("weight", 3, -1.0, "column 'weight' must hold weights of at least 0, got -1.0, person 'b' at day 2"),
    "no weight": ("weight", 3, None, "column 'weight' must hold weights of at least 0, got nan, person 'b' at day 2"),
    "weight of an id": ("weight", 1, 3.0, "'weight' must have one value .* got 3.0 and 2.0, person 'a' at day 4"),
    "id": ("person", 3, None, "column 'person' must have an id in each row, got None in row 3"),
    "no time": ("day", 3, None, "column 'day' must have a time in each row, got none, person 'b'"),
    "twice": ("day", 2, 1, "an id must have one row for each time, got two, person 'a' at day 1"),
    "early": ("day", 5, 3, "rows of an id must be in order of time, got person 'a' at day 3.0 after 4.0; sort=True"),
    "infinite time": ("day", 5, np.inf, "times must be finite, got person 'a' at day inf"),
    "word as a time": ("day", 5, "2013-08-20", "got '2013-08-20' in row 5, person 'a'; pandas.to_datetime"),
    "large time": ("day", 5, 2**53 + 1, r"'day' must be at most 2\*\*53 in size, got 9007199254740993, person 'a'"),
    "id that is a list": ("person", 3, [1], "column 'person' must hold words, numbers or dates as ids: unhashable"),
    "group that is a list": ("site", 3, [1], "column 'site' must hold words, numbers or dates as groups: unhashable"),
    "kinds of levels": ("ward", 5, 3, "column 'ward' must have levels of one kind, got int, str"),
    "date as a level": ("ward", 5, pandas.Timestamp("2013"), "column 'ward' must have levels of one kind"),
    "tuple as a level": ("ward", 5, (1, 2), "column 'ward' must have levels of one kind"),
    "list as a level": ("ward", 5, [1], "column 'ward' must hold words, numbers or bools as levels"),
}  # fmt: skip


@pytest.mark.parametrize("case", CELLS)
def test_a_cell_is_refused_with_its_column_and_id(case: str) -> None:
    column, row, value, message = CELLS[case]
    if value == [1]:
        df = visits().astype({column: object})
        df.at[row, column] = value
    else:
        df = with_cell(column, row, value)
    with pytest.raises((TypeError, ValueError), match=message):
        rnam.Panel.from_frame(df, **ROLES)


def test_the_word_that_is_no_number_is_told_among_words_that_are() -> None:
    df = visits().assign(bili=["1", "2", None, "<0.5", "5", "6"])
    with pytest.raises(ValueError, match=r"column 'bili' must hold numbers, got '<0\.5', person 'b' at day 2; name it"):
        rnam.Panel.from_frame(df, **ROLES)


def test_columns_of_a_dtype_that_cannot_be_are_refused() -> None:
    for column, dtype, message in (
        ("bili", "category", "column 'bili' must hold numbers, got category; name it in categories"),
        ("bili", "datetime64[ns]", r"column 'bili' must hold numbers, got datetime64\[ns\]$"),
        ("bili", "complex128", "column 'bili' must hold numbers, got complex128"),
        ("ward", "datetime64[ns]", "column 'ward' must hold words, numbers or bools as levels"),
        ("day", "bool", "times of column 'day' must be numbers or dates, got bool"),
    ):
        df = visits().fillna({"bili": 0.0})
        df[column] = df["day"].astype(dtype) if column == "ward" else df[column].astype(dtype)
        with pytest.raises((TypeError, ValueError), match=message):
            rnam.Panel.from_frame(df, **ROLES)


def test_whole_numbers_that_no_float64_holds_are_refused() -> None:
    df = visits()
    df["hepato"] = [0, 0, 2**53 + 1, 0, 0, 0]
    with pytest.raises(ValueError, match=r"'hepato' must hold whole numbers of at most 2\*\*53.* person 'a' at day 4"):
        rnam.Panel.from_frame(df, **ROLES)
    for dtype in ("Int64", "UInt64", object):
        with pytest.raises(ValueError, match=r"of at most 2\*\*53, got 9007199254740993, person 'a' at day 4"):
            rnam.Panel.from_frame(df.astype({"hepato": dtype}), **ROLES)
    df["hepato"] = pandas.array([0, 0, -(2**53), None, 0, 2**53], dtype="Int64")
    assert rnam.Panel.from_frame(df, **ROLES).values[[3, 4], 1].tolist() == [-(2.0**53), 2.0**53]
    df = visits()
    df["day"] = df["day"] + 2**60
    for dtype in ("int64", "Int64", object):
        with pytest.raises(ValueError, match=r"times of column 'day' must be at most 2\*\*53"):
            rnam.Panel.from_frame(df.astype({"day": dtype}), **ROLES)


ROLE_ERRORS = {
    "absent": (dict(values=["bili", "bile"]), "roles must name columns of df, got 'bile'; df has"),
    "absent id": (dict(id="who"), "id and time must name columns of df, got 'who'"),
    "twice": (dict(values=["bili", "bili"]), "values must name each once, got 'bili' 2 times"),
    "two roles": (dict(static=["age", "bili"]), "each column must have one role, got 'bili' in 2 roles"),
    "target as a value": (dict(values=["died"]), "each column must have one role, got 'died' in 2 roles"),
    "id as a value": (dict(static=["person"]), "each column must have one role, got 'person' as id or time"),
    "id as time": (dict(time="person"), "id and time must be different columns"),
    "a word": (dict(values="bili"), "values must be a list of names, got 'bili'"),
    "nothing": (dict(values=[], categories=[], static=[], units={}, titles={}), "must name a column to learn from"),
    "at": (dict(at="row"), "at must be one of 'id', 'visit', got 'row'"),
    "unseen": (dict(unseen="drop"), "unseen must be one of 'refuse', 'missing'"),
    "sort": (dict(sort=1), "sort must be True or False"),
    "period": (dict(cyclic={"bili": 0}), r"cyclic\['bili'\] must be finite and greater than 0"),
    "cyclic": (dict(cyclic=["bili"]), "cyclic must be a dict by name, got list"),
    "cyclic category": (dict(cyclic={"ward": 3}), "each column must have one role, got 'ward'"),
    "memoryless": (dict(memoryless=["age"]), "memoryless must name columns of visits, got 'age'"),
    "levels": (dict(levels={"bili": [1]}), "levels must name columns of categories, got 'bili'"),
    "no levels": (dict(levels={"ward": []}), r"levels\['ward'\] must have at least one level"),
    "no level": (dict(levels={"ward": ["x", None]}), "must not have a level that is missing, got None"),
    "ordered": (dict(ordered=["ward"]), "ordered must name categories whose levels are given or ordered by pandas"),
    "units": (dict(units={"note": "mg"}), "units must name columns of the panel, got 'note'"),
    "unit": (dict(units={"bili": 3}), r"units\['bili'\] must be a str, got int"),
    "titles": (dict(titles={"note": "Note"}), "titles must name columns of the panel, got 'note'"),
    "several ids": (dict(id=["person", "site"]), r"id must name one column, got \['person', 'site'\]"),
    "a copy": (dict(static=["age", "site"]), "got 'site' in 2 roles; a copy with another name may have another"),
    "only id": (dict(time=None), "id and time must both be given, or neither"),
    "no index": (dict(id=None, time=None), "must have an index of \\(id, time\\) where they are not named, got 1"),
    "unit of time": (dict(time_unit=3), "time_unit must be a str"),
}  # fmt: skip


@pytest.mark.parametrize("case", ROLE_ERRORS)
def test_roles_that_contradict_each_other_are_refused(case: str) -> None:
    changes, message = ROLE_ERRORS[case]
    with pytest.raises((TypeError, ValueError), match=message):
        panel(**changes)


def test_tables_that_are_none_are_refused() -> None:
    with pytest.raises(TypeError, match="a Panel is made by from_frame, from_array or from_series, got DataFrame"):
        rnam.Panel(visits())  # type: ignore[arg-type]
    for df, message in (
        (visits().iloc[:0], "df must have at least one row"),
        (visits().to_numpy(), "df must be a DataFrame of pandas or polars, got ndarray"),
        (pandas.concat([visits(), visits()[["note"]]], axis=1), "must have different names, got 'note' 2 times"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            rnam.Panel.from_frame(df, **ROLES)
    equal = visits().set_index(["person", "day"]).rename_axis(["a", "a"])
    with pytest.raises(ValueError, match="levels of the index must have different names, got 'a' twice"):
        rnam.Panel.from_frame(equal, values=["bili"])
    df = visits().set_index(["person", "day"]).assign(day=0)
    with pytest.raises(ValueError, match="levels of the index must not be columns, too, got 'day'"):
        rnam.Panel.from_frame(df, values=["bili"])


def test_rows_of_people_who_take_turns_are_checked_for_their_order() -> None:
    df = visits().iloc[[4, 1, 2, 3, 0, 5]]
    with pytest.raises(ValueError, match="must be in order of time, got person 'c' at day 0 after 9"):
        rnam.Panel.from_frame(df, **ROLES)
    df = pandas.concat([visits(), visits().iloc[[1]]])
    with pytest.raises(ValueError, match="one row for each time, got two, person 'a' at day 1"):
        rnam.Panel.from_frame(df, sort=True, **ROLES)


def test_an_index_of_times_and_then_ids_is_refused_unless_it_is_named() -> None:
    df = visits().assign(day=pandas.to_datetime(visits()["day"], unit="D"))
    turned = df.set_index(["day", "person"])
    with pytest.raises(ValueError, match=r"the index must be \(id, time\), got datetime64.* and then .*; id='person'"):
        rnam.Panel.from_frame(turned, values=["bili"])
    named = rnam.Panel.from_frame(turned, id="person", time="day", values=["bili"])
    assert named.equals(rnam.Panel.from_frame(df.set_index(["person", "day"]), values=["bili"]))


def test_numbers_as_words_are_refused_where_words_are_levels() -> None:
    df = visits().assign(age=["50", "41", None, "33", "50", "41"])
    with pytest.raises(ValueError, match="column 'age' must hold numbers or words, got numbers as words, such as '50'"):
        rnam.Panel.from_frame(df, **ROLES)
    levels = rnam.Panel.from_frame(df, **{**ROLES, "categories": ["ward", "age"]})
    assert levels.schema.static_categories[0].levels == ("33", "41", "50")


def test_what_is_no_id_and_no_panel_is_refused() -> None:
    p = panel()
    for call, message in (
        (lambda: p[0:5], r"ids must be one id or a list of ids, got slice\(0, 5, None\); take"),
        (lambda: p[p.lengths > 1], r"ids must be one id or a list of ids, got bools; take\(np.flatnonzero"),
        (lambda: rnam.Panel.from_frame(visits(), like=visits()), "like must be a Panel, got DataFrame"),
        (lambda: p.reindex(visits()), "like must be a Panel, got DataFrame"),
    ):
        with pytest.raises(TypeError, match=message):
            call()
    assert p[[]].describe()["missing"].isna().all()
