"""Plain values come back from JSON as they were, with their types; what is none is refused by its place."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import zoneinfo
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

pandas = pytest.importorskip("pandas")

from rnam.estimators.codec import Record, decode, encode  # noqa: E402
from rnam.panel.schema import Column, Schema  # noqa: E402
from rnam.panel.times import Clock  # noqa: E402


@dataclass(frozen=True)
class Point:
    x: Any
    y: Any = None


@dataclass(frozen=True)
class Told:
    """One that tells its parts itself."""

    code: Any

    def to_dict(self) -> dict[str, Any]:
        return {"number": self.code * 2}

    @classmethod
    def from_dict(cls, parts: dict[str, Any]) -> Told:
        return cls(parts["number"] // 2)


RECORDS = {each.__name__: Record.of(each) for each in (Point, Told, Column, Clock, Schema)}


def there_and_back(value: Any) -> Any:
    text = json.dumps(encode("value", value, RECORDS), allow_nan=False)
    return decode("value", json.loads(text), RECORDS)


def same(a: Any, b: Any) -> bool:
    """Of one type, and equal with NaN equal to NaN, 0.0 other than -0.0, and dicts in one order."""
    if a is b or type(a) is not type(b):
        return a is b
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and same(a.ravel().tolist(), b.ravel().tolist())
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and same(a.item(), b.item())
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, datetime.datetime):
        return a == b and str(a.tzinfo) == str(b.tzinfo) and a.fold == b.fold
    if isinstance(a, Point):
        return same((a.x, a.y), (b.x, b.y))
    return bool(a == b)


ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "UTC"])
TIMEZONES = st.none() | ZONES.map(zoneinfo.ZoneInfo) | st.integers(-1439, 1439).map(
    lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes))
)  # fmt: skip
DTYPES = (
    of_numpy.boolean_dtypes() | of_numpy.integer_dtypes() | of_numpy.floating_dtypes(endianness="=", sizes=(16, 32, 64))
)
DATES = of_numpy.datetime64_dtypes(endianness="=") | of_numpy.timedelta64_dtypes(endianness="=")
UNITS = st.sampled_from(["s", "ms", "us", "ns"])
STAMPS = st.integers(-(2**31), 2**31)  # from 1901 to 2038 in seconds


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("=")


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=5),
    st.text(st.characters(), max_size=5).map(np.str_),
    (DTYPES.map(native) | DATES).flatmap(of_numpy.from_dtype),
    st.dates(),
    st.datetimes(timezones=TIMEZONES),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.builds(lambda n, unit: pandas.Timestamp(np.datetime64(n, unit)), STAMPS, UNITS),
    st.builds(lambda n, zone: pandas.Timestamp(n, unit="s", tz=zone), STAMPS, ZONES),
    st.builds(lambda n, unit: pandas.Timedelta(np.timedelta64(n, unit)), STAMPS, UNITS),
    st.builds(lambda n, freq: pandas.Period(ordinal=n, freq=freq), st.integers(-100, 1000), st.sampled_from("YMDh")),
    st.builds(lambda a, b: pandas.Interval(a, a + b, "left"), st.integers(-9, 9), st.floats(0, 9)),
    st.sampled_from([pandas.NaT, pandas.NA]),
)
SHAPES = of_numpy.array_shapes(min_dims=0, max_dims=2, max_side=3)
ARRAYS = (DTYPES.map(native) | DATES | of_numpy.unicode_string_dtypes(endianness="=", max_len=3)).flatmap(
    lambda dtype: of_numpy.arrays(dtype, SHAPES)
) | of_numpy.arrays(np.dtype(object), SHAPES, elements=SCALARS)
KEYS = st.text(max_size=3) | st.integers() | st.booleans() | st.tuples(st.text(max_size=2), st.integers())
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.builds(Point, inner, inner)
    ),
    max_leaves=6,
)


@given(VALUES)
def test_a_value_comes_back_with_its_type(value: Any) -> None:
    assert same(there_and_back(value), value)


@given(VALUES)
def test_what_came_back_is_written_alike(value: Any) -> None:
    assert json.dumps(encode("value", there_and_back(value), RECORDS)) == json.dumps(encode("value", value, RECORDS))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                    | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["a", "$tuple", "$map", "$numpy", "$array", "$float", "$Point", "$Timestamp",
                                         "$datetime", "$dtype", "$no", "$missing", "$categories"]), inner, max_size=2),
                    max_leaves=8))  # fmt: skip
def test_any_json_is_a_value_or_a_value_error(found: Any) -> None:
    """Nothing but ValueError comes out of a file that somebody wrote by hand."""
    with contextlib.suppress(ValueError):
        decode("value", found, RECORDS)


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype("float32"),
        np.dtype(">f8"),
        np.dtype("U7"),
        np.dtype("datetime64[us]"),
        np.dtype(object),
        pandas.CategoricalDtype(),
        pandas.CategoricalDtype(["b", "a"], ordered=True),
        pandas.CategoricalDtype([3, 1]),
        pandas.CategoricalDtype(pandas.interval_range(0, 3)),
        pandas.CategoricalDtype(pandas.to_datetime(["2020", "2021"])),
        pandas.StringDtype("python"),
        pandas.Series(["a"]).dtype,
        pandas.Int64Dtype(),
        pandas.BooleanDtype(),
        pandas.DatetimeTZDtype("ns", "Europe/Berlin"),
        pandas.DatetimeTZDtype("us", datetime.timezone(datetime.timedelta(hours=2))),
        pandas.PeriodDtype("M"),
        pandas.IntervalDtype("int64"),
        pandas.SparseDtype(float),
    ],
    ids=str,
)
def test_a_dtype_comes_back(dtype: Any) -> None:
    found = there_and_back(dtype)
    assert type(found) is type(dtype) and found == dtype
    if isinstance(dtype, pandas.CategoricalDtype) and dtype.categories is not None:
        assert list(found.categories) == list(dtype.categories)  # equality knows no order


def test_a_schema_comes_back_with_the_dtypes_of_its_columns() -> None:
    ward = Column("ward", "Ward", levels=("a", 1, True), dtype=pandas.CategoricalDtype(["a"]), parts=("p", ("q", 2)))
    clock = Clock("day", "date", "day", np.dtype("datetime64[s]"))
    schema = Schema(("id",), clock, (Column(3, "3", "mg"),), (ward,), (), (), (), "visit", None, None, ("id", "day", 3))
    found = there_and_back(schema)
    assert found == schema and found.order == schema.order
    assert [column.dtype for _, column in found.columns()] == [None, pandas.CategoricalDtype(["a"])]
    assert found.clock.dtype == clock.dtype
    assert list(map(type, found.categories[0].levels)) == [str, int, bool]


def test_a_record_may_tell_its_parts_itself() -> None:
    assert encode("value", Told(4), RECORDS) == {"$Told": {"number": 8}}
    assert there_and_back(Told(4)) == Told(4)


def test_a_field_that_is_not_there_has_its_default() -> None:
    assert decode("value", {"$Point": {"x": 1}}, RECORDS) == Point(1, None)


def test_big_endian_numbers_come_back_in_the_order_of_the_machine() -> None:
    found = there_and_back(np.array([1, 2], ">i4"))
    assert found.dtype == np.int32 and found.tolist() == [1, 2]


def test_words_of_pyarrow_are_read_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = decode("value", {"$StringDtype": ["pyarrow", {"$float": "nan"}]})
    assert found == pandas.StringDtype("python", na_value=np.nan)


class Words(str):
    """A subclass, which would come back as its base."""


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (len, "got len, which is code"),
        ({"a": [1, print]}, r"value\['a'\]\[1\] must be a plain value to be saved, got print, which is code"),
        (int, "got int, which is code"),
        (np.random.default_rng(0), "got numpy.random._generator.Generator"),
        ({1, 2}, "got set"),
        (b"x", "got bytes"),
        (1j, "got complex"),
        (Words("a"), "got .*Words"),
        (np.longdouble(1), "must be numbers, words, dates or objects to be saved, got float"),
        (np.zeros(2, "i4,f4"), "must be numbers, words, dates or objects"),
        (np.array([1, 2j]), "must be numbers, words, dates or objects"),
        (pandas.Series([1]), "got pandas.*Series"),
        (Point(1, {2: len}), r"value.y\[2\] must be"),
        (datetime.time(3), "got datetime.time"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_plain_value_is_refused_by_its_place(value: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        encode("value", value, RECORDS)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"$exec": "print()"}, r"value must have a tag that is known, got \$exec"),
        ({"a": {"$tuple": 3}}, r"value\['a'\] must be a \$tuple, got 3"),
        ({"$float": "1.5"}, r"value must be a \$float, got '1.5'"),
        ({"$tuple": [], "a": 1}, r"value must have its tag \$tuple alone, got \$tuple, a"),
        ({"$map": [[1, 2], [1, 3]]}, r"\$map.*keys must differ"),
        ({"$map": [[[], 2]]}, r"value must be a \$map"),
        ({"$numpy": ["int8", 300]}, r"value must be a \$numpy"),
        ({"$numpy": ["int8", "3"]}, "a int is meant, not str"),
        ({"$array": ["float64", [3], [1.0, 2.0]]}, r"value must be a \$array"),
        ({"$array": ["V8", [0], []]}, "no dtype is called 'V8'"),
        ({"$array": ["<V8", [0], []]}, "no array is of <V8"),
        ({"$array": ["float64", [1], [None]]}, "a float is meant, not NoneType"),
        ({"$Point": {"z": 1}}, r"value must be a \$Point, got .*unexpected keyword"),
        ({"$Point": [1]}, r"value must be a \$Point"),
        ({"$Timestamp": [0, "s", "Nowhere/None"]}, r"value must be a \$Timestamp"),
        ({"$date": "2020-13-01"}, r"value must be a \$date"),
        ({"$dtype": "no"}, r"value must be a \$dtype"),
    ],
)
def test_a_tag_that_holds_what_it_cannot_is_refused(found: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        decode("value", found, RECORDS)
