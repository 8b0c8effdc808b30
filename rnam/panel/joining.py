"""Panels put together, and a panel with the columns of another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam.panel.columns import Unseen, level_kind, plain, recode
from rnam.panel.schema import Column, Schema
from rnam.panel.storage import Facts, Parts, Sequences, Visits
from rnam.panel.times import Clock

__all__ = ["compact", "concat", "reindex", "same_clock"]

Array = NDArray[Any]

_OF_IDS = ("values", "codes", "values_from", "codes_from", "labels", "weight", "known")


def compact(parts: Parts) -> Parts:
    """The same with arrays that hold the visits of this panel and no others."""
    rows, lengths, visits = parts.sequences.rows(), parts.sequences.lengths, parts.visits

    def own(array: Any) -> Any:
        return None if array is None else array[rows].copy() if isinstance(rows, slice) else array[rows]

    kept = Visits(own(visits.values), own(visits.codes), own(visits.stamps), own(visits.labels), own(visits.weight))
    starts = np.cumsum(lengths) - lengths
    return parts._replace(visits=kept, sequences=Sequences(starts, lengths, parts.sequences.shown))


def reindex(parts: Parts, like: Schema, unseen: Unseen) -> Parts:
    """The columns, levels and order of another panel. Columns that it lacks are left out; targets stay as they are.

    Raises:
        ValueError: a column is missing or of another kind; a level is not known and unseen is "refuse".
    """
    own, facts = parts.schema, parts.facts
    same_clock(own.clock, like.clock)
    values = _positions("values", own.values, like.values)
    categories = _positions("categories", own.categories, like.categories)
    static = _positions("static", own.static, like.static)
    levels = _positions("static categories", own.static_categories, like.static_categories)

    def codes(array: Array, positions: list[int], mine: Sequence[Column], others: Sequence[Column]) -> Array:
        out = np.empty((len(array), len(positions)), np.int32)
        for n, (position, other) in enumerate(zip(positions, others, strict=True)):
            found = mine[position].levels
            assert found is not None and other.levels is not None
            out[:, n] = recode(other.name, array[:, position], found, other.levels, unseen)
        return out

    kept = compact(parts)
    visits, same = kept.visits, values == list(range(len(own.values)))
    return kept._replace(
        schema=replace(
            own,
            values=_renamed(values, own.values, like.values),
            categories=_renamed(categories, own.categories, like.categories),
            static=_renamed(static, own.static, like.static),
            static_categories=_renamed(levels, own.static_categories, like.static_categories),
        ),
        visits=replace(
            visits,
            values=visits.values if same else visits.values[:, values],
            codes=codes(visits.codes, categories, own.categories, like.categories),
        ),
        facts=replace(
            facts,
            values=facts.values[:, static],
            values_from=facts.values_from[:, static],
            codes_from=facts.codes_from[:, levels],
            codes=codes(facts.codes, levels, own.static_categories, like.static_categories),
        ),
    )


def _renamed(positions: Sequence[int], own: Sequence[Column], like: Sequence[Column]) -> tuple[Column, ...]:
    """The columns of another panel with the dtypes of the own table."""
    return tuple(replace(other, dtype=own[n].dtype) for n, other in zip(positions, like, strict=True))


def concat(panels: Sequence[Parts]) -> Parts:
    """All ids of several panels of the same columns.

    Raises:
        ValueError: columns or their kinds differ, an ordered category has other levels, an id is in two panels.
    """
    first = panels[0]
    schema = first.schema
    for other in panels[1:]:
        schema = _joined(schema, other.schema)
    aligned = [_relabelled(reindex(parts, schema, "refuse"), schema) for parts in panels]
    ids = aligned[0].facts.ids
    for parts in aligned[1:]:
        ids = ids.append(parts.facts.ids)
    twice = ids[ids.duplicated()]
    if len(twice):
        raise ValueError(f"an id must be in one panel, got {schema.id_name} {plain(twice[0])!r} in two")
    shown = [parts.sequences.shown for parts in aligned]
    if any(each is not None for each in shown):
        whole = [
            np.ones(len(parts.stamps()), np.bool_) if each is None else each
            for each, parts in zip(shown, aligned, strict=True)
        ]
        hidden = np.concatenate(whole)
    else:
        hidden = None
    lengths = np.concatenate([parts.sequences.lengths for parts in aligned])
    groups = None
    if schema.group is not None:
        groups = aligned[0].facts.groups
        for parts in aligned[1:]:
            groups = groups.append(parts.facts.groups)
    visits, facts = [parts.visits for parts in aligned], [parts.facts for parts in aligned]
    return Parts(
        schema,
        Visits(**{name: _stack(visits, name) for name in ("values", "codes", "stamps", "labels", "weight")}),
        Facts(
            ids=ids, groups=groups,
            **{name: _stack(facts, name) for name in _OF_IDS},
        ),
        Sequences(np.cumsum(lengths) - lengths, lengths, hidden),
    )  # fmt: skip


def _stack(holders: Sequence[Any], name: str) -> Any:
    arrays = [getattr(holder, name) for holder in holders]
    return None if arrays[0] is None else np.concatenate(arrays)


def _positions(role: str, own: Sequence[Column], like: Sequence[Column]) -> list[int]:
    names = [column.name for column in own]
    for column in like:
        if column.name not in names:
            raise ValueError(f"{role} must have column {column.name!r}, got {names}")
    return [names.index(column.name) for column in like]


def same_clock(own: Clock, other: Clock) -> None:
    """Raises ValueError if times are of another kind, unit or zone, or called something else."""
    if (own.kind, own.unit, str(own.zone)) != (other.kind, other.unit, str(other.zone)):
        raise ValueError(
            f"times must be {other.kind}s in {other.unit or 'no unit'} of zone {other.zone}, got {own.kind}s in "
            f"{own.unit or 'no unit'} of zone {own.zone}"
        )
    if own.name != other.name:
        raise ValueError(f"times must be in column {other.name!r}, got {own.name!r}")


def _joined(schema: Schema, other: Schema) -> Schema:
    """The schema with the levels of both."""
    for what in ("id", "at", "group", "weight"):
        mine, theirs = getattr(schema, what), getattr(other, what)
        if mine != theirs:
            raise ValueError(f"panels must have the same {what}, got {mine!r} and {theirs!r}")
    same_clock(other.clock, schema.clock)
    roles: dict[str, Any] = {"clock": replace(schema.clock, dtype=_joined_dtype(schema.clock, other.clock))}
    for role in ("values", "categories", "static", "static_categories", "targets"):
        mine, theirs = getattr(schema, role), {column.name: column for column in getattr(other, role)}
        if {column.name for column in mine} != set(theirs):
            names = [column.name for column in mine]
            raise ValueError(f"panels must have the same {role}, got {names} and {list(theirs)}")
        roles[role] = tuple(_joined_column(column, theirs[column.name]) for column in mine)
    return replace(schema, **roles)


def _joined_dtype(own: Clock, other: Clock) -> Any:
    """The dtype of both; of dates with a zone the finer one; else None, that of the stamps."""
    if own.dtype == other.dtype:
        return own.dtype
    if own.zone is None:
        return None
    return max(own.dtype, other.dtype, key=lambda dtype: ("s", "ms", "us", "ns").index(_unit(dtype)))


def _unit(dtype: Any) -> Any:
    """That of a dtype of dates, of pandas or pyarrow."""
    return getattr(dtype, "pyarrow_dtype", dtype).unit


def _joined_column(column: Column, other: Column) -> Column:
    if replace(column, levels=None) != replace(other, levels=None) or (column.levels is None) != (other.levels is None):
        raise ValueError(f"column {column.name!r} must be the same in all panels, got {column} and {other}")
    if column.levels is None or other.levels is None:
        return column if column.dtype == other.dtype else replace(column, dtype=np.dtype(np.float64))
    kinds = sorted({level_kind(level) for level in (*column.levels, *other.levels)})
    if len(kinds) > 1:
        raise ValueError(
            f"column {column.name!r} must have levels of one kind in all panels, got {' and '.join(kinds)}"
        )
    column = replace(column, dtype=_dtype_of_levels(column, other))
    if column.levels == other.levels:
        return column
    assert column.levels is not None
    if column.ordered or column.parts:
        raise ValueError(
            f"levels of column {column.name!r} must be the same in all panels, got {column.levels} and {other.levels}"
        )
    return replace(column, levels=(*column.levels, *(level for level in other.levels if level not in column.levels)))


def _dtype_of_levels(column: Column, other: Column) -> Any:
    """The dtype of both; float64 of each part of a one-hot group, else that of objects, where the two differ."""
    if column.parts:
        return [
            own if own == theirs else np.dtype(np.float64)
            for own, theirs in zip(column.dtype, other.dtype, strict=True)
        ]
    by_pandas = [isinstance(each.dtype, pandas.CategoricalDtype) for each in (column, other)]
    return column.dtype if column.dtype == other.dtype or all(by_pandas) else np.dtype(object)


def _relabelled(parts: Parts, schema: Schema) -> Parts:
    """The labels in the order and with the classes of `schema`."""
    own = parts.schema.targets
    holder: Any = parts.visits if parts.facts.labels is None else parts.facts
    if holder.labels is None:
        return parts._replace(schema=schema)
    columns = []
    for column, position in zip(schema.targets, _positions("targets", own, schema.targets), strict=True):
        labels = holder.labels[:, position]
        found = own[position].levels
        if found is not None and column.levels is not None:
            gone = np.isnan(labels)
            codes = recode(column.name, np.where(gone, -1, labels).astype(np.int64), found, column.levels, "refuse")
            labels = np.where(gone, np.nan, codes)
        columns.append(labels)
    changed = replace(holder, labels=np.stack(columns, axis=1))
    if parts.facts.labels is None:
        return parts._replace(schema=schema, visits=changed)
    return parts._replace(schema=schema, facts=changed)
