"""A panel as a table again, as a table of its columns, and in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam.panel.schema import Column
from rnam.panel.storage import Parts

__all__ = ["describe", "to_frame", "words"]

Array = NDArray[Any]


def to_frame(parts: Parts) -> Any:
    """`Panel.to_frame`."""
    schema, facts, sequences = parts.schema, parts.facts, parts.sequences
    rows, owners = sequences.rows(), sequences.owners()
    stamps = parts.visits.stamps[rows]
    ids = [facts.ids] if len(schema.id) == 1 else [facts.ids.get_level_values(n) for n in range(len(schema.id))]
    columns: dict[Any, Any] = {
        name: pandas.Series(level.take(owners)) for name, level in zip(schema.id, ids, strict=True)
    }
    columns[schema.clock.name] = schema.clock.restore(stamps)
    for n, column in enumerate(schema.values):
        columns[column.name] = _numbers(parts.visits.values[rows, n], column)
    for n, column in enumerate(schema.categories):
        codes = parts.visits.codes[rows, n]
        columns |= dict(_parts(codes, column)) if column.parts else {column.name: _levels(codes, column)}
    for n, column in enumerate(schema.static):
        late = stamps < facts.values_from[owners, n]
        columns[column.name] = _numbers(np.where(late, np.nan, facts.values[owners, n]), column)
    for n, column in enumerate(schema.static_categories):
        late = stamps < facts.codes_from[owners, n]
        columns[column.name] = _levels(np.where(late, -1, facts.codes[owners, n]), column)
    labels = parts.labels()
    if labels is not None:
        labels = labels if schema.at == "visit" else labels[owners]
        for n, column in enumerate(schema.targets):
            columns[column.name] = _label(labels[:, n], column)
    weight = facts.weight[owners] if facts.weight is not None else parts.visits.weight
    if weight is not None and schema.weight is not None:
        at_visits = weight[rows] if facts.weight is None else weight
        columns[schema.weight.name] = _numbers(at_visits, schema.weight)
    if facts.groups is not None and schema.group not in columns:
        columns[schema.group] = pandas.Series(facts.groups.take(owners))
    known = [name for name in schema.order if name in columns]
    keys = [name for name in (*schema.id, schema.clock.name) if name not in known]
    order = [*keys, *known, *(name for name in columns if name not in known and name not in keys)]
    frame = pandas.DataFrame({name: columns[name] for name in order})
    return frame.set_index([*schema.id, schema.clock.name]) if schema.indexed else frame


def _numbers(array: Array, column: Column) -> Any:
    """As the table's dtype, if it is one of numbers that holds what is missing, too."""
    series, dtype = pandas.Series(array), column.dtype
    types = pandas.api.types
    if not (types.is_numeric_dtype(dtype) or types.is_bool_dtype(dtype)):  # an object is none
        return series.astype(np.float64)
    if isinstance(dtype, np.dtype) and dtype.kind in "biu" and np.isnan(array).any():
        return series.astype(np.float64)
    return series.astype(dtype)


def _levels(codes: Array, column: Column) -> Any:
    assert column.levels is not None
    if isinstance(column.dtype, pandas.CategoricalDtype):
        dtype = pandas.CategoricalDtype(list(column.levels), column.ordered)
        return pandas.Series(pandas.Categorical.from_codes(codes, dtype=dtype))
    levels = np.empty(len(column.levels) + 1, dtype=object)
    levels[:-1] = column.levels
    levels[-1] = np.nan if pandas.api.types.is_float_dtype(column.dtype) else None
    return pandas.Series(levels[codes], dtype=column.dtype if _holds(column, bool((codes < 0).any())) else object)


def _holds(column: Column, gone: bool) -> bool:
    """True if the dtype of the table's column holds all levels as they are, and what is `gone`."""
    dtype, levels = column.dtype, list(column.levels or ())
    if dtype is None or (gone and isinstance(dtype, np.dtype) and dtype.kind in "biu"):
        return False
    try:
        return bool(pandas.Series(levels, dtype=dtype).tolist() == levels)
    except (TypeError, ValueError, OverflowError):
        return False


def _parts(codes: Array, column: Column) -> Iterator[tuple[Any, Any]]:
    for n, (name, dtype) in enumerate(zip(column.parts, column.dtype, strict=True)):
        array = np.where(codes < 0, np.nan, codes == n)
        yield name, _numbers(array, Column(name, str(name), dtype=dtype))


