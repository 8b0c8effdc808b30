"""Visits as they come, read as a panel: those that are late, columns that are absent, static values of before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam.estimators.online.store import Known, Store
from rnam.panel import Panel, joining, reading
from rnam.panel.columns import Rows, plain
from rnam.panel.roles import Roles
from rnam.panel.schema import Schema
from rnam.panel.storage import Bools, Integers, Parts
from rnam.panel.times import SECONDS, Clock

__all__ = ["Arrived", "Labels", "Late", "read"]

Late = Literal["refuse", "ignore"]

_SEVERAL = (list, tuple, dict, set, np.ndarray, pandas.Series, pandas.Index)


class Labels(NamedTuple):
    """The ids and the times of visits, as pandas Series."""

    ids: Any
    times: Any

    def made(self) -> Any:
        """As a MultiIndex."""
        arrays = [pandas.Index(self.ids), pandas.Index(self.times)]
        return pandas.MultiIndex.from_arrays(arrays, names=[self.ids.name, self.times.name])


class Arrived(NamedTuple):
    """Visits that go on from what a store holds.

    panel     one id after the other, with the static values of now and of before; None where all visits were late
    places    int64 (visits,): of each visit that was read, in the order in which they came, its place in the panel
    known     of each id of the panel, after these visits
    times     float64 (visits,), of the visits that were read, in the order in which they came
    labels    of the visits that were read, in the order in which they came
    ignored   of those that were late
    single    whether one visit came by itself, and no table
    """

    panel: Panel | None
    places: Integers
    known: Known
    times: NDArray[np.float64]
    labels: Labels
    ignored: Labels
    single: bool


def read(visits: Any, schema: Schema, store: Store, late: Late) -> Arrived:
    """Read a dict or a Series of one visit, or a DataFrame or a Panel.

    Args:
        schema: of the panel that the model was fitted on.
        late: of a visit that is not after the one before it, in the store or in the table: "refuse" or "ignore" it.

    Raises:
        TypeError, ValueError: visits are none of these; a column is unknown; a visit is late and `late` is "refuse"; a
            static value differs from the one before; or as `rnam.Panel.from_frame` does.
    """
    single = isinstance(visits, Mapping | pandas.Series)
    frame = _frame(visits, schema)
    key, unit = _keys(frame, schema), schema.clock.unit or None
    rows = reading.rows_of(key, unit)
    joining.same_clock(rows.clock, schema.clock)
    held = store.known(store.rows(map(plain, rows.ids)))
    in_time = _in_time(rows, held.times, late)
    ignored = Labels(key.id[:0], key.time[:0])
    if not in_time.all():
        ignored = Labels(key.id[~in_time], key.time[~in_time])
        frame, key = frame[in_time], key._replace(id=key.id[in_time], time=key.time[in_time])
        if not len(frame):
            labels = Labels(key.id, key.time)
            return Arrived(None, np.empty(0, np.int64), held, np.empty(0), labels, ignored, single)
        rows = reading.rows_of(key, unit)
        held = store.known(store.rows(map(plain, rows.ids)))
    parts = reading.read(frame, key, Roles.like(schema, ()), unit, False, "missing", rows)
    numbers = parts.schema.clock.numbers(parts.visits.stamps[parts.sequences.offsets[1:] - 1])
    known = Known(numbers, *_facts(parts, held))
    facts = replace(parts.facts, values=known.values, codes=known.codes)
    places = np.empty(len(frame), np.int64)
    places[np.argsort(rows.owners, kind="stable")] = np.arange(len(frame))
    panel, labels = Panel(parts._replace(facts=facts)), Labels(key.id, key.time)
    return Arrived(panel, places, known, rows.clock.numbers(rows.stamps), labels, ignored, single)


def _frame(visits: Any, schema: Schema) -> Any:
    """A DataFrame of ids, times and the columns that the model reads, NaN where absent; a row for each visit."""
    if isinstance(visits, Panel):
        visits = visits.to_frame()
    elif isinstance(visits, pandas.Series):
        visits = _as_dict(visits, schema)
    read = [part for column in schema.inputs for part in (column.parts or (column.name,))]
    if isinstance(visits, Mapping):
        names = _known(visits, read, schema)
        for name in visits:
            if isinstance(visits[name], _SEVERAL):
                raise TypeError(
                    f"column {name!r} of one visit must hold one value, got {type(visits[name]).__name__}; a DataFrame "
                    "holds several visits"
                )
        return pandas.DataFrame({name: [visits.get(name, np.nan)] for name in names})
    if not (isinstance(visits, pandas.DataFrame) or hasattr(visits, "to_pandas")):
        raise TypeError(f"visits must be a dict, a Series, a DataFrame or a Panel, got {type(visits).__name__}")
    frame = reading.as_frame(visits)
    return frame.reindex(columns=_known(frame.columns, read, schema))


def _as_dict(visit: Any, schema: Schema) -> dict[Any, Any]:
    """A Series of one visit; that of a row of a table with an (id, time) index is called so."""
    found: dict[Any, Any] = visit.to_dict()
    keys = schema.id[0], schema.clock.name
    if isinstance(visit.name, tuple) and len(visit.name) == 2 and not any(key in found for key in keys):
        found |= zip(keys, visit.name, strict=True)
    return found


def _known(names: Iterable[Any], read: list[Any], schema: Schema) -> list[Any]:
    """Those of ids and times that are among the names, and the columns that the model reads.

    Raises:
        ValueError: there is a name that the panel did not have.
    """
    given = list(names)
    keys = [name for name in (schema.id[0], schema.clock.name) if name in given]
    others = {column.name for column in schema.targets} | {schema.group}
    others |= set() if schema.weight is None else {schema.weight.name}
    for name in given:
        if name not in keys and name not in read and name not in others:
            raise ValueError(f"visits must have columns that the model knows, got {name!r}; it knows {read}")
    return [*keys, *read]


def _keys(frame: Any, schema: Schema) -> reading.Keys:
    """Ids and times. Times with a zone are taken to that of the panel, and ids such as 7.0 are 7."""
    id, time = schema.id[0], schema.clock.name
    here = {*frame.columns, *frame.index.names}
    named = {id, time} <= here or not schema.indexed
    for name in (id, time) if named else ():
        if name not in here:
            raise ValueError(f"visits must have the columns {id!r} and {time!r}, got none that is called {name!r}")
    key = reading.keys(frame, id if named else None, time if named else None)
    if schema.clock.zone is not None and isinstance(key.time.dtype, pandas.DatetimeTZDtype):
        key = key._replace(time=key.time.dt.tz_convert(schema.clock.zone))
    # a row of numbers alone is one of floats; beyond 2^53 not every whole number is one
    if key.id.dtype.kind == "f" and ((key.id % 1 == 0) & (key.id.abs() < 2**53)).all():
        key = key._replace(id=key.id.astype(np.int64))
    return key


def _in_time(rows: Rows, last: NDArray[np.float64], late: Late) -> Bools:
    """bool (visits,): which visits are after all visits of their id before them.

    Args:
        last: (ids,), the time of the last visit in the store.
    """
    numbers, owners = rows.clock.numbers(rows.stamps), rows.owners
    before = last[owners]
    if len(rows.ids) < len(owners):
        order = np.argsort(owners, kind="stable")
        latest = pandas.Series(numbers[order]).groupby(owners[order]).cummax().to_numpy()
        same = owners[order[1:]] == owners[order[:-1]]
        before[order[1:]] = np.maximum(before[order[1:]], np.where(same, latest[:-1], -np.inf))
    in_time: Bools = numbers > before
    if late == "refuse" and not in_time.all():
        row = int(in_time.argmin())
        told = "again" if numbers[row] == before[row] else f"after {_moment(rows.clock, before[row])}"
        raise ValueError(
            f"the visits of an id must come in order of time, each once, got {rows.place(row)} {told}; "
            'late="ignore" leaves such visits out'
        )
    return in_time


def _moment(clock: Clock, number: float) -> Any:
    """A number of the unit of a clock as the time that it is, to a microsecond."""
    if clock.kind == "number":
        return plain(number) if number % 1 else int(number)
    microseconds = np.int64(round(number * SECONDS[clock.unit] * 1e6))
    return clock.restore(microseconds.reshape(1).view("M8[us]" if clock.kind == "date" else "m8[us]"))[0]


def _facts(parts: Parts, held: Known) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """The static values of these visits, and of before where they have none.

    Raises:
        ValueError: an id has another value than before.
    """
    facts, schema = parts.facts, parts.schema
    joined = []
    for new, old, columns in (
        (facts.values, held.values, schema.static),
        (facts.codes, held.codes, schema.static_categories),
    ):
        there, before = (~np.isnan(each) if each.dtype.kind == "f" else each >= 0 for each in (new, old))
        differs = there & before & (new != old)
        if differs.any():
            row, at = (int(n) for n in np.argwhere(differs)[0])
            levels = columns[at].levels
            both = [plain(each[row, at]) if levels is None else levels[each[row, at]] for each in (old, new)]
            raise ValueError(
                f"column {columns[at].name!r} must have one value for each {schema.id_name}, got {both[0]!r} before "
                f"and {both[1]!r} now, {schema.id_name} {plain(facts.ids[row])!r}"
            )
        joined.append(np.where(there, new, old))
    return joined[0], joined[1]
