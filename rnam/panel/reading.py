"""A table with a row for each visit, read into the arrays of a panel."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam.panel import times
from rnam.panel.columns import (
    Owners,
    Rows,
    Unseen,
    as_numbers,
    factorize,
    is_category,
    one_for_each_id,
    plain,
    read_codes,
    read_numbers,
)
from rnam.panel.roles import Roles
from rnam.panel.schema import Column, Schema
from rnam.panel.storage import Bools, Facts, Floats, Integers, Parts, Sequences, Visits
from rnam.sklearn import tables

__all__ = ["as_frame", "keys", "read", "rows_of"]

Array = NDArray[Any]

_TOGETHER, _BLOCK = 8, 8192  # so many columns fill a cache line of 64 bytes, and so many rows of them stay in cache


class Keys(NamedTuple):
    """The columns of ids and times, and whether they were the index."""

    id: Any
    time: Any
    indexed: bool


def as_frame(df: Any) -> Any:
    """A pandas DataFrame with a row or more, also from polars, whose columns have different names. Dictionaries of
    pyarrow are categories in it.

    Raises:
        TypeError, ValueError: `df` is none.
    """
    if not isinstance(df, pandas.DataFrame) and hasattr(df, "to_pandas") and hasattr(df, "schema"):
        df = _of_polars(df)
    if not isinstance(df, pandas.DataFrame):
        raise TypeError(f"df must be a DataFrame of pandas or polars, got {type(df).__name__}")
    tables.refuse_twice("df", list(df.columns))
    if not len(df):
        raise ValueError("df must have at least one row, got none")
    dictionaries = [name for name, dtype in df.dtypes.items() if _is_dictionary(dtype)]
    if not dictionaries:
        return df
    frame = df.copy(deep=False)
    for name in dictionaries:
        frame[name] = df[name].array.__arrow_array__().to_pandas().array
    return frame


def _of_polars(df: Any) -> Any:
    """Whole numbers with nulls keep their kind, which pandas would make floats of and round."""
    frame = df.to_pandas()
    whole = [name for name, dtype in df.schema.items() if dtype.is_integer() and frame[name].dtype.kind == "f"]
    if whole:
        frame[whole] = df.select(whole).to_pandas(use_pyarrow_extension_array=True)
    return frame


def _is_dictionary(dtype: Any) -> bool:
    """True if pyarrow holds a column as codes of its values, as pandas holds a category."""
    return isinstance(dtype, pandas.ArrowDtype) and hasattr(dtype.pyarrow_dtype, "index_type")


def keys(frame: Any, id: Hashable | None, time: Hashable | None) -> Keys:
    """Ids and times as Series: of columns or levels of the index, or of the (id, time) index where neither is named.

    Raises:
        ValueError: one is named and the other not; a column is missing; the index has no two levels, or two of one
            name, or times before ids.
    """
    if (id is None) != (time is None):
        raise ValueError(f"id and time must both be given, or neither with an (id, time) index, got {id!r}, {time!r}")
    for argument, name in (("id", id), ("time", time)):
        if not isinstance(name, Hashable):
            raise TypeError(f"{argument} must name one column, got {name!r}")
    if id is not None:
        if id == time:
            raise ValueError(f"id and time must be different columns, got {id!r} twice")
        if _of_levels(frame, id, time):
            own, times_of = (pandas.Series(frame.index.get_level_values(name), name=name) for name in (id, time))
            return Keys(own, times_of, True)
        require(frame, (id, time), "id and time")
        return Keys(frame[id], frame[time], False)
    if frame.index.nlevels != 2:
        raise ValueError(f"df must have an index of (id, time) where they are not named, got {frame.index.nlevels}")
    names = [f"level {n}" if name is None else name for n, name in enumerate(frame.index.names)]
    series = [pandas.Series(frame.index.get_level_values(n), name=names[n]) for n in range(2)]
    for name in names:
        if name in frame.columns:
            raise ValueError(f"the levels of the index must not be columns, too, got {name!r}")
    if names[0] == names[1]:
        raise ValueError(f"the levels of the index must have different names, got {names[0]!r} twice")
    if times.of_calendar(series[0].dtype) and not times.of_calendar(series[1].dtype):
        raise ValueError(
            f"the index must be (id, time), got {series[0].dtype} and then {series[1].dtype}; id={names[1]!r}, "
            f"time={names[0]!r} reads it in the other order"
        )
    return Keys(series[0], series[1], True)


def _of_levels(frame: Any, id: Hashable, time: Hashable) -> bool:
    """True if ids and times are the two levels of the index, and no columns."""
    levels = list(frame.index.names)
    return frame.index.nlevels == 2 and {id, time} == set(levels) and not {id, time} & set(frame.columns)


def require(frame: Any, names: Sequence[Hashable | None], argument: str) -> None:
    for name in names:
        if name not in frame.columns:
            raise ValueError(f"{argument} must name columns of df, got {name!r}; df has {list(frame.columns)}")


def read(
    frame: Any, key: Keys, roles: Roles, time_unit: str | None, sort: bool, unseen: Unseen, rows: Rows | None = None
) -> Parts:
    """The arrays of a table. The result of `rows_of` of its keys may come with it.

    Raises:
        TypeError, ValueError: anything that a panel refuses.
    """
    require(frame, roles.read(), "roles")
    if not key.indexed:
        for name in (key.id.name, key.time.name):
            if name in roles.read():
                raise ValueError(
                    f"each column must have one role, got {name!r} as id or time and in another "
                    "one; a copy with another name may have that"
                )
    rows = rows_of(key, time_unit) if rows is None else rows
    order = _order(rows, sort)

    def placed(array: Array) -> Array:
        """A copy in the order of the panel."""
        return array.copy() if order is None else array[order]

    values, numbers = _values(frame, roles, rows, order)
    codes, categories = _categories(frame, roles, rows, placed, unseen)
    known, static, levels = _static(frame, roles, rows, unseen, sort)
    labels, targets = _labels(frame, roles, rows)
    weight, weight_column = _weight(frame, roles, rows)
    groups = None if roles.group is None else _groups(frame[roles.group], roles.group, rows)
    lengths = np.bincount(rows.owners, minlength=len(rows.ids)).astype(np.int64)
    ends = np.cumsum(lengths)
    stamps, by_visit = placed(rows.stamps), roles.at == "visit"
    schema = Schema(
        id=(key.id.name,), clock=rows.clock, values=numbers, categories=categories, static=static,
        static_categories=levels, targets=targets, at=roles.at, weight=weight_column, group=roles.group,
        order=tuple(name for name in frame.columns if name in {key.id.name, key.time.name, *roles.read()}),
        indexed=key.indexed,
    )  # fmt: skip
    visits = Visits(
        values, codes, stamps,
        placed(labels) if labels is not None and by_visit else None,
        placed(weight) if weight is not None and by_visit else None,
    )  # fmt: skip
    facts = Facts(
        rows.ids, *known,
        _of_ids(labels, targets, rows) if labels is not None and not by_visit else None,
        _weight_of_ids(weight, roles.weight, rows) if weight is not None and not by_visit else None,
        groups,
        stamps[ends - 1] if labels is not None and not by_visit else None,
    )  # fmt: skip
    return Parts(schema, visits, facts, Sequences(ends - lengths, lengths))


def rows_of(key: Keys, time_unit: str | None) -> Rows:
    where = f"column {key.id.name!r}"
    owners, ids = factorize(where, key.id, "words, numbers or dates as ids")
    if (owners < 0).any():
        row = int((owners < 0).argmax())
        raise ValueError(f"{where} must have an id in each row, got {key.id.iloc[row]} in row {row}")
    clock, stamps, gone = times.read(key.time.name, key.time, time_unit, Owners(ids, owners).of_id)
    rows = Rows(ids, owners, stamps, clock)
    if gone.any():
        row = int(gone.argmax())
        raise ValueError(f"column {key.time.name!r} must have a time in each row, got none, {rows.of_id(row)}")
    if clock.kind == "number" and np.isinf(stamps).any():
        raise ValueError(f"times must be finite, got {rows.place(int(np.isinf(stamps).argmax()))}")
    return rows


def _order(rows: Rows, sort: bool) -> Integers | None:
    """The rows by id and time; None where they are so.

    Raises:
        ValueError: an id has a time twice, or its times do not rise and `sort` is False.
    """
    owners, stamps = rows.owners, rows.stamps
    order = None if (owners[1:] >= owners[:-1]).all() else np.argsort(owners, kind="stable")
    for attempt in range(2):
        sorted_owners, sorted_stamps = (owners, stamps) if order is None else (owners[order], stamps[order])
        same = sorted_owners[1:] == sorted_owners[:-1]
        late = same & (sorted_stamps[1:] <= sorted_stamps[:-1])
        if not late.any():
            return order
        if attempt == 1 or not sort:
            break
        order = np.lexsort((stamps, owners))
    at = int(late.argmax()) + 1
    row, before = (at, at - 1) if order is None else (int(order[at]), int(order[at - 1]))
    if stamps[row] == stamps[before]:
        raise ValueError(f"an id must have one row for each time, got two, {rows.place(row)}")
    earlier = rows.clock.restore(stamps[[before]])[0]
    raise ValueError(
        f"the rows of an id must be in order of time, got {rows.place(row)} after {earlier}; sort=True sorts them"
    )


def _values(frame: Any, roles: Roles, rows: Rows, order: Integers | None) -> tuple[Floats, tuple[Column, ...]]:
    """float32 (rows, columns) where that holds each number, else float64. Few columns at a time are in memory twice."""
    names = roles.values
    kinds = [_dtype_of(frame[name]) for name in names]
    out = np.empty((len(frame), len(names)), np.result_type(np.float32, *kinds))
    for first in range(0, len(names), _TOGETHER):
        chosen = [read_numbers(name, frame[name], rows) for name in names[first : first + _TOGETHER]]
        for start in range(0, len(frame), _BLOCK):
            block = slice(start, start + _BLOCK)
            source = block if order is None else order[block]
            for n, array in enumerate(chosen, first):
                out[block, n] = array[source]
    return out, tuple(roles.column(name, dtype=frame[name].dtype) for name in names)


def _dtype_of(series: Any) -> Any:
    dtype = series.dtype
    return dtype if isinstance(dtype, np.dtype) and dtype.kind in "biuf" and dtype.itemsize <= 8 else np.float64


def _categories(
    frame: Any, roles: Roles, rows: Rows, placed: Any, unseen: Unseen
) -> tuple[NDArray[np.int32], tuple[Column, ...]]:
    names = roles.visit_categories()
    out = np.empty((len(frame), len(names) + len(roles.one_hot)), np.int32)
    columns = []
    for n, name in enumerate(names):
        codes, column = _category(frame, name, roles, rows, unseen)
        out[:, n] = placed(codes)
        columns.append(column)
    for n, (name, parts) in enumerate(roles.one_hot.items(), len(names)):
        out[:, n] = placed(_one_hot(name, [read_numbers(part, frame[part], rows) for part in parts], rows))
        dtype = [frame[part].dtype for part in parts]
        columns.append(roles.column(name, dtype=dtype, levels=parts, parts=parts))
    return out, tuple(columns)


def _category(frame: Any, name: Hashable, roles: Roles, rows: Rows, unseen: Unseen) -> tuple[NDArray[np.int32], Column]:
    series = frame[name]
    given = roles.levels.get(name)
    codes, levels = read_codes(name, series, rows, given, unseen)
    by_pandas = bool(getattr(series.dtype, "ordered", False))
    if name in roles.ordered and given is None and not by_pandas:
        raise ValueError(f"ordered must name categories whose levels are given or ordered by pandas, got {name!r}")
    ordered = name in roles.ordered or (by_pandas and given is None)
    return codes, roles.column(name, dtype=series.dtype, levels=levels, ordered=ordered)


def _one_hot(name: Hashable, parts: list[Array], rows: Rows) -> NDArray[np.int32]:
    """Which of the parts is 1, or -1 where all are missing."""
    table = np.stack(parts, axis=1)
    gone = np.isnan(table).all(1) if table.dtype.kind == "f" else np.zeros(len(table), np.bool_)
    wrong = ~gone & ~(((table == 0) | (table == 1)).all(1) & ((table == 1).sum(1) == 1))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"one_hot[{name!r}] must have a single 1 and else 0, got {table[row].tolist()}, {rows.place(row)}"
        )
    return np.where(gone, -1, table.argmax(1)).astype(np.int32)


def _static(
    frame: Any, roles: Roles, rows: Rows, unseen: Unseen, sort: bool
) -> tuple[tuple[Floats, NDArray[np.int32], Array, Array], tuple[Column, ...], tuple[Column, ...]]:
    """The first four arrays of `Facts`, and the columns of numbers and of levels."""
    values, codes, numbers, categories = [], [], [], []
    values_from, codes_from = [], []
    for name in roles.static:
        if name in roles.categories or (not roles.decided and _are_words(name, frame[name])):
            code, column = _category(frame, name, roles, rows, unseen)
            first = one_for_each_id(name, code, code >= 0, rows, column.levels)
            codes.append(np.where(first >= 0, code[first], -1))
            codes_from.append(_first_stamps(code >= 0, first, rows, sort))
            categories.append(column)
        else:
            number = read_numbers(name, frame[name], rows).astype(np.float64)
            first = one_for_each_id(name, number, ~np.isnan(number), rows)
            values.append(np.where(first >= 0, number[first], np.nan))
            values_from.append(_first_stamps(~np.isnan(number), first, rows, sort))
            numbers.append(roles.column(name, dtype=frame[name].dtype))
    ids = len(rows.ids)
    arrays = (
        np.stack(values, 1) if values else np.empty((ids, 0)),
        np.stack(codes, 1).astype(np.int32) if codes else np.empty((ids, 0), np.int32),
        np.stack(values_from, 1) if values else np.empty((ids, 0), rows.stamps.dtype),
        np.stack(codes_from, 1) if codes else np.empty((ids, 0), rows.stamps.dtype),
    )
    return arrays, tuple(numbers), tuple(categories)


def _first_stamps(seen: Bools, first: Integers, rows: Rows, sort: bool) -> Array:
    """For each id the earliest stamp at which a value is seen, which is in its `first` row unless rows are sorted."""
    stamps = rows.stamps[first]
    if sort:
        np.minimum.at(stamps, rows.owners[seen], rows.stamps[seen])
    return stamps


def _are_words(name: Hashable, series: Any) -> bool:
    """True if a static column is one of levels.

    Raises:
        ValueError: each of its words is a number.
    """
    if not is_category(series):
        return False
    if not isinstance(series.dtype, pandas.CategoricalDtype) and not as_numbers(series.dropna()).isna().any():
        raise ValueError(
            f"column {name!r} must hold numbers or words, got numbers as words, such as "
            f"{series.dropna().iloc[0]!r}; pandas.to_numeric reads them as numbers, categories as levels"
        )
    return True


def _labels(frame: Any, roles: Roles, rows: Rows) -> tuple[Floats | None, tuple[Column, ...]]:
    """float64 (rows, targets) in the order of the table: numbers, or the codes of classes; NaN where there is none."""
    if not roles.target:
        return None, ()
    out, columns = np.empty((len(frame), len(roles.target))), []
    for n, name in enumerate(roles.target):
        known = roles.classes.get(name)
        if known is not None or (not roles.decided and is_category(frame[name])):
            codes, levels = read_codes(name, frame[name], rows, known, "refuse")
            out[:, n] = np.where(codes >= 0, codes, np.nan)
            columns.append(roles.column(name, dtype=frame[name].dtype, levels=levels))
        else:
            out[:, n] = read_numbers(name, frame[name], rows)
            columns.append(roles.column(name, dtype=frame[name].dtype))
    return out, tuple(columns)


def _of_ids(labels: Floats, targets: tuple[Column, ...], rows: Rows) -> Floats:
    out = np.full((len(rows.ids), len(targets)), np.nan)
    for n, column in enumerate(targets):
        seen = ~np.isnan(labels[:, n])
        array = labels[:, n] if column.levels is None else np.where(seen, labels[:, n], -1).astype(np.int64)
        first = one_for_each_id(column.name, array, seen, rows, column.levels)
        out[:, n] = np.where(first >= 0, labels[first, n], np.nan)
    return out


def _weight(frame: Any, roles: Roles, rows: Rows) -> tuple[NDArray[np.float64] | None, Column | None]:
    if roles.weight is None:
        return None, None
    array = read_numbers(roles.weight, frame[roles.weight], rows).astype(np.float64)
    bad = ~(array >= 0)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"column {roles.weight!r} must hold weights of at least 0, got {array[row]}, {rows.place(row)}"
        )
    return array, roles.column(roles.weight, dtype=frame[roles.weight].dtype)


def _weight_of_ids(weight: NDArray[np.float64], name: Hashable, rows: Rows) -> NDArray[np.float64]:
    return np.asarray(weight[one_for_each_id(name, weight, np.ones(len(weight), np.bool_), rows)])


def _groups(series: Any, name: Hashable, rows: Rows) -> Any:
    where = f"column {name!r}"
    codes, found = factorize(where, series, "words, numbers or dates as groups")
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        raise ValueError(f"{where} must have a group in each row, got {series.iloc[row]}, {rows.place(row)}")
    first = one_for_each_id(name, codes, codes >= 0, rows, [plain(group) for group in found])
    return found.take(codes[first])
