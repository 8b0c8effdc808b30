"""What became of people: times and events as a panel or scikit-survival holds them, read and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rnam.panel import Panel

__all__ = ["Origin", "Outcomes", "of_panel", "of_structured"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Origin = Literal["clock", "visit"]
Place = Callable[[int], str]


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

    def spells(self) -> tuple[Floats, Floats, Bools]:
        """Entry, end and event of each id, once for each of its ends: it is observed from its first visit on."""
        kept = self.labelled
        keys = np.stack([self.owners[kept], self.end[kept]], axis=1)
        _, first, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        entry = np.full(len(first), np.inf)
        np.minimum.at(entry, place.reshape(-1), self.start[kept])
        return entry, self.end[kept][first], self.event[kept][first]

    def structured(self) -> Any:
        """The labelled ones as scikit-survival takes them: fields event and time, from the visit on."""
        y = np.empty(int(self.labelled.sum()), dtype=[("event", np.bool_), ("time", np.float64)])
        y["event"], y["time"] = self.event[self.labelled], self.time[self.labelled]
        return y


def of_panel(panel: Panel, origin: Origin) -> Outcomes:
    """The two targets of a panel: time and event, or event and time where the event is of bools and the time is not.

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
    at_time, at_event = (1, 0) if bools[0] else (0, 1)
    for position, what in ((at_time, "a time"), (at_event, "an event that is bool or 0 or 1")):
        column = targets[position]
        if column.levels is not None:
            raise ValueError(
                f"column {column.name!r} must hold {what}, got levels {', '.join(map(repr, column.levels))}"
            )
    labels, labelled = np.asarray(panel.target, np.float64), np.asarray(panel.labelled)
    lengths = panel.lengths
    owners = np.arange(len(panel)) if panel.at == "id" else np.repeat(np.arange(len(panel)), lengths)
    visits = panel.offsets[1:] - 1 if panel.at == "id" else np.arange(len(owners))

    def place(row: int) -> str:
        when = panel.stamps.iloc[visits[row]]
        return f"{panel.schema.id_name} {panel.ids[owners[row]]!r} at {panel.schema.clock.name} {when}"

    half = labelled[:, at_time] != labelled[:, at_event]
    if half.any():
        row = int(half.argmax())
        gone = names[at_time] if labelled[row, at_event] else names[at_event]
        other = names[at_event] if labelled[row, at_event] else names[at_time]
        raise ValueError(f"column {gone!r} must hold a label where {other!r} does, got none, {place(row)}")
    start = np.zeros(len(owners))
    if origin == "clock":
        if panel.schema.clock.kind == "date":
            raise ValueError(
                "origin='clock' must have times of visits that are numbers, got dates: give the time from each visit "
                "on, with origin='visit'"
            )
        start = panel.times[visits]
    names = [names[at_time], names[at_event]]
    return _checked(labels[:, at_time], labels[:, at_event], start, ~half & labelled[:, 0], owners, place, names)


def of_structured(y: Any, start: Floats, owners: NDArray[np.int64], place: Place) -> Outcomes:
    """scikit-survival's y: a structured array with a field of bools, the event, and a field of numbers, the time.

    Args:
        y: (n,).
        start, owners: of `Outcomes`.
        place: a row, in the words of an error.

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
    if len(y) != len(start):
        raise ValueError(f"y must have {len(start)} rows, as X has, got {len(y)}")
    event, time = fields[bools.index(True)], fields[bools.index(False)]
    times = y[time].astype(np.float64)
    labelled = np.ones(len(y), np.bool_)
    return _checked(times, y[event].astype(np.float64), start, labelled, owners, place, [time, event])


def _checked(
    time: Floats, event: Floats, start: Floats, labelled: Bools, owners: NDArray[np.int64], place: Place,
    names: list[Any],
) -> Outcomes:  # fmt: skip
    end = np.where(labelled, time, start)
    happened = np.where(labelled, event, 0.0)
    for bad, name, what, values in (
        (~np.isin(happened, (0.0, 1.0)), names[1], "be bool, or 0 or 1", happened),
        (~np.isfinite(end), names[0], "be finite", end),
        ((end < 0) & (start >= 0), names[0], "be at least 0", end),
        (end < start, names[0], "not be before the visit", end),
    ):
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(f"column {name!r} must {what}, got {values[row]:g}, {place(row)}")
    return Outcomes(start, end, happened == 1, labelled, owners)
