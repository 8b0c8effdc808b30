"""What a panel holds of a table, and how it shows it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import rnam
from tests.panel.support import ROLES, panel, people, people_panel, visits
from tests.support.assertions import assert_equal

pandas = pytest.importorskip("pandas")


def test_arrays_hold_one_id_after_the_other_in_the_order_of_their_first_rows() -> None:
    p = panel()
    assert list(p) == list(p.ids) == ["c", "a", "b"] and len(p) == 3 and "a" in p and "d" not in p
    assert_equal("lengths", p.lengths, np.array([2, 3, 1]))
    assert_equal("offsets", p.offsets, np.array([0, 2, 5, 6]))
    assert_equal("times", p.times, np.array([0.0, 9, 1, 4, 11, 2]))
    values = np.array([[1.0, 0], [5, 1], [2, 1], [np.nan, 1], [6, 0], [4, 0]])
    assert_equal("values", p.values, values, nan=True)
    assert_equal("observed", p.observed, ~np.isnan(values))
    assert_equal("codes", p.codes[:, 0], np.array([0, 0, 1, -1, 2, 0], np.int32))
    assert_equal("static", p.static, np.array([[50.0], [41], [33]]))
    assert_equal("static codes", p.static_codes, np.array([[0], [1], [0]], np.int32))
    assert_equal("target", p.target, np.array([True, False, True]))
    assert_equal("weight", p.weight, np.array([1.0, 2, 0]))
    assert list(p.groups) == [7, 7, 8] and p.labelled is not None and p.labelled.all()


def test_columns_know_their_names_units_and_levels() -> None:
    bili, hepato, ward, age, sex = panel().columns
    assert (bili.name, bili.title, bili.unit, hepato.title, age.name) == ("bili", "Bilirubin", "mg/dl", "hepato", "age")
    assert ward.levels == ("x", "y", "z") and sex.levels == ("f", "m") and bili.levels is None
    assert panel().schema.targets[0].name == "died" and panel().at == "id" and panel().time_unit == ""


def test_a_panel_says_what_it_holds() -> None:
    assert repr(panel()) == (
        "Panel: 3 ids (person), 6 visits, 1 to 3 each\n"
        "  time        day, 0 to 11\n"
        "  values      Bilirubin (mg/dl), hepato; 8.3% missing\n"
        "  categories  ward [3 levels]; 16.7% missing\n"
        "  static      age, sex [2 levels]\n"
        "  target      died at ids, 3 of 3 labelled\n"
        "  weight      weight\n"
        "  groups      site, 2"
    )
    assert repr(panel().take([])) == "Panel of no ids" and repr(panel()["b"]).startswith(
        "Panel: 1 id (person), 1 visit,"
    )
    told = panel().describe()
    assert list(told.index) == ["bili", "hepato", "ward", "age", "sex", "died"]
    assert (
        told.loc["bili", "missing"] == 1 / 6 and told.loc["bili", "mean"] == 3.6 and told.loc["bili", "unit"] == "mg/dl"
    )
    assert told.loc["ward", "levels"] == 3 and told.loc["died", "max"] == 1
    empty = rnam.Panel.from_frame(visits().assign(x=np.nan), id="person", time="day", values=["x"]).describe()
    assert empty.loc["x", "missing"] == 1 and list(empty.columns) == ["role", "unit", "missing"]


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["float32", "float32"], np.float32),
        (["float32", "int16"], np.float32),
        (["bool", "float16"], np.float32),
        (["float32", "int32"], np.float64),
        (["float64", "float32"], np.float64),
        (["Int8", "float32"], np.float64),
        (["object", "float32"], np.float64),
    ],
)
def test_values_are_float32_where_that_holds_them(dtypes: list[str], expected: Any) -> None:
    df = pandas.DataFrame({"id": [0, 0], "t": [0, 1], "a": [0, 1], "b": [1, 1]}).astype(
        dict(zip("ab", dtypes, strict=True))
    )
    p = rnam.Panel.from_frame(df, id="id", time="t", values=["a", "b"])
    assert_equal("values", p.values, np.array([[0, 1], [1, 1]], expected))
    assert p.to_frame().dtypes[["a", "b"]].astype(str).tolist() == [d.replace("object", "float64") for d in dtypes]


def test_gaps_of_every_kind_are_missing() -> None:
    df = pandas.DataFrame(
        {
            "id": [1, 1, 1],
            "t": [0, 1, 2],
            "none": pandas.Series([None, 1, 2], dtype=object),
            "na": pandas.array([1, None, 2], dtype="Int64"),
            "nan": [1.0, 2.0, np.nan],
        }
    )
    p = rnam.Panel.from_frame(df, id="id", time="t", values=["none", "na", "nan"])
    assert_equal("observed", p.observed, ~np.eye(3, dtype=bool))


def test_a_value_of_an_id_may_stand_in_some_of_its_rows() -> None:
    df = visits().astype({"died": object})
    df.loc[1, ["age", "sex", "died"]] = None
    df.loc[[0, 4], "sex"] = None
    p = rnam.Panel.from_frame(df, **ROLES)
    assert_equal("static", p.static, np.array([[50.0], [41], [33]]))
    assert_equal("static codes", p.static_codes, np.array([[-1], [1], [0]], np.int32))
    assert_equal("target", p.target, np.array([1.0, 0, 1]))
    df["died"] = [None, 0, 0, 1, None, 0]
    p = rnam.Panel.from_frame(df, **ROLES)
    assert_equal("target", p.target, np.array([np.nan, 0, 1]), nan=True)
    assert_equal("labelled", p.labelled, np.array([False, True, True]))


def test_rows_are_sorted_where_that_is_asked_for() -> None:
    shuffled = visits().sample(frac=1, random_state=2)
    p = rnam.Panel.from_frame(shuffled, sort=True, **ROLES)
    assert p[["c", "a", "b"]].equals(panel())


def test_an_index_of_ids_and_times() -> None:
    df = visits().set_index(["person", "day"])
    roles = {name: value for name, value in ROLES.items() if name not in ("id", "time")}
    p = rnam.Panel.from_frame(df, **roles)
    assert p.equals(panel())
    assert rnam.Panel.from_frame(df, like=p).equals(p) and rnam.Panel.from_frame(visits(), like=p).equals(p)
    order = [0, 4, 1, 2, 5, 3]
    pandas.testing.assert_frame_equal(p.to_frame(), df.iloc[order].drop(columns="note"))


def test_a_frame_of_another_package_comes_through_to_pandas() -> None:
    class Polars:
        def __init__(self) -> None:
            self.schema: dict[str, Any] = {}

        def to_pandas(self) -> Any:
            return visits()

    assert rnam.Panel.from_frame(Polars(), **ROLES).equals(panel())


def test_labels_at_visits_and_several_of_any_kind() -> None:
    p = people_panel()
    df = people()
    assert_equal("target", p.target, df["label"].to_numpy(), nan=True)
    df["grade"] = np.where(df["x"] > 0, "good", "bad")
    df.loc[0, "grade"] = None
    p = rnam.Panel.from_frame(df, id="person", time="day", values=["x"], target=["label", "grade"], at="visit")
    assert p.schema.targets[1].levels == ("bad", "good") and p.target is not None and p.labelled is not None
    assert p.target.dtype == object and p.target[0, 1] is None and list(p.target[1:, 1]) == list(df["grade"][1:])
    assert_equal("labelled", p.labelled, df[["label", "grade"]].notna().to_numpy())
    grade = rnam.Panel.from_frame(df.iloc[1:], id="person", time="day", values=["x"], target="grade", at="visit").target
    assert grade is not None and list(grade) == list(df["grade"][1:])
    exact = panel(target=["died", "weight"], weight=None).target
    assert_equal("target", exact, np.array([[1.0, 1], [0, 2], [1, 0]]))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("Int64", np.int64), ("UInt8", np.uint8), ("boolean", np.bool_), ("Float32", np.float32), ("object", np.float64)],
)
def test_labels_of_a_nullable_dtype_have_that_of_numpy_where_there_are_no_gaps(dtype: str, expected: Any) -> None:
    labels = pandas.Series([1, 1, 0], dtype="float").astype(dtype)
    df = pandas.DataFrame({"id": [1, 1, 2], "t": [0, 1, 0], "x": 1.0, "y": labels})
    roles: dict[str, Any] = dict(id="id", time="t", values=["x"], target="y")
    assert_equal("of ids", rnam.Panel.from_frame(df, **roles).target, np.array([1, 0], expected))
    p = rnam.Panel.from_frame(df, **roles, at="visit")
    assert_equal("of visits", p.target, np.array([1, 1, 0], expected))
    df.loc[0, "y"] = None
    gaps = rnam.Panel.from_frame(df, **roles, at="visit")
    assert_equal("with a gap", gaps.target, np.array([np.nan, 1, 0]), nan=True)
    assert p.to_frame()["y"].dtype == gaps.to_frame()["y"].dtype == ("float64" if dtype == "object" else dtype)


@pytest.mark.parametrize("dtype", ["category", "str", "object", "datetime64[s]", "Int64", "bool"])
def test_ids_and_groups_of_any_kind(dtype: str) -> None:
    df = visits()[["day", "bili"]]
    numbers = pandas.Series([0, 1, 1, 0, 0, 1])
    df["id"] = df["group"] = (
        numbers.astype(dtype) if dtype != "datetime64[s]" else pandas.to_datetime(numbers, unit="D")
    )
    df = df.sort_values(["id", "day"], ignore_index=True)
    p = rnam.Panel.from_frame(df, id="id", time="day", values=["bili"], group="group")
    first, second = p.ids
    assert second in p and p[second].values[:, 0].tolist()[0] == 2.0
    pandas.testing.assert_frame_equal(p.to_frame(), df)
    assert rnam.Panel.concat([p[[first]], p[[second]]]).to_frame()["bili"].equals(df["bili"])
    assert [len(part) for part in p.split([0.5, 0.5], seed=0)] == [1, 1]


def test_ids_are_taken_by_name_and_by_position() -> None:
    p = panel()
    assert list(p["a"]) == ["a"] and list(p[["b", "c"]]) == ["b", "c"]
    assert_equal("values", p[["b", "c"]].values[:, 0], np.array([4.0, 1, 5]))
    assert p.take([2, 0]).equals(p[["b", "c"]]) and p.take([]).lengths.shape == (0,)
    with pytest.raises(KeyError, match="no person 'd' among 3 ids"):
        p["d"]
    for wrong, message in (([3], "from 0 to 2, got 3"), ([0, 0], "must be different"), ([0.5], "whole numbers")):
        with pytest.raises((TypeError, ValueError), match=message):
            p.take(wrong)


def test_parts_share_the_memory_of_the_visits_and_nothing_writes_to_it() -> None:
    df = people()
    p = people_panel()
    first = p.take([2, 3, 4])
    assert np.shares_memory(first.values, p.values) and np.shares_memory(first.codes, p.codes)
    for train, test in (*p.folds(3, seed=0), *p.folds(2, by="time")):
        assert train._parts.visits is p._parts.visits is test._parts.visits
    with pytest.raises(ValueError, match="read-only"):
        p.values[0] = 0
    before = p.to_frame()
    roles = dict(id="person", time="day", values=["x"], categories=["kind"], static=["sex"], target="label", at="visit")
    own = rnam.Panel.from_frame(df, **roles)
    dates = pandas.DataFrame({"person": 0, "day": pandas.date_range("2013", periods=3), "x": 1.0})
    dated = rnam.Panel.from_frame(dates, id="person", time="day", values=["x"])
    dates.loc[:, "day"] = dates["day"][0]
    assert list(np.diff(dated.times)) == [1, 1]
    df.loc[:, "x"] = 0.0  # in the memory of the table
    df.loc[:, "day"] = -1
    df.loc[:, "label"] = 7.0
    assert own.equals(p)
    pandas.testing.assert_frame_equal(p.to_frame(), before)
    assert p.take([5, 1]).copy().equals(p.take([5, 1]))
    assert not np.shares_memory(p.copy().values, p.values)


def test_a_pickle_of_a_part_has_its_own_visits_alone() -> None:
    p = people_panel()
    parts = (p, p.take([1]), p.split(until=[20])[1], p.windows(2))
    sizes = [len(pickle.loads(pickle.dumps(part))._parts.visits.stamps) for part in parts]
    assert sizes == [len(p.times), p.lengths[1], parts[2].lengths.sum(), len(p.times)]
    for part in parts:
        loaded = pickle.loads(pickle.dumps(part))
        assert type(loaded) is rnam.Panel and loaded.equals(part)
        assert not loaded.static.flags.writeable and not loaded.lengths.flags.writeable


def test_equal_panels_have_equal_contents() -> None:
    assert panel().equals(panel()) and not panel().equals(panel(weight=None)) and not panel().equals(1)
    for column, value in (("bili", 9.0), ("ward", "z"), ("day", 12), ("weight", 2.0), ("person", "q")):
        df = visits()
        df.loc[3, column] = value
        assert not rnam.Panel.from_frame(df, **ROLES).equals(panel()), column
    assert not panel().equals(panel(units={})) and not panel().equals(panel()[["a", "b", "c"]])


def test_importing_rnam_needs_no_pandas_and_the_panel_names_the_extra() -> None:
    program = (
        "import sys, rnam; assert 'pandas' not in sys.modules; sys.modules['pandas'] = None\n"
        "try: rnam.Panel\nexcept ImportError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "rnam.Panel needs pandas, which is not installed: pip install 'rnam[sklearn]'"
