"""What a panel holds, as NumPy arrays: the visits of all ids, which panels share, and what is known of each id."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rnam.panel.schema import Schema

__all__ = ["Bools", "Facts", "Floats", "Integers", "Parts", "Sequences", "Visits", "ragged"]

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]


class _Arrays:
    """Arrays that nothing writes to, also after they were pickled."""

    def __post_init__(self) -> None:
        for each in self._held():
            if isinstance(each, np.ndarray):
                each.flags.writeable = False

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(self._held())

    def _held(self) -> list[Any]:
        return [getattr(self, each.name) for each in fields(self)]  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Visits(_Arrays):
    """The rows of the table, in order of time within an id.

    Args:
        values: float32 or float64 (rows, columns), NaN where missing.
        codes: int32 (rows, categories), -1 where missing.
        stamps: (rows,), the times as they came, see `rnam.panel.times.read`.
        labels: float64 (rows, targets) where labels are of visits: numbers, or the codes of classes; NaN for none.
        weight: float64 (rows,) or None.
    """

    values: Floats
    codes: NDArray[np.int32]
    stamps: NDArray[Any]
    labels: Floats | None
    weight: NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class Facts(_Arrays):
    """What is known of each id.

    Args:
        ids: a pandas Index of different ids; of windows a MultiIndex.
        values: float64 (ids, columns), NaN where missing.
        codes: int32 (ids, categories), -1 where missing.
        values_from, codes_from: of the same shapes: the stamp of the first visit that holds the value; of any visit
            where it is missing.
        labels: float64 (ids, targets) where labels are of ids, as those of visits.
        weight: float64 (ids,) or None.
        groups: a pandas Index (ids,) of the group that each id is in, or None.
        known: (ids,), where labels are of ids: the stamp from which the label is known.
    """

    ids: Any
    values: Floats
    codes: NDArray[np.int32]
    values_from: NDArray[Any]
    codes_from: NDArray[Any]
    labels: Floats | None
    weight: NDArray[np.float64] | None
    groups: Any
    known: NDArray[Any] | None

    def take(self, positions: Integers) -> Self:
        def part(array: Any) -> Any:
            return None if array is None else array.take(positions, axis=0)

        return type(self)(**{each.name: part(getattr(self, each.name)) for each in fields(self)})


@dataclass(frozen=True, eq=False)
class Sequences(_Arrays):
    """Which rows each id has: `lengths` consecutive ones from `starts` on. They may overlap those of another id.

    Args:
        starts, lengths: int64 (ids,); an id has at least one visit.
        shown: bool (visits,), at which visits a label may be seen; None for all.
    """

    starts: Integers
    lengths: Integers
    shown: Bools | None = None

    @property
    def offsets(self) -> Integers:
        """int64 (ids + 1,): where the visits of each id begin among all, and how many there are."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])

    def rows(self) -> Integers | slice:
        """The rows of all visits; a slice where they follow each other, which makes no copy."""
        ends = self.starts + self.lengths
        if not len(ends):
            return slice(0, 0)
        if np.array_equal(self.starts[1:], ends[:-1]):
            return slice(int(self.starts[0]), int(ends[-1]))
        return ragged(self.starts, self.lengths)

    def owners(self) -> Integers:
        """int64 (visits,): the position of the id that each visit is of."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def take(self, positions: Integers) -> Sequences:
        starts, lengths = self.starts[positions], self.lengths[positions]
        shown = None if self.shown is None else self.shown[ragged(self.offsets[positions], lengths)]
        return Sequences(starts, lengths, shown)

    def first(self, counts: Integers, shown: Bools | None) -> Sequences:
        """The first so many visits of each id, with labels where `shown` (visits,) says so, too."""
        kept = ragged(self.offsets[:-1], counts)
        both = [part[kept] for part in (self.shown, shown) if part is not None]
        return Sequences(self.starts, counts, np.logical_and.reduce(both) if both else None)


class Parts(NamedTuple):
    """What a panel is made of."""

    schema: Schema
    visits: Visits
    facts: Facts
    sequences: Sequences

    def take(self, positions: Integers) -> Parts:
        """Some of the ids."""
        return self._replace(facts=self.facts.take(positions), sequences=self.sequences.take(positions))

    def of_its_time(self) -> Parts:
        """The same without static values that stand first in a later visit than an id has here."""
        facts, sequences = self.facts, self.sequences
        last = self.visits.stamps[sequences.starts + sequences.lengths - 1][:, None]
        values, codes = facts.values_from > last, facts.codes_from > last
        if not (values.any() or codes.any()):
            return self
        known = replace(facts, values=np.where(values, np.nan, facts.values), codes=np.where(codes, -1, facts.codes))
        return self._replace(facts=known)

    def stamps(self) -> NDArray[Any]:
        """Of all visits, one id after the other."""
        return self.visits.stamps[self.sequences.rows()]

    def labels(self) -> Floats | None:
        """float64 (visits, targets) or (ids, targets), as `schema.at` says, NaN where there is no label; or None."""
        if self.visits.labels is None:
            return self.facts.labels
        labels, shown = self.visits.labels[self.sequences.rows()], self.sequences.shown
        return labels if shown is None else np.where(shown[:, None], labels, np.nan)


def ragged(starts: Integers, lengths: Integers) -> Integers:
    """The numbers from starts[i] to starts[i] + lengths[i] - 1, for each i in turn."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
