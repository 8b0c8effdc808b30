"""Plain values as JSON and back, with their types: what JSON has no word for is an object of one key, its tag.

    ("a", 1)                      {"$tuple": ["a", 1]}
    nan, inf, -inf                {"$float": "nan"}
    {1: "a"}                      {"$map": [[1, "a"]]}, as are keys that begin with $
    numpy.int64(3)                {"$numpy": ["int64", 3]}
    numpy.array([1.0, 2.0])       {"$array": ["float64", [2], [1.0, 2.0]]}
    pandas.Timestamp("2020")      {"$Timestamp": [1577836800, "s", null]}
    a record, such as a Column    {"$Column": {"name": "wage", ...}}

Dates, times and durations of Python, decimals, periods, intervals, and the dtypes of NumPy and pandas have tags, too.
Nothing is looked up by a name that a file gives: the tags are those of this table, and records are those of the caller.
"""

from __future__ import annotations

import datetime
import decimal
import importlib.util
import math
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple, Self

import numpy as np
import pandas

__all__ = ["Record", "Records", "decode", "encode"]


class Record(NamedTuple):
    """How a class of the package is written: what its parts are by name, and how it is made of them."""

    kind: type
    parts: Callable[[Any], Mapping[str, Any]]
    make: Callable[[dict[str, Any]], Any]

    @classmethod
    def of(cls, kind: Any) -> Self:
        """Of a dataclass: by its own to_dict and from_dict, else by its fields."""
        if hasattr(kind, "to_dict"):
            return cls(kind, kind.to_dict, kind.from_dict)
        return cls(kind, lambda v: {f.name: getattr(v, f.name) for f in fields(v)}, lambda parts: kind(**parts))


Records = Mapping[str, Record]  # by the names that they have in files

_PLAIN = (bool, int, str, type(None))
_ITEMS = {"b": bool, "i": int, "u": int, "f": float, "U": str, "m": int, "M": int}  # of NumPy's kinds; O holds anything
_DTYPE = re.compile(
    r"(bool|object|(u?int|float)\d+|(datetime|timedelta)64(\[\w+\])?|[<>][a-zA-Z]\d*(\[\w+\])?)", re.ASCII
)
_LARGEST = 2**28  # bytes of an array: a width of words takes memory that the file does not show
_EXACT = 8  # bytes of the widest float that a Python float holds


def encode(where: str, value: Any, records: Records | None = None) -> Any:
    """`value` as JSON holds it: str, int, float, bool, None, lists, and objects with words as keys.

    Args:
        where: what the value is called, for errors.
        value: of the types above exactly. Subclasses are refused, since they would come back as another type. Arrays
            come back in the byte order of the machine, row by row.
        records: the classes of the package that it may hold.

    Raises:
        TypeError: it holds something else, which is named by its place.

    Example:
        >>> encode("widths", (64, float("inf")))
        {'$tuple': [64, {'$float': 'inf'}]}
    """
    return _Encoder({record.kind: (name, record) for name, record in (records or {}).items()}).any(where, value)


def decode(where: str, found: Any, records: Records | None = None) -> Any:
    """What `encode` was given.

    Args:
        where: what the value is called, for errors.
        found: what JSON gave.
        records: the classes of the package that it may hold. A field that is not there has its default.

    Raises:
        ValueError: a tag is unknown, or holds what it cannot.

    Example:
        >>> decode("widths", {"$tuple": [64, {"$float": "inf"}]})
        (64, inf)
    """
    return _Decoder(records or {}).any(where, found)


