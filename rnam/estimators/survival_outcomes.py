"""Outcomes of people: times and events as a panel or scikit-survival holds them, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from rnam._checks import shown
from rnam.panel import Panel
from rnam.panel.columns import plain
from rnam.panel.schema import At

__all__ = ["Origin", "Outcomes", "of_panel", "of_structured"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Origin = Literal["clock", "visit"]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """An outcome for each id or each visit, from which it is predicted.

    Args:
        start: float64 (n,), when its visit was; 0 where times count from the visit.
        end: float64 (n,), when the event came or observation ended, on the same scale; `start` without a label.
        event: bool (n,), False where observation ended without one, and without a label.
        labelled: bool (n,).
        owners: int64 (n,), the position of the id.
    """

    start: Floats
    end: Floats
    event: Bools
    labelled: Bools
    owners: NDArray[np.int64]

    @property
    def time(self) -> Floats:
        """float64 (n,), from the visit on."""
        return self.end - self.start

    @property
    def table(self) -> Floats:
        """float64 (n, 4): start, end, event and owner of each, as a fit keeps them."""
        return np.stack([self.start, self.end, self.event, self.owners], axis=1).astype(np.float64)

    @classmethod
    def of_table(cls, table: Any) -> Self:
        """Labelled outcomes from some rows of `table`."""
        start, end, event, owners = np.asarray(table, np.float64).T
        return cls(start, end, event == 1, np.ones(len(start), np.bool_), owners.astype(np.int64))

    def spells(self, weight: Floats) -> tuple[Floats, Floats, Bools, Floats]:
        """Entry, end, event and weight of each id, once for each of its ends: it is observed from its first visit on,
        whose weight it has.

        Args:
            weight: (n,), at least 0; what weighs nothing is not read.
        """
        kept = np.flatnonzero(weight > 0)
        keys = np.stack([self.owners[kept], self.end[kept]], axis=1)
        first = kept[np.unique(keys, axis=0, return_index=True)[1]]  # visits are in order of time
        return self.start[first], self.end[first], self.event[first], weight[first]

    def structured(self) -> Any:
        """The labelled ones as scikit-survival takes them: fields event and time, from the visit on."""
        y = np.empty(int(self.labelled.sum()), dtype=[("event", np.bool_), ("time", np.float64)])
        y["event"], y["time"] = self.event[self.labelled], self.time[self.labelled]
        return y


def of_panel(panel: Panel, origin: Origin) -> Outcomes:
    """The two targets of a panel: time and event, or event and time where the event is of bools and the time is not.

    Args:
        panel: with two targets, at ids or at visits.
        origin: of the times: "clock" is that of the visits, "visit" is the visit of the label, of an id its last one.

    Raises:
        ValueError: the panel has other targets; an event is neither bool nor 0 or 1; a time is negative or before the
            visit; one of the two is missing where the other one is there.
    """
    targets = panel.schema.targets
    names = [column.name for column in targets]
    if len(targets) != 2:
        raise ValueError(f"a panel for survival must have target=[time, event], got {names}")
    bools = [getattr(column.dtype, "kind", "") == "b" for column in targets]
    if all(bools):
        raise ValueError(f"one target must be times and one events, got bools in both of {names}")
    order = [1, 0] if bools[0] else [0, 1]
    for position, what in zip(order, ("a time", "an event that is bool or 0 or 1"), strict=True):
        column = targets[position]
        if column.levels is not None:
            levels = ", ".join(map(repr, column.levels))
            raise ValueError(f"column {column.name!r} must hold {what}, got levels {levels}")
    visits = _Visits.of(panel, panel.at)
    names = [names[position] for position in order]
    labels, labelled = np.asarray(panel.target, np.float64)[:, order], np.asarray(panel.labelled)[:, order]
    half = labelled[:, 0] != labelled[:, 1]
    if half.any():
        row = int(half.argmax())
        having, lacking = names if labelled[row, 0] else reversed(names)
        raise ValueError(f"column {lacking!r} must hold a label where {having!r} does, got none, {visits.place(row)}")
    return _checked(labels, labelled[:, 0], visits, origin, names)


def of_structured(y: Any, panel: Panel, origin: Origin) -> tuple[Outcomes, At]:
    """scikit-survival's y: a structured array with a field of bools, the event, and a field of numbers, the time.

    Args:
        y: (ids,) or (visits,).
        panel: whose ids and visits these are.
        origin: as `of_panel`.

    Returns:
        The outcomes, and whether they are of ids or visits.

    Raises:
        TypeError, ValueError: y is none; a time is NaN, infinite, negative or before the visit.
    """
    fields = getattr(getattr(y, "dtype", None), "names", None)
    if fields is None or len(fields) != 2 or y.ndim != 1:
        got = f"{type(y).__name__}" if fields is None else f"fields {list(fields)} {y.shape}"
        raise TypeError(
            f"y must be a structured array (n,) with an event and a time, as sksurv.util.Surv makes one, got {got}"
        )
    bools = [y.dtype[name].kind == "b" for name in fields]
    if sum(bools) != 1 or y.dtype[bools.index(False)].kind not in "iuf":
        told = ", ".join(f"{name} {y.dtype[name]}" for name in fields)
        raise TypeError(f"y must have a field of bools, the event, and one of numbers, the time, got {told}")
    ids, visits = len(panel), int(panel.lengths.sum())
    if len(y) not in (ids, visits):
        raise ValueError(f"y must have a label for each of {ids} ids or of {visits} visits, got {len(y)}")
    at: At = "id" if len(y) == ids else "visit"
    names = [fields[bools.index(False)], fields[bools.index(True)]]
    labels = np.stack([y[name].astype(np.float64) for name in names], axis=1)
    return _checked(labels, np.ones(len(y), np.bool_), _Visits.of(panel, at), origin, names), at


@dataclass(frozen=True, eq=False)
class _Visits:
    """The visits of labels: (labels,) positions of the ids, and of the visits among all."""

    panel: Panel
    owners: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, panel: Panel, at: At) -> Self:
        if at == "id":
            return cls(panel, np.arange(len(panel)), panel.last)
        owners = panel.owners
        return cls(panel, owners, np.arange(len(owners)))

    def start(self, origin: Origin) -> Floats:
        if origin == "visit":
            return np.zeros(len(self.rows))
        if self.panel.schema.clock.kind == "date":
            raise ValueError(
                "origin='clock' must have times of visits that are numbers, got dates: give the time from each visit "
                "on, with origin='visit'"
            )
        return self.panel.times[self.rows]

    def place(self, row: int) -> str:
        schema, id = self.panel.schema, plain(self.panel.ids[self.owners[row]])
        return f"{schema.id_name} {id!r} at {schema.clock.name} {self.panel.stamps.iloc[self.rows[row]]}"


def _checked(labels: Floats, labelled: Bools, visits: _Visits, origin: Origin, names: Sequence[Any]) -> Outcomes:
    """Labels (n, 2), time and event, as outcomes."""
    start = visits.start(origin)
    end = np.where(labelled, labels[:, 0], start)
    event = np.where(labelled, labels[:, 1], 0.0)
    for bad, name, what, values in (
        (~np.isin(event, (0.0, 1.0)), names[1], "be bool, or 0 or 1", event),
        (~np.isfinite(end), names[0], "be finite", end),
        ((end < 0) & (start >= 0), names[0], "be at least 0", end),
        (end < start, names[0], "not be before the visit", end),
    ):
        if bad.any():
            row = int(bad.argmax())
            advice = "; origin='visit' counts times from the visit on" if what.endswith("visit") else ""
            raise ValueError(f"column {name!r} must {what}, got {shown(values[row])}, {visits.place(row)}{advice}")
    return Outcomes(start, end, event == 1, labelled, visits.owners)
