"""Tables of polars, and columns that pandas has of pyarrow: each kind is read, refused and given back as its like."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import rnam
from tests.panel.support import ROLES, panel, visits
from tests.support.assertions import assert_equal

pandas = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")

DAY = datetime.date(2013, 10, 27)
NOON = datetime.datetime(2013, 10, 27, 12)


def arrow(values: Any, dtype: Any = None) -> Any:
    return pandas.Series(pandas.arrays.ArrowExtensionArray(pa.array(values, dtype)))


def table(x: Any, **columns: Any) -> Any:
    """Two ids with two visits each."""
    return pandas.DataFrame({"id": [1, 1, 2, 2], "t": [0, 1, 0, 1], "x": x, "z": 1.0, **columns})


def read(df: Any, **roles: Any) -> rnam.Panel:
    return rnam.Panel.from_frame(df, **{"id": "id", "time": "t", "values": ["z"], **roles})


NUMBERS = {
    "int8": ([1, 2, 3, 4], pa.int8()),
    "int64": ([1, None, 3, 4], pa.int64()),
    "uint64": ([1, 2, None, 4], pa.uint64()),
    "float": ([1.5, None, 3.0, 4.0], pa.float32()),
    "double": ([1.5, 2.0, None, 4.0], pa.float64()),
    "decimal": ([Decimal("1.25"), None, Decimal(2), Decimal(3)], pa.decimal128(5, 2)),
    "bool": ([True, None, False, True], pa.bool_()),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_pyarrow_are_numbers(kind: str) -> None:
    values, dtype = NUMBERS[kind]
    df = table(arrow(values, dtype))
    exact = np.array([np.nan if value is None else float(value) for value in values])
    p = read(df, values=["x"])
    assert_equal("values", p.values[:, 0], exact, nan=True)
    pandas.testing.assert_frame_equal(p.to_frame(), df.drop(columns="z"))
    target = read(df, target="x", at="visit")
    assert target.target is not None
    assert_equal("target", target.target.astype(np.float64), exact, nan=True)
    pandas.testing.assert_frame_equal(target.to_frame(), df[["id", "t", "x", "z"]])
    full = read(df.assign(x=df["x"].take([0, 0, 3, 3]).array), static=["x"])
    assert_equal("static", full.static, exact[[0, 3], None])


def test_labels_of_pyarrow_have_the_dtype_of_numpy_where_there_are_no_gaps() -> None:
    for dtype, expected in ((pa.int64(), np.int64), (pa.bool_(), np.bool_), (pa.float32(), np.float32)):
        got = read(table(arrow([1, 0, 0, 1]).astype(pandas.ArrowDtype(dtype))), target="x", at="visit").target
        assert_equal("target", got, np.array([1, 0, 0, 1], expected))


def test_what_pyarrow_has_as_nan_is_missing_among_levels_ids_and_groups() -> None:
    x = arrow(pa.array([1.5, np.nan, 2.0, None], pa.float64()))
    assert_equal("codes", read(table(x), categories=["x"]).codes[:, 0], np.array([0, -1, 1, -1], np.int32))
    with pytest.raises(ValueError, match="column 'x' must have an id in each row, got nan in row 1"):
        read(table(x), id="x")
    with pytest.raises(ValueError, match="column 'x' must have a group in each row, got nan, id 1 at t 1"):
        read(table(x), group="x")


@pytest.mark.parametrize("dtype", [pa.string(), pa.large_string(), "dictionary"])
def test_words_of_pyarrow_are_levels_classes_ids_and_groups(dtype: Any) -> None:
    words = pa.array(["b", None, "a", "a"])
    x = arrow(words.dictionary_encode() if dtype == "dictionary" else words.cast(dtype))
    df = table(x, own=x.take([0, 0, 2, 3]).array)
    p = read(df, categories=["x"], static=["own"])
    levels = ("b", "a") if dtype == "dictionary" else ("a", "b")  # a dictionary has an order, as a category has
    assert p.schema.categories[0].levels == p.schema.static_categories[0].levels == levels
    assert [levels[code] if code >= 0 else None for code in p.codes[:, 0]] == words.to_pylist()
    assert list(p.to_frame()["own"]) == ["b", "b", "a", "a"]
    if dtype != "dictionary":
        pandas.testing.assert_frame_equal(p.to_frame(), df)
    assert rnam.Panel.from_frame(p.to_frame(), like=p).equals(p)
    classes = read(df, target="own").target
    assert classes is not None and classes.tolist() == ["b", "a"]
    named = read(df, id="own")
    assert list(named) == ["b", "a"] and list(read(df, group="own").groups) == ["b", "a"]
    assert rnam.Panel.concat([named["b"], named["a"]]).equals(named)


def test_numbers_as_words_of_pyarrow_are_refused() -> None:
    numbers = table(arrow(["1", None, "2", "3"], pa.string()))
    with pytest.raises(ValueError, match="must hold numbers or words, got numbers as words, such as '1'"):
        read(numbers, static=["x"])
    numbers["x"] = arrow(["1", None, "<2", "3"], pa.string())
    with pytest.raises(ValueError, match="column 'x' must hold numbers, got '<2', id 2 at t 0; name it in categories"):
        read(numbers, values=["x"])


def test_a_dictionary_of_pyarrow_is_a_category() -> None:
    codes, values = pa.array([1, 0, None, 1]), pa.array([5, 7, 9])
    x = arrow(pa.DictionaryArray.from_arrays(codes, values, ordered=True))
    column = read(table(x), categories=["x"]).schema.categories[0]
    assert column.levels == (5, 7, 9) and column.ordered
    with pytest.raises(ValueError, match="column 'x' must hold numbers, got category; name it in categories"):
        read(table(x), values=["x"])
    df = table(x)
    read(df, categories=["x"])
    assert isinstance(df["x"].dtype, pandas.ArrowDtype)  # the caller's table is as it was


TIMES = {
    "int16": ([0, 3], pa.int16(), [0, 3]),
    "uint64": ([0, 3], pa.uint64(), [0, 3]),
    "double": ([0.5, 3.0], pa.float64(), [0.5, 3]),
    "timestamp": ([NOON, NOON + datetime.timedelta(1)], pa.timestamp("us"), [16005.5, 16006.5]),
    "seconds": ([NOON, NOON + datetime.timedelta(1)], pa.timestamp("s"), [16005.5, 16006.5]),
    "zone": ([NOON, NOON + datetime.timedelta(1)], pa.timestamp("ms", "Europe/Berlin"), [16005.5, 16006.5]),
    "date32": ([DAY, DAY + datetime.timedelta(2)], pa.date32(), [16005, 16007]),
    "date64": ([DAY, DAY + datetime.timedelta(2)], pa.date64(), [16005, 16007]),
    "duration": ([datetime.timedelta(0), datetime.timedelta(1.5)], pa.duration("s"), [0, 1.5]),
}


@pytest.mark.parametrize("kind", TIMES)
def test_times_of_pyarrow_are_exact_and_come_back(kind: str) -> None:
    values, dtype, exact = TIMES[kind]
    df = pandas.DataFrame({"id": "p", "t": arrow(values, dtype), "z": 1.0})
    p = read(df)
    assert_equal("times", p.times, np.array(exact, np.float64))
    pandas.testing.assert_frame_equal(p.to_frame(), df)
    assert read(df.set_index(["id", "t"]), id=None, time=None).to_frame().equals(df.set_index(["id", "t"]))
    other = read(df.assign(id="q"))
    assert rnam.Panel.concat([p, other]).to_frame()["t"].dtype == df["t"].dtype
    df["t"] = arrow([values[0], None], dtype)
    with pytest.raises(ValueError, match="column 't' must have a time in each row, got none, id 'p'"):
        read(df)


def test_dates_of_two_units_with_a_zone_are_joined_in_the_finer_one() -> None:
    fine, coarse = (arrow([NOON], pa.timestamp(unit, "Europe/Berlin")) for unit in ("us", "s"))
    frames = [pandas.DataFrame({"id": id, "t": times, "z": 1.0}) for id, times in (("p", coarse), ("q", fine))]
    assert rnam.Panel.concat(map(read, frames)).stamps.dtype == fine.dtype


REFUSED = {
    "list": ([[1], [2], [3], None], pa.list_(pa.int64())),
    "struct": ([{"a": 1}] * 4, pa.struct([("a", pa.int64())])),
    "binary": ([b"a", b"b", None, b"c"], pa.binary()),
    "date": ([DAY] * 4, pa.date32()),
    "timestamp": ([NOON] * 4, pa.timestamp("us")),
    "time": ([datetime.time(1)] * 4, pa.time64("us")),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_neither_number_nor_word_is_refused_by_its_column(kind: str) -> None:
    df = table(arrow(*REFUSED[kind]))
    with pytest.raises((TypeError, ValueError), match="column 'x' must hold numbers"):
        read(df, values=["x"])
    with pytest.raises(TypeError, match="column 'x' must hold words, numbers or bools as levels"):
        read(df, categories=["x"])
    if kind in ("list", "struct"):
        with pytest.raises(TypeError, match="column 'x' must hold words, numbers or dates as ids"):
            read(df, id="x")


def test_large_whole_numbers_of_pyarrow_are_refused() -> None:
    df = table(arrow([1, None, 2**53 + 1, 4], pa.int64()))
    with pytest.raises(ValueError, match=r"at most 2\*\*53, got 9007199254740993, id 2 at t 0"):
        read(df, values=["x"])
    df["t"] = arrow([0, 1, 2**63, 2**63 + 1], pa.uint64())
    with pytest.raises(ValueError, match=r"times of column 't' must be at most 2\*\*53 in size, got 922.*808, id 2"):
        read(df)


# polars


def test_a_table_of_polars_is_that_of_pandas() -> None:
    polars = pytest.importorskip("polars")
    assert rnam.Panel.from_frame(polars.from_pandas(visits()), **ROLES).equals(panel())
    with pytest.raises(TypeError, match="df must be a DataFrame of pandas or polars, got LazyFrame"):
        rnam.Panel.from_frame(polars.from_pandas(visits()).lazy(), **ROLES)


def test_each_kind_of_column_of_polars() -> None:
    polars = pytest.importorskip("polars")
    columns = {
        "id": ["p", "p", "q"], "t": [DAY, DAY + datetime.timedelta(1), DAY],
        "whole": [1, None, 3], "float": [0.5, None, float("nan")], "bool": [True, None, False],
        "word": ["a", None, "b"], "decimal": [Decimal("1.5"), None, Decimal(2)],
        "category": polars.Series(["b", None, "a"], dtype=polars.Categorical),
        "enum": polars.Series(["b", None, "a"], dtype=polars.Enum(["c", "b", "a"])),
        "label": polars.Series([1, 0, 1], dtype=polars.Int8),
    }  # fmt: skip
    df = polars.DataFrame(columns)
    p = rnam.Panel.from_frame(
        df, id="id", time="t", values=["whole", "float", "decimal", "bool"], categories=["word", "category", "enum"],
        target="label", at="visit",
    )  # fmt: skip
    nan = np.nan
    expected = np.array([[1, 0.5, 1.5, 1], [nan, nan, nan, nan], [3, nan, 2, 0]])
    assert_equal("values", p.values, expected, nan=True)
    assert_equal("times", p.times, np.array([16005.0, 16006, 16005]))
    assert_equal("target", p.target, np.array([1, 0, 1], np.int8))
    word, category, enum = p.schema.categories
    assert word.levels == ("a", "b") and set(category.levels or ()) == {"a", "b"}
    assert enum.levels == ("c", "b", "a") and enum.ordered
    assert p.codes[:, 2].tolist() == [1, -1, 2] and p.to_frame()["whole"].tolist() == [1, pandas.NA, 3]
    large = df.with_columns(whole=polars.Series([1, None, 2**53 + 1]))
    with pytest.raises(ValueError, match=r"column 'whole' must hold .* at most 2\*\*53, got 9007199254740993"):
        rnam.Panel.from_frame(large, id="id", time="t", values=["whole"])