class _Encoder:
    def __init__(self, records: Mapping[type, tuple[str, Record]]) -> None:
        self.records = records

    def any(self, where: str, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if kind is list:
            return self.items(where, value)
        if kind is tuple:
            return {"$tuple": self.items(where, value)}
        if kind is dict:
            return self.mapping(where, value)
        if kind in self.records:
            name, record = self.records[kind]
            return {f"${name}": {part: self.any(f"{where}.{part}", own) for part, own in record.parts(value).items()}}
        if isinstance(value, np.generic):
            return {"$numpy": self.scalar(where, value)}
        if kind is np.ndarray:
            return {"$array": self.array(where, value)}
        return self.tagged(where, value)

    def items(self, where: str, values: Any) -> list[Any]:
        return [self.any(f"{where}[{n}]", value) for n, value in enumerate(values)]

    def mapping(self, where: str, value: dict[Any, Any]) -> Any:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: self.any(f"{where}[{key!r}]", item) for key, item in value.items()}
        pairs = [[self.any(f"a key of {where}", key), self.any(f"{where}[{key!r}]", v)] for key, v in value.items()]
        return {"$map": pairs}

    def scalar(self, where: str, value: np.generic) -> list[Any]:
        if type(value) is np.str_:  # which an array would rob of its last NULs
            return ["str", str(value)]
        name, _, (item,) = self.array(where, np.asarray(value))
        return [name, item]

    def array(self, where: str, array: Any) -> list[Any]:
        """The name of the dtype, the shape, and the items row by row; dates and durations count their units."""
        dtype = array.dtype.newbyteorder("=")
        if dtype.kind not in (*_ITEMS, "O") or (dtype.kind == "f" and dtype.itemsize > _EXACT):
            raise TypeError(f"{where} must be numbers, words, dates or objects to be saved, got {dtype}")
        flat = array.astype(dtype).reshape(-1)
        items = flat.view(np.int64) if dtype.kind in "mM" else flat
        return [_dtype_name(dtype), list(array.shape), self.items(where, items.tolist())]

    def tagged(self, where: str, value: Any) -> Any:
        for tag, (kinds, write, read) in _TAGS.items():
            if isinstance(value, kinds):
                try:
                    content = self.any(where, write(value))
                    if _same(read(decode(where, content)), value):
                        return {f"${tag}": content}
                except (TypeError, ValueError, AttributeError):
                    pass  # such as a date that is too early for its unit; refused below
                break
        raise TypeError(f"{where} must be a plain value to be saved, got {_told(value)}")


class _Decoder:
    def __init__(self, records: Records) -> None:
        self.records = records

    def any(self, where: str, found: Any) -> Any:
        if isinstance(found, list):
            return [self.any(f"{where}[{n}]", item) for n, item in enumerate(found)]
        if not isinstance(found, dict):
            return found
        tags = [key for key in found if key.startswith("$")]
        if not tags:
            return {key: self.any(f"{where}[{key!r}]", item) for key, item in found.items()}
        if len(found) != 1:
            raise _DamageError(f"{where} must have its tag {tags[0]} alone, got {', '.join(found)}")
        (tag, content), *_ = found.items()
        try:
            return self.tagged(where, tag[1:], content)
        except _DamageError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, ImportError) as error:
            raise _DamageError(f"{where} must be a {tag}, got {content!r}: {error}") from error

    def tagged(self, where: str, tag: str, content: Any) -> Any:
        if tag == "float":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[content]
        if tag == "tuple":
            return tuple(self.any(where, _a(list, content)))
        if tag == "map":
            pairs = self.any(where, _a(list, content))
            made = dict(pairs)
            if len(made) != len(pairs):
                raise ValueError("keys must differ")
            return made
        if tag == "numpy":
            name, item = content
            return np.str_(_a(str, item)) if name == "str" else self.array(where, name, [1], [item])[0]
        if tag == "array":
            return self.array(where, *content)
        if tag in self.records:
            parts = {name: self.any(f"{where}.{name}", own) for name, own in _a(dict, content).items()}
            return self.records[tag].make(parts)
        if tag not in _TAGS:
            raise _DamageError(f"{where} must have a tag that is known, got ${tag}")
        return _TAGS[tag][2](self.any(where, content))

    def array(self, where: str, name: Any, shape: Any, items: Any) -> Any:
        dtype, values = _dtype(name), self.any(where, _a(list, items))
        if dtype.kind not in (*_ITEMS, "O"):
            raise ValueError(f"no array is of {name}")
        if dtype.itemsize * len(values) > _LARGEST:
            raise ValueError(f"an array must have at most {_LARGEST:,} bytes, got {dtype.itemsize * len(values):,}")
        array = np.empty(len(values), np.int64 if dtype.kind in "mM" else dtype)
        for n, value in enumerate(values):  # one by one: NumPy would make more dimensions of lists
            array[n] = value if dtype.kind == "O" else _a(_ITEMS[dtype.kind], value)
        return (array.view(dtype) if dtype.kind in "mM" else array).reshape([_a(int, size) for size in shape])


class _DamageError(ValueError):
    """An error that names its place already."""


