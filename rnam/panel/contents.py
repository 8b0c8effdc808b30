"""What a panel shows of its contents: ids, times, columns, arrays, and tables of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam.panel import arrays, frames
from rnam.panel.schema import At, Column, Schema
from rnam.panel.storage import Bools, Facts, Floats, Integers, Parts

__all__ = ["Contents"]

Array = NDArray[Any]


class Contents:
    """The part of a `Panel` that is read. Ragged arrays hold the visits of one id after those of another; they can't be
    written to. An array is a view where the ids of the panel follow each other in what it was read from, and a copy
    that is made at each access elsewhere.
    """

    def __init__(self, parts: Parts) -> None:
        if not isinstance(parts, Parts):
            raise TypeError(f"a Panel is made by from_frame, from_array or from_series, got {type(parts).__name__}")
        self._parts = parts

    @property
    def schema(self) -> Schema:
        """The columns by role: `values`, `categories`, `static`, `static_categories`, `targets`, each a tuple of
        columns with a name, a title, a unit, levels, a period; and `at`, `clock`, `weight`, `group`."""
        return self._parts.schema

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns to learn from: those of values, categories, static numbers and static categories, in order."""
        return self.schema.inputs

    @property
    def at(self) -> At:
        """Where labels are: "id" or "visit"."""
        return self.schema.at

    @property
    def ids(self) -> Any:
        """A pandas Index of different ids; of windows a MultiIndex of the id and the time of the last visit."""
        return self._parts.facts.ids

    @property
    def lengths(self) -> Integers:
        """int64 (ids,), the number of visits of each id, at least 1."""
        return self._parts.sequences.lengths

    @property
    def offsets(self) -> Integers:
        """int64 (ids + 1,): the visits of id i are those from offsets[i] to offsets[i + 1] - 1."""
        return self._parts.sequences.offsets

    @property
    def owners(self) -> Integers:
        """int64 (visits,): the position of the id that each visit is of."""
        return self._parts.sequences.owners()

    @property
    def last(self) -> Integers:
        """int64 (ids,): where the last visit of each id stands among all."""
        return self.offsets[1:] - 1

    @property
    def times(self) -> NDArray[np.float64]:
        """float64 (visits,), in units of `time_unit`; of dates since the start of 1970, in UTC where they have a zone,
        of durations since 0, of numbers as they are."""
        return self.schema.clock.numbers(self._parts.stamps())

    @property
    def time_unit(self) -> str:
        return self.schema.clock.unit

    @property
    def stamps(self) -> Any:
        """A pandas Series (visits,) of the times as they came."""
        return self.schema.clock.restore(self._parts.stamps())

    @property
    def values(self) -> Floats:
        """(visits, columns of `schema.values`), NaN where missing: float32 where that holds the numbers of every column
        of the table as its dtype says, else float64."""
        return self._parts.visits.values[self._parts.sequences.rows()]

    @property
    def observed(self) -> Bools:
        """bool (visits, columns of `schema.values`): where `values` is a number. It is made at each access."""
        return ~np.isnan(self.values)

    @property
    def codes(self) -> NDArray[np.int32]:
        """int32 (visits, columns of `schema.categories`): places in the levels of the column, -1 where missing."""
        return self._parts.visits.codes[self._parts.sequences.rows()]

    @property
    def static(self) -> Floats:
        """float64 (ids, columns of `schema.static`), NaN where missing. A value is there from the first visit on that
        holds it, and missing in a part by time or a window that ends before."""
        return self._parts.facts.values

    @property
    def static_codes(self) -> NDArray[np.int32]:
        """int32 (ids, columns of `schema.static_categories`), -1 where missing."""
        return self._parts.facts.codes

    @property
    def target(self) -> Array | None:
        """(ids,) or (visits,), as `at` says, (..., targets) of several; None without a target.

        Numbers have the table's dtype, or that of NumPy which goes with it: int64 of Int64, bool of boolean. They are
        float64 where some have no label, which are NaN, and where the table has objects or decimals. Classes are what
        they were called, with None where there is no label.
        """
        return arrays.target(self._parts)

    @property
    def labelled(self) -> Bools | None:
        """bool of the shape of `target`: where there is a label."""
        labels = self._parts.labels()
        if labels is None:
            return None
        seen = ~np.isnan(labels)
        return np.asarray(seen[:, 0] if seen.shape[1] == 1 else seen)

    @property
    def weight(self) -> NDArray[np.float64] | None:
        """float64 (ids,) or (visits,), as `at` says; None without weights."""
        visits = self._parts.visits
        if visits.weight is None:
            return self._parts.facts.weight
        return visits.weight[self._parts.sequences.rows()]

    @property
    def groups(self) -> Any:
        """A pandas Index (ids,) of the group that each id is in; None without groups."""
        return self._parts.facts.groups

    def padded(self, positions: Any = None, *, length: int | None = None) -> dict[str, Array]:
        """Some of the ids as arrays of one length, for a batch. The visits of an id come first, then padding.

        Args:
            positions: of the ids, (n,), counted from 0; None for all.
            length: of the arrays; None for the visits of the longest of these ids.

        Returns:
            values (n, length, columns) with NaN where missing and at padding, and mask, where there are numbers;
            codes (n, length, categories), -1 where missing; lengths (n,); times (n, length), NaN at padding;
            static (n, columns), static_mask and static_codes; target (n, targets) or (n, length, targets) float64, of
            which a class is its place in the levels of `schema.targets` and NaN is no label; weight (n,) or (n, length)
            with 0 at padding. target and weight are there where the panel has them.

        Raises:
            TypeError, ValueError: positions are no whole numbers, or out of range; length is too short.

        Example:
            >>> import pandas
            >>> df = pandas.DataFrame({"id": [1, 1, 2], "day": [0, 3, 0], "x": [1.0, None, 5.0]})
            >>> batch = rnam.Panel.from_frame(df, id="id", time="day", values=["x"]).padded()
            >>> batch["values"][..., 0]
            array([[ 1., nan],
                   [ 5., nan]])
            >>> batch["lengths"], batch["times"][0]
            (array([2, 1]), array([0., 3.]))
        """
        return arrays.padded(self._parts, positions, length)

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each visit, one id after the other: what the panel was read from.

        Columns have the dtypes that they had and stand in the order in which they stood. What differs: rows of ids that
        took turns come id by id; columns without a role are gone; objects that are numbers or dates have a dtype of
        those; a dictionary of pyarrow is a category; what is missing among words that are objects is None; a value of
        an id stands in all of its rows from the first one on that held it; labels that a part does not show are
        missing. Windows have the time of their last visit as a second id.
        """
        return frames.to_frame(self._parts)

    def describe(self) -> Any:
        """A pandas DataFrame with a row for each column: role, unit, share missing, the number of levels, or mean,
        standard deviation, minimum and maximum of the numbers."""
        return frames.describe(self._parts)

    def equals(self, other: object) -> bool:
        """Whether another panel has the same columns, ids, times, values, labels, weights and groups, in this order,
        and the same first visits of static values."""
        if not isinstance(other, Contents) or self.schema != other.schema:
            return False
        return _same(_contents(self._parts), _contents(other._parts))

    def __len__(self) -> int:
        """The number of ids."""
        return len(self.ids)

    def __iter__(self) -> Iterator[Any]:
        """The ids, in order."""
        return iter(self.ids)

    def __contains__(self, id: object) -> bool:
        return id in self.ids

    def __repr__(self) -> str:
        return frames.words(self._parts)


def _contents(parts: Parts) -> list[Any]:
    visits, facts, rows = parts.visits, parts.facts, parts.sequences.rows()
    weight = None if visits.weight is None else visits.weight[rows]
    arrays = [parts.sequences.lengths, parts.stamps(), visits.values[rows], visits.codes[rows], parts.labels(), weight]
    arrays += [facts.values_from[~np.isnan(facts.values)], facts.codes_from[facts.codes >= 0]]
    apart = ("labels", "values_from", "codes_from")
    return [*arrays, *(getattr(facts, name) for name in Facts.__dataclass_fields__ if name not in apart)]


def _same(own: list[Any], other: list[Any]) -> bool:
    for mine, theirs in zip(own, other, strict=True):
        if mine is None or theirs is None:
            if mine is not theirs:
                return False
        elif isinstance(mine, pandas.Index):
            if not mine.equals(theirs):
                return False
        elif not np.array_equal(mine, theirs, equal_nan=mine.dtype.kind in "fmM"):
            return False
    return True
