"""`Support`: which values and histories of a column occurred, so that an answer far from them is marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from rnam.estimators.encoding import Feature, Inputs
from rnam.explain._arrays import Bools, Floats

__all__ = ["Support"]

Integers = NDArray[np.int64]

NEAR = 0.5  # two values are alike that differ by so much, in the scale of the encoder
SPANS = (4, 16, 64)  # observed visits over which a history is averaged
HISTORIES = 4000  # that are kept
FOLDS, SHARE = 5, 0.99


@dataclass(frozen=True, eq=False)
class Support:
    """The joint support of a column: the values that it took, the runs in which it stayed, the histories that it had.

    All is in the scale of the encoder. A history is described by the column's last value and by its means over the
    last 4, 16 and 64 observed visits; before the first the column counts as its median. Where terms read the column and
    another one, the history is described by the same of that one, too. A visit lies outside where one of three tests
    says so:

    range    its value is less than the least, or greater than the greatest, that occurred;
    run      the value has stayed within half a scale for more visits than it ever did near this value: 80 dry days
             where the longest dry spell is 18;
    history  the nearest history that occurred is further away than 99% of those that occurred are from the nearest of
             other people, or of other blocks of time where there are fewer than ten people or groups.

    By the last test about 1% of what occurred is outside, too.

    Attributes:
        low, high: the least and the greatest value, (columns,).
        cells, runs: of each interval of half a scale, (cells, columns), the longest run of a value in it.
        tree: of the histories that occurred.
        furthest: the distance of the last test.
    """

    columns: tuple[int, ...]
    partners: tuple[int, ...]
    low: Floats
    high: Floats
    cells: Integers
    runs: Integers
    tree: Any
    furthest: float

    @classmethod
    def of(
        cls, inputs: Inputs, feature: Feature, partners: tuple[int, ...], owners: NDArray[Any], times: Floats
    ) -> Support:
        """
        Args:
            inputs: of a panel whose histories occurred.
            feature: the column.
            partners: the columns of the input that terms read with it.
            owners: (sequences,), the person or group of each.
            times: (visits,), when each visit was.

        Raises:
            ValueError: the column has no value.
        """
        columns = feature.visit_columns
        seen = np.flatnonzero(inputs.mask[:, columns[0]])
        if not len(seen):
            raise ValueError(f"column {feature.name!r} must have a value in the background, got none")
        values = inputs.values[seen][:, columns].astype(np.float64)
        rng = np.random.default_rng(0)
        cells, place = np.unique(_cells(values), axis=0, return_inverse=True)
        runs = np.zeros(len(cells), np.int64)
        np.maximum.at(runs, place.reshape(-1), _runs(inputs, columns, seen))
        kept = np.sort(rng.choice(seen, min(HISTORIES, len(seen)), replace=False))
        described = _describe(inputs, (*columns, *partners), kept)
        folds = _folds(owners[_owners(inputs)[kept]], times[kept], rng)
        away = np.zeros(len(kept))
        for fold in np.unique(folds):
            held = folds == fold
            if not held.all():
                away[held] = cKDTree(described[~held]).query(described[held])[0]
        return cls(
            columns,
            partners,
            values.min(0),
            values.max(0),
            cells,
            runs,
            cKDTree(described),
            float(np.quantile(away, SHARE)),
        )

    def outside(self, inputs: Inputs, visits: Integers) -> Bools:
        """(visits,): whether the histories up to these visits lie outside. Where the column is missing, it is as at its
        last observed visit; before the first nothing is."""
        seen = inputs.mask[:, self.columns[0]]
        latest = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), -1))[visits]
        known = latest >= inputs.offsets[_owners(inputs)[visits]]
        found = np.zeros(len(visits), np.bool_)
        places, back = np.unique(latest[known], return_inverse=True)
        if len(places):
            found[known] = self._outside(inputs, places)[back]
        return found

    def held(self, steps: int, values: Floats) -> Bools:
        """(values,): whether these values (values, columns), held for so many visits, lie outside by range or run."""
        beyond = ((values < self.low) | (values > self.high)).any(1)
        return np.asarray(beyond | (steps > self._longest(values)))

    def _outside(self, inputs: Inputs, places: Integers) -> Bools:
        values = inputs.values[places][:, self.columns].astype(np.float64)
        run = _runs(inputs, self.columns, places)
        away = self.tree.query(_describe(inputs, (*self.columns, *self.partners), places))[0]
        beyond = ((values < self.low) | (values > self.high)).any(1)
        return np.asarray(beyond | (run > self._longest(values)) | (away > self.furthest))

    def _longest(self, values: Floats) -> Integers:
        """The longest run near each value (values, columns)."""
        own, place = np.unique(_cells(values), axis=0, return_inverse=True)
        near = (np.abs(own[:, None] - self.cells) <= 1).all(2)
        return np.asarray(np.where(near, self.runs, 0).max(1)[place.reshape(-1)], np.int64)


def _cells(values: Floats) -> Integers:
    return np.floor(values / NEAR).astype(np.int64)


def _owners(inputs: Inputs) -> Integers:
    return np.repeat(np.arange(inputs.sequences), inputs.lengths)


def _runs(inputs: Inputs, columns: tuple[int, ...], visits: Integers) -> Integers:
    """For how many observed visits the value of each of `visits`, which are observed, has stayed near."""
    order = np.flatnonzero(inputs.mask[:, columns[0]])
    values = inputs.values[order][:, columns].astype(np.float64)
    owner = _owners(inputs)[order]
    at = np.searchsorted(order, visits)
    run, going = np.ones(len(at), np.int64), np.arange(len(at))
    while len(going):
        back = at[going] - run[going]
        same = (back >= 0) & (owner[back] == owner[at[going]])
        same &= (np.abs(values[back] - values[at[going]]) <= NEAR).all(1)
        going = going[same]
        run[going] += 1
    return run


def _describe(inputs: Inputs, columns: tuple[int, ...], visits: Integers) -> Floats:
    """The last observed value of each column at `visits`, and its means over the last observed visits. Before the first
    it counts as 0, the centre of the encoder: by means over fewer visits a short history would look like a long one."""
    owner = _owners(inputs)
    found = []
    for column in columns:
        seen = inputs.mask[:, column]
        count = np.concatenate([[0], np.cumsum(seen)])
        total = np.concatenate([[0.0], np.cumsum(np.where(seen, inputs.values[:, column], 0).astype(np.float64))])
        place = np.flatnonzero(seen)
        last, first = count[visits + 1], count[inputs.offsets[owner[visits]]]
        for span in (1, *SPANS):
            before = np.maximum(last - span, first)
            ends = np.append(place, len(seen))  # the sum before the n-th observed visit
            sums = total[visits + 1] - total[ends[np.minimum(before, len(place))]]
            found.append(sums / span)
    return np.stack(found, axis=1)


def _folds(owners: NDArray[Any], times: Floats, rng: np.random.Generator) -> Integers:
    """A fold of each history: that of its person or group, or of its block of time where there are few of these."""
    names, codes = np.unique(owners, return_inverse=True)
    if len(names) >= 2 * FOLDS:
        return np.asarray(rng.permutation(len(names))[codes] % FOLDS, np.int64)
    order = np.argsort(np.argsort(times, kind="stable"), kind="stable")
    return np.asarray(order * 4 * FOLDS // len(times) % FOLDS, np.int64)