def _label(labels: Array, column: Column) -> Any:
    if column.levels is not None:
        return _levels(np.where(np.isnan(labels), -1, labels).astype(np.int64), column)
    return _numbers(labels, column)


def describe(parts: Parts) -> Any:
    """`Panel.describe`."""
    found = [{"column": column.name, "role": role, **_summary(array, column)} for role, array, column in _arrays(parts)]
    return pandas.DataFrame(found).set_index("column")


def _arrays(parts: Parts) -> Iterator[tuple[str, Array, Column]]:
    """One column after the other, with its role; in memory one at a time."""
    schema, facts, rows, labels = parts.schema, parts.facts, parts.sequences.rows(), parts.labels()
    for n, column in enumerate(schema.values):
        yield "values", parts.visits.values[rows, n], column
    for n, column in enumerate(schema.categories):
        yield "categories", parts.visits.codes[rows, n], column
    for n, column in enumerate(schema.static):
        yield "static", facts.values[:, n], column
    for n, column in enumerate(schema.static_categories):
        yield "static", facts.codes[:, n], column
    for n, column in enumerate(schema.targets):
        assert labels is not None
        yield "target", labels[:, n], column


def _seen(array: Array) -> Any:
    return array >= 0 if array.dtype.kind == "i" else ~np.isnan(array)


def _summary(array: Array, column: Column) -> dict[str, Any]:
    seen = _seen(array)
    told: dict[str, Any] = {"unit": column.unit, "missing": (~seen).mean() if seen.size else np.nan}
    if column.levels is not None:
        return {**told, "levels": len(column.levels)}
    if not seen.any():
        return told
    numbers = array[seen].astype(np.float64)
    return {**told, "mean": numbers.mean(), "std": numbers.std(), "min": numbers.min(), "max": numbers.max()}


def words(parts: Parts) -> str:
    """`repr` of a panel."""
    schema, facts, lengths = parts.schema, parts.facts, parts.sequences.lengths
    stamps = parts.stamps()
    if not len(lengths):
        return "Panel of no ids"
    first, last = schema.clock.restore(np.array([stamps.min(), stamps.max()]))
    unit = schema.clock.unit and (
        f" {schema.clock.unit}" if schema.clock.kind == "number" else f", in {schema.clock.unit}s"
    )
    ids = " and ".join(map(str, schema.id))
    lines = [
        f"Panel: {_count(len(lengths), 'id')} ({ids}), {_count(lengths.sum(), 'visit')}, "
        f"{lengths.min():,} to {lengths.max():,} each",
        f"  {'time':<12}{schema.clock.name}, {first} to {last}{unit}",
    ]
    for role in ("values", "categories", "static"):
        own = list(_missing(parts, role))
        if own:
            share = np.mean([missing for _, missing in own])
            told = f"; {share:.1%} missing" if share else ""
            lines.append(f"  {role:<12}{', '.join(column for column, _ in own)}{told}")
    labels = parts.labels()
    if labels is not None:
        seen = ~np.isnan(labels).all(axis=1)
        names = ", ".join(map(str, schema.targets))
        lines.append(f"  {'target':<12}{names} at {schema.at}s, {seen.sum():,} of {seen.size:,} labelled")
    if schema.weight is not None:
        lines.append(f"  {'weight':<12}{schema.weight}")
    if facts.groups is not None:
        lines.append(f"  {'groups':<12}{schema.group}, {facts.groups.nunique():,}")
    return "\n".join(lines)


def _missing(parts: Parts, role: str) -> Iterator[tuple[str, float]]:
    """The columns of a role, in words, with the share that is missing. Rows that windows share are read once."""
    schema, visits, facts, sequences = parts.schema, parts.visits, parts.facts, parts.sequences
    if role == "static":
        for array, columns in ((facts.values, schema.static), (facts.codes, schema.static_categories)):
            for n, column in enumerate(columns):
                yield str(column), float((~_seen(array[:, n])).mean())
        return
    ends = sequences.starts + sequences.lengths
    low, high = int(sequences.starts.min()), int(ends.max())
    array, columns = (visits.values, schema.values) if role == "values" else (visits.codes, schema.categories)
    for n, column in enumerate(columns):
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(~_seen(array[low:high, n]))])
        missing = before[ends - low] - before[sequences.starts - low]
        yield str(column), float(missing.sum() / sequences.lengths.sum())


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
