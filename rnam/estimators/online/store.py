"""Each id after its visits so far: the state of the model, the last time, the static values."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnam.models.streaming import State, row_dim

__all__ = ["Known", "Store"]

_FIRST = 16  # rows that an empty store makes room for


class Known(NamedTuple):
    """The facts that are known of some ids beside their states.

    times     float64 (ids,), of the last visit; -inf before any
    values    float64 (ids, columns), static numbers, NaN where missing
    codes     int32 (ids, categories), places in the levels of static categories, -1 where missing
    """

    times: NDArray[np.float64]
    values: NDArray[np.float64]
    codes: NDArray[np.int32]

    def take(self, positions: NDArray[np.int64]) -> Known:
        """That of some of the ids, in memory of its own."""
        return Known(self.times[positions], self.values[positions], self.codes[positions])


class Store:
    """A row for each id, in arrays that double in size when they are full.

    Row 0 is that of an id before its first visit. It is read for every id that is not there, and never written.

    Args:
        like: a state of the model, of one row.
        static: the number of static columns of numbers, and of those of levels.
    """

    def __init__(self, like: State, static: tuple[int, int]) -> None:
        self._rows: dict[Hashable, int] = {}
        self._used = 1
        self._free: list[int] = []  # of the rows that were used
        self._state = like.reset([0])
        numbers, levels = static
        self._known = Known(np.full(1, -np.inf), np.full((1, numbers), np.nan), np.full((1, levels), -1, np.int32))

    @property
    def ids(self) -> tuple[Hashable, ...]:
        """In the order in which they came."""
        return tuple(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, id: object) -> bool:
        return id in self._rows

    def rows(self, ids: Iterable[Any]) -> NDArray[np.int64]:
        """The row of each id, 0 where it is not there."""
        return np.fromiter((self._rows.get(id, 0) for id in ids), np.int64)

    def known(self, rows: NDArray[np.int64]) -> Known:
        return self._known.take(rows)

    def state(self, rows: NDArray[np.int64]) -> State:
        """The states of these rows, in memory of their own."""
        index = torch.from_numpy(rows).to(self._state.observed.device)
        return self._state.map(lambda name, value: value.index_select(row_dim(name), index))

    def put(self, ids: Sequence[Any], state: State, known: Known) -> None:
        """Keep the states of different ids, in the place of what was kept of them; a new id gets a row."""
        rows = self.rows(ids)
        new = np.flatnonzero(rows == 0)
        rows[new] = self._room(len(new))
        index = torch.from_numpy(rows).to(state.observed.device)
        self._state.map(lambda name, own, other: own.index_copy_(row_dim(name), index, other), state)
        for name in Known._fields:
            getattr(self._known, name)[rows] = getattr(known, name)
        self._rows |= {ids[n]: int(rows[n]) for n in new.tolist()}

    def forget(self, id: Hashable) -> None:
        """Clear the row of an id, which another one may have then.

        Raises:
            KeyError: there is no such id.
        """
        row = self._rows.pop(id)
        self._state.map(lambda name, value: value.select(row_dim(name), row).zero_())
        for array in self._known:
            array[row] = array[0]
        self._free.append(row)

    def _room(self, count: int) -> NDArray[np.int64]:
        """Rows that no id has, so many. Arrays grow by doubling, so that a row is copied about twice in all."""
        again = self._free[:count]
        end = self._used + count - len(again)
        if end > len(self._known.times):
            self._grow(max(2 * len(self._known.times), end, _FIRST))
        rows = np.concatenate([np.array(again, np.int64), np.arange(self._used, end)])
        self._free, self._used = self._free[count:], end
        return rows

    def _grow(self, size: int) -> None:
        state = self._state.map(lambda name, value: _grown(value, row_dim(name), self._used, size))
        times, values, codes = (_grown_array(array, size) for array in self._known)
        self._state, self._known = state, Known(times, values, codes)


def _grown(value: Tensor, dim: int, used: int, size: int) -> Tensor:
    """The first `used` rows of `value` among so many, the others 0, as before any step."""
    shape = list(value.shape)
    shape[dim] = size
    out = value.new_zeros(shape)
    out.narrow(dim, 0, used).copy_(value.narrow(dim, 0, used))
    return out


def _grown_array(array: NDArray[Any], size: int) -> NDArray[Any]:
    """`array` in the first rows of so many, the others as row 0."""
    out = np.empty((size, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    out[len(array) :] = array[0]
    return out
