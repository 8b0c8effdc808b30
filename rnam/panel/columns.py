"""Columns of a table as numbers or as codes of levels. What is neither is refused, with the column and the id."""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam.panel.storage import Bools, Integers
from rnam.panel.times import Clock, inexact
from rnam.sklearn import tables

__all__ = [
    "Owners",
    "Rows",
    "Unseen",
    "as_numbers",
    "factorize",
    "is_category",
    "level_kind",
    "one_for_each_id",
    "plain",
    "read_codes",
    "read_numbers",
    "recode",
]

Array = NDArray[Any]
Unseen = Literal["refuse", "missing"]


def plain(value: Any) -> Any:
    """A scalar of NumPy as one of Python, which an error prints as people write it."""
    return value.item() if isinstance(value, np.generic) and value.dtype.kind not in "mM" else value


@dataclass(frozen=True, eq=False)
class Owners:
    """The ids of the rows of a table.

    Args:
        ids: a pandas Index of different ids, in the order in which they first occur; its name is that of the column.
        owners: int64 (rows,), the position in `ids`.
    """

    ids: Any
    owners: Integers

    @property
    def id_name(self) -> Hashable:
        name: Hashable = self.ids.name
        return name

    def of_id(self, row: int) -> str:
        """The id of a row in the words of an error."""
        return f"{self.id_name} {plain(self.ids[self.owners[row]])!r}"


@dataclass(frozen=True, eq=False)
class Rows(Owners):
    """The ids and the times of the rows of a table.

    Args:
        stamps: (rows,).
    """

    stamps: Array
    clock: Clock

    def place(self, row: int) -> str:
        """A row in the words of an error."""
        return f"{self.of_id(row)} at {self.clock.name} {self.clock.restore(self.stamps[[row]])[0]}"


def is_category(series: Any) -> bool:
    """Whether a column holds words or levels, and no numbers."""
    dtype: Any = series.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        return True
    return dtype.kind in "OUS" and any(isinstance(item, str) for item in series)


def factorize(where: str, series: Any, kinds: str) -> tuple[Integers, Any]:
    """int64 (rows,), places among the different items of a column, -1 where one is missing; and these as an Index.

    Raises:
        TypeError: the items are lists or the like, and not of `kinds`.
    """
    if isinstance(series.dtype, pandas.ArrowDtype) and series.dtype.kind == "f":  # of pyarrow NaN is a number
        series = series.mask(np.isnan(series.to_numpy(np.float64, na_value=np.nan)))
    try:
        codes, unique = pandas.factorize(series)
    except (TypeError, NotImplementedError) as error:  # of pandas, and of pyarrow
        raise TypeError(f"{where} must hold {kinds}: {error}") from error
    return codes.astype(np.int64), pandas.Index(unique, name=series.name)


def read_numbers(name: Hashable, series: Any, rows: Rows) -> Array:
    """A column as an array of numbers, NaN where missing: the table's memory where that is possible.

    Raises:
        TypeError, ValueError: it holds anything else, an infinity, or a whole number that no float64 holds.
    """
    where = f"column {name!r}"
    try:
        array = tables.column_numbers(where, series)
    except (TypeError, ValueError) as error:
        advice = "; name it in categories if its values are levels" if is_category(series) else ""
        row = _first_word(series)
        if row is not None:
            raise ValueError(
                f"{where} must hold numbers, got {series.iloc[row]!r}, {rows.place(row)}{advice}"
            ) from error
        raise type(error)(f"{error}{_first_refused(where, series, rows)}{advice}") from error
    large = inexact(series)
    if large.any():
        row = int(large.argmax())
        got = plain(series.iloc[row])
        raise ValueError(f"{where} must hold whole numbers of at most 2**53, got {got}, {rows.place(row)}")
    if array.dtype.kind == "f" and np.isinf(array).any():
        row = int(np.isinf(array).argmax())
        raise ValueError(f"{where} must hold finite numbers, got {array[row]}, {rows.place(row)}")
    return array


def _first_word(series: Any) -> int | None:
    """The row of the first word that reads as no number, if there are words that do and words that do not."""
    if series.dtype.kind not in "OUS" or isinstance(series.dtype, pandas.CategoricalDtype):
        return None
    words = np.fromiter((isinstance(item, str) for item in series), np.bool_, len(series))
    bad = words & np.asarray(as_numbers(series.where(words)).isna())
    return int(bad.argmax()) if bad.any() else None


def as_numbers(words: Any) -> Any:
    """A column of words as one of numbers, NaN where a word is none. Of strings of pyarrow NaN would not be missing."""
    return pandas.to_numeric(words.astype(object), errors="coerce")


