"""The kind of each column of a table: guessed, said, and overruled by the arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas

from rnam.command.reading import Cells, dates, numbers, place, words
from rnam.panel.schema import At

__all__ = ["Column", "Keys", "Label", "guess", "keys", "label", "require"]

LEVELS = 20  # of a category, or one for twenty rows
WHOLE = 0.5  # the share of the cells that are numbers, from which on the others are mistakes
CLASSES = 2  # different numbers of a target that are classes


@dataclass(frozen=True, eq=False)
class Column:
    """A column to learn from, or one that is not.

    Args:
        name: in the table.
        kind: "numbers", "categories" or "ignored".
        static: of ids, and not of visits.
        values: float64, or words with None; None where it is ignored.
        why: in words, what it holds, or why it is ignored.
    """

    name: str
    kind: str
    static: bool
    values: Any
    why: str

    def __str__(self) -> str:
        return f"{self.kind + (', static' if self.static else ''):20} {self.why}"


@dataclass(frozen=True, eq=False)
class Keys:
    """Ids and times.

    Args:
        id: numbers where all are whole, else words.
        time: float64 or datetime64.
    """

    id: Any
    time: Any


@dataclass(frozen=True, eq=False)
class Label:
    """The target.

    Args:
        values: words of classes, else float64; None or NaN where there is no label.
        at: "id" or "visit".
        classes: whether they are classes.
        why: in words.
    """

    values: Any
    at: At
    classes: bool
    why: str


def require(frame: Any, named: Mapping[str, Sequence[str]]) -> None:
    """Refuse what arguments name and the table has not, or what two of them name.

    Args:
        named: the columns of each argument.

    Raises:
        ValueError: it is so.
    """
    owner: dict[str, str] = {}
    for argument, columns in named.items():
        for name in columns:
            if name not in frame.columns:
                raise ValueError(f"{argument} must name a column of the file, got {name!r}; it has {_listed(frame)}")
            both = {owner.setdefault(name, argument), argument}
            if len(both) > 1 and both != {"--categories", "--static"}:
                raise ValueError(f"{' and '.join(sorted(both))} must name different columns, got {name!r} in both")


def keys(frame: Any, id: str, time: str, cells: Cells) -> Keys:
    """Ids and times of a table.

    Raises:
        ValueError: an id or a time is missing; a time is neither a number nor a date; an id has a time twice.
    """
    for name in (id, time):
        gone = frame[name].isna()
        if gone.any():
            raise ValueError(f"{place(gone.idxmax(), name)} must not be empty: each row is of one id at one time")
    owner = _ids(frame[id], cells)
    stamps = _times(frame[time], cells)
    order = pandas.DataFrame({"id": owner, "time": stamps})
    twice = order.duplicated()
    if twice.any():
        row = twice.idxmax()
        same = (order["id"] == order["id"][row]) & (order["time"] == order["time"][row])
        raise ValueError(
            f"an id must have one row for each time, got rows {same.idxmax()} and {row} of {id} {frame[id][row]} at "
            f"{time} {frame[time][row]}"
        )
    return Keys(owner, stamps)


def _ids(series: Any, cells: Cells) -> Any:
    """Whole numbers that are written as such, or else words: 007 is another id than 7."""
    if series.dtype.kind in "iu":
        return series.astype("int64")
    written = words(series)
    if written.str.fullmatch(r"-?[1-9]\d{0,17}|0").all():
        return written.astype("int64")
    return written


def _times(series: Any, cells: Cells) -> Any:
    if series.dtype.kind == "M":
        return dates(series, cells)[0]
    found, wrong = numbers(series, cells, strict=False)
    if not wrong.any():
        return found
    if wrong.mean() <= WHOLE:
        return numbers(series, cells)[0]  # which names the row
    return dates(series, cells)[0]


def label(frame: Any, name: str, owner: Any, cells: Cells, task: str | None, at: At | None) -> Label:
    """The target of a table.

    Raises:
        ValueError: there are no labels, or all are the same; a cell is no number; an id has two labels with at="id".
    """
    series = frame[name]
    if not series.notna().any():
        raise ValueError(f"column {name!r} must have labels, got none")
    found, wrong = numbers(series, cells, strict=False)
    share = wrong.sum() / series.notna().sum()
    if task == "regress" or (task is None and 0 < share <= WHOLE):
        found, _ = numbers(series, cells)  # which names the row
    few = series.nunique() <= CLASSES or series.dtype.kind == "b"
    classes = task == "classify" or (task is None and (share > WHOLE or few))
    values = _class_words(series, found, wrong) if classes else found
    if values.nunique() < 2:
        raise ValueError(f"column {name!r} must have labels that differ, got {values.dropna().iloc[0]!r} alone")
    varies = _varies(values, owner)
    if at == "id" and varies is not None:
        first, row = varies
        raise ValueError(
            f"--at id: {place(row, name)} must be as in the other rows of the id, got {values[row]!r} and in row "
            f"{first} {values[first]!r}"
        )
    where: At = at or ("id" if varies is None else "visit")
    guessed = "" if at else ", guessed"
    told = f"{values.nunique()} classes: {_some(sorted(values.dropna().unique()))}" if classes else _range(values)
    gone = f"; {values.isna().sum():,} rows without" if values.isna().any() else ""
    return Label(values, where, classes, f"{told}{gone}; of each {where}{guessed}")


def _class_words(series: Any, found: Any, wrong: Any) -> Any:
    """1 and 1.0 are one class."""
    if series.dtype.kind == "b" or wrong.any():
        return words(series)
    return found.map(lambda x: str(int(x)) if x == int(x) else str(x), na_action="ignore").astype(object)


def guess(frame: Any, name: str, owner: Any, cells: Cells, named: Mapping[str, Sequence[str]]) -> Column:
    """The kind of one column.

    Args:
        named: the columns of --values, --categories, --static and --ignore.

    Raises:
        ValueError: most cells are numbers, and one is none; an argument says what the column is not.
    """
    series = frame[name]
    given = {argument for argument, columns in named.items() if name in columns}
    if "--ignore" in given:
        return Column(name, "ignored", False, None, "as --ignore says")
    if not series.notna().any():
        return _ignored(name, given, "empty")
    kind, values, why = _kind(series, given, cells)
    if values is None:
        return _ignored(name, given, why)
    if values.nunique() == 1 and not values.isna().any():
        return _ignored(name, given, f"always {values.iloc[0]}")
    varies = _varies(values, owner)
    if "--static" in given and varies is not None:
        first, row = varies
        raise ValueError(
            f"--static: {place(row, name)} must be as in the other rows of the id, got {values[row]!r} and in row "
            f"{first} {values[first]!r}"
        )
    several = owner[values.notna()].duplicated().any()
    static = "--static" in given or (varies is None and bool(several) and "--values" not in given)
    return Column(name, kind, static, values, why)


def _kind(series: Any, given: set[str], cells: Cells) -> tuple[str, Any, str]:
    name, seen = series.name, series.notna().sum()
    if "--categories" in given:
        values = words(series)
        return "categories", values, _levels(values)
    if series.dtype.kind == "M":
        return "", None, "dates, which are not learned from"
    if series.dtype.kind != "b":
        found, wrong = numbers(series, cells, strict="--values" in given)
        if not wrong.any():
            return "numbers", found, _range(found)
        if wrong.sum() <= WHOLE * seen:
            row = wrong.idxmax()
            hint = "--decimal , reads it" if "," in str(series[row]) else "--categories takes them all as levels"
            raise ValueError(
                f"{place(row, name)} must be a number, as {seen - wrong.sum():,} of {seen:,} cells are, got "
                f"{str(series[row])!r}; {hint}"
            )
    values = words(series)
    if not dates(series, cells, strict=False)[1].any():
        return "", None, "dates, which are not learned from"
    levels = values.nunique()
    if levels > max(LEVELS, seen // LEVELS):
        return "", None, f"{levels:,} different words in {seen:,} rows; --categories takes them as levels"
    return "categories", values, _levels(values)


def _ignored(name: str, given: set[str], why: str) -> Column:
    """A column that can't be learned from.

    Raises:
        ValueError: an argument says that it can.
    """
    if given:
        raise ValueError(f"{' and '.join(sorted(given))} must name columns to learn from, got {name!r}, which is {why}")
    return Column(name, "ignored", False, None, why)


def _varies(values: Any, owner: Any) -> tuple[Any, Any] | None:
    """Two rows of one id with different values, or None."""
    seen = values.notna()
    own, values = owner[seen], values[seen]
    first = own.index.to_series().groupby(own, sort=False).transform("first")
    differs = values.to_numpy() != values.loc[first].to_numpy()
    if not differs.any():
        return None
    at = int(differs.argmax())
    return first.iloc[at], values.index[at]


def _range(values: Any) -> str:
    return f"{values.min():.6g} to {values.max():.6g}{_gone(values)}"


def _levels(values: Any) -> str:
    found = sorted(values.dropna().unique())
    return f"{len(found)} level{'s' * (len(found) != 1)}: {_some(found)}{_gone(values)}"


def _gone(values: Any) -> str:
    return f"; {values.isna().mean():.1%} missing" if values.isna().any() else ""


def _some(found: Sequence[Any]) -> str:
    told = ", ".join(map(str, found[:5]))
    return f"{told}, ..." if len(found) > 5 else told


def _listed(frame: Any) -> str:
    return ", ".join(map(str, frame.columns))