def _a(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"a {kind.__name__} is meant, not {type(value).__name__}")
    return value


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and (a is b or bool(a == b))


def _told(value: Any) -> str:
    kind = type(value)
    if isinstance(value, type) or callable(value):
        return f"{getattr(value, '__qualname__', kind.__qualname__)}, which is code"
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _dtype_name(dtype: np.dtype[Any]) -> str:
    return dtype.name if dtype.isnative and dtype.kind != "U" else dtype.str


def _dtype(name: Any) -> np.dtype[Any]:
    """Of names that `_dtype_name` gives; NumPy reads others, too, such as lists of fields."""
    if not _DTYPE.fullmatch(_a(str, name)):
        raise ValueError(f"no dtype is called {name!r}")
    found: np.dtype[Any] = np.dtype(name)
    return found


def _zone(moment: datetime.datetime) -> str | float | None:
    """The name of a zone, or the seconds that it is ahead of UTC; None without one."""
    zone = moment.tzinfo
    if zone is None:
        return None
    if isinstance(zone, datetime.timezone):
        return zone.utcoffset(None).total_seconds()
    return str(_a(zoneinfo.ZoneInfo, zone).key)


def _zone_of(told: str | float | None) -> datetime.tzinfo | None:
    if told is None:
        return None
    return zoneinfo.ZoneInfo(told) if isinstance(told, str) else datetime.timezone(datetime.timedelta(seconds=told))


def _read_datetime(content: Any) -> datetime.datetime:
    text, zone, fold = content
    return datetime.datetime.fromisoformat(text).replace(tzinfo=_zone_of(zone), fold=fold)


def _count(moment: Any) -> int:
    """A Timestamp (in UTC) or a Timedelta in its own unit."""
    return int(moment.to_numpy().astype(np.int64))


def _read_timestamp(content: Any) -> Any:
    count, unit, zone = content
    moment = pandas.Timestamp(np.datetime64(_a(int, count), unit))
    return moment if zone is None else moment.tz_localize("UTC").tz_convert(_zone_of(zone))


def _write_categories(dtype: Any) -> Any:
    if dtype.categories is None:
        return [None, None, dtype.ordered]
    return [dtype.categories.dtype, list(dtype.categories), dtype.ordered]


def _read_categories(content: Any) -> Any:
    dtype, levels, ordered = content
    return pandas.CategoricalDtype(None if levels is None else pandas.Index(levels, dtype=dtype), ordered)


def _read_words(content: Any) -> Any:
    """Words that lay in memory of pyarrow lie in Python's where it is not installed; they are the same words."""
    storage, na_value = content
    arrow = storage == "pyarrow" and importlib.util.find_spec("pyarrow") is not None
    return pandas.StringDtype("pyarrow" if arrow else "python", na_value=na_value)


# tag: the types, what is written of a value, and the value from it. The first type that fits is taken, and a value that
# does not come back the same is refused
_TAGS: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "Timestamp": (pandas.Timestamp, lambda v: [_count(v), v.unit, _zone(v)], _read_timestamp),
    "Timedelta": (
        pandas.Timedelta,
        lambda v: [_count(v), v.unit],
        lambda c: pandas.Timedelta(np.timedelta64(_a(int, c[0]), c[1])),
    ),
    "Period": (pandas.Period, lambda v: [v.ordinal, v.freqstr], lambda c: pandas.Period(ordinal=c[0], freq=c[1])),
    "Interval": (pandas.Interval, lambda v: [v.left, v.right, v.closed], lambda c: pandas.Interval(*c)),
    "missing": ((type(pandas.NaT), type(pandas.NA)), str, {"NaT": pandas.NaT, "<NA>": pandas.NA}.__getitem__),
    "datetime": (datetime.datetime, lambda v: [v.replace(tzinfo=None).isoformat(), _zone(v), v.fold], _read_datetime),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "timedelta": (
        datetime.timedelta,
        lambda v: [v.days, v.seconds, v.microseconds],
        lambda c: datetime.timedelta(*c),
    ),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "dtype": (np.dtype, _dtype_name, _dtype),
    "categories": (pandas.CategoricalDtype, _write_categories, _read_categories),
    "StringDtype": (pandas.StringDtype, lambda v: [v.storage, v.na_value], _read_words),
    "pandas": (pandas.api.extensions.ExtensionDtype, str, lambda c: pandas.api.types.pandas_dtype(_a(str, c))),
}