def _first_refused(where: str, series: Any, rows: Rows) -> str:
    """The place of the first item that is no number; nothing where that is the fault of all."""
    if series.dtype.kind not in "OUS" or isinstance(series.dtype, pandas.CategoricalDtype):
        return ""
    good, bad = 0, len(series)  # the first `good` items are numbers, the first `bad` are not all
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            tables.column_numbers(where, series.iloc[good:middle])
            good = middle
        except (TypeError, ValueError):
            bad = middle
    return f", {rows.place(good)}"


def read_codes(
    name: Hashable, series: Any, rows: Rows, levels: Sequence[Any] | None, unseen: Unseen
) -> tuple[NDArray[np.int32], tuple[Any, ...]]:
    """A column of levels as codes, -1 where missing, and the levels: those given, or those of a pandas category in its
    order, or those that occur, sorted.

    Raises:
        TypeError, ValueError: a level is a date, an infinity or a list; levels cannot be sorted; one is not among those
            given and unseen is "refuse".
    """
    where = f"column {name!r}"
    if isinstance(series.dtype, pandas.CategoricalDtype):
        codes, found = series.cat.codes.to_numpy(np.int64), list(series.cat.categories)
    else:
        codes, unique = factorize(where, series, "words, numbers or bools as levels")
        codes, found = _sorted(where, codes, [plain(level) for level in unique])
    found = [plain(level) for level in found]
    for level in found:
        _check_level(where, level)
    if levels is None:
        return codes.astype(np.int32), tuple(found)
    return recode(name, codes, found, levels, unseen, rows), tuple(levels)


def recode(
    name: Hashable, codes: Array, found: Sequence[Any], levels: Sequence[Any], unseen: Unseen, rows: Rows | None = None
) -> NDArray[np.int32]:
    """Codes of the levels `found` as codes of `levels`; where there is none, -1 or an error, as `unseen` says.

    Raises:
        ValueError: a value is of a level that is not among `levels`, and unseen is "refuse".
    """
    known = {level: n for n, level in enumerate(levels)}
    new = np.array([known.get(level, -1) for level in found] + [-1], np.int32)[codes]
    if unseen == "refuse":
        lost = (new < 0) & (codes >= 0)
        if lost.any():
            row = int(lost.argmax())
            place = "" if rows is None else f", {rows.place(row)}"
            raise ValueError(
                f"column {name!r} must hold one of {', '.join(map(repr, levels))}, got {found[codes[row]]!r}{place}; "
                'unseen="missing" takes it as missing'
            )
    return new


def _sorted(where: str, codes: Array, found: list[Any]) -> tuple[Array, list[Any]]:
    """The same with levels in sorted order."""
    try:
        order = sorted(range(len(found)), key=found.__getitem__)
    except TypeError as error:
        kinds = sorted({type(level).__name__ for level in found})
        raise TypeError(f"{where} must have levels of one kind, got {', '.join(kinds)}") from error
    place = np.empty(len(order) + 1, np.int64)
    place[order] = np.arange(len(order))
    place[-1] = -1
    return place[codes], [found[n] for n in order]


def level_kind(level: Any) -> str:
    """bool, number, or else the name of the type: levels of a column are of one kind."""
    if isinstance(level, bool):
        return "bool"
    return "number" if isinstance(level, numbers.Number) else type(level).__name__


def _check_level(where: str, level: Any) -> None:
    if isinstance(level, datetime.date | datetime.timedelta | np.datetime64 | np.timedelta64 | pandas.Period):
        raise TypeError(f"{where} must hold words, numbers or bools as levels, got {level!r}")
    if not isinstance(level, str | bool | numbers.Real):
        raise TypeError(
            f"{where} must hold words, numbers or bools as levels, got {level!r}; .astype(str) makes words of them"
        )
    if isinstance(level, float) and not np.isfinite(level):
        raise ValueError(f"{where} must hold finite levels, got {level}")


def one_for_each_id(
    name: Hashable, array: Array, seen: Bools, rows: Rows, levels: Sequence[Any] | None = None
) -> Integers:
    """For each id the first row where a value is seen, -1 where there is none. An array of codes is of `levels`.

    Raises:
        ValueError: an id has two values.
    """
    at = np.flatnonzero(seen)
    owners = rows.owners[at]
    first = np.full(len(rows.ids), -1, np.int64)
    first[owners[::-1]] = at[::-1]
    differs = array[at] != array[first[owners]]
    if differs.any():
        row = int(at[differs.argmax()])
        earlier = int(first[rows.owners[row]])
        both = [plain(array[n]) if levels is None else levels[array[n]] for n in (earlier, row)]
        raise ValueError(
            f"column {name!r} must have one value for each {rows.id_name}, got {both[0]!r} and {both[1]!r}, "
            f"{rows.place(row)}"
        )
    return first
