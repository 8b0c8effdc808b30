"""The arrays that a panel shows: its values one visit after the other, labels as they came, and padded batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnam import _checks
from rnam.panel.schema import Column
from rnam.panel.storage import Floats, Integers, Parts, ragged

__all__ = ["decoded", "padded", "positions_in", "target"]

Array = NDArray[Any]


def target(parts: Parts) -> Array | None:
    """Labels in the kind that they came in: (ids,) or (visits,), with a second dimension for several targets."""
    labels = parts.labels()
    if labels is None:
        return None
    columns = [decoded(labels[:, n], column) for n, column in enumerate(parts.schema.targets)]
    if len(columns) == 1:
        return columns[0]
    if any(column.dtype.kind not in "biuf" for column in columns):
        columns = [column.astype(object) for column in columns]
    return np.stack(columns, axis=1)


def decoded(labels: Floats, column: Column) -> Array:
    """One target: classes as they were called, None where there is none; numbers in the table's dtype or that of NumPy
    which goes with it, where each has one, else float64 with NaN."""
    gone = np.isnan(labels)
    if column.levels is not None:
        codes = np.where(gone, len(column.levels), labels).astype(np.int64)
        levels = np.array([*column.levels, None], dtype=object) if gone.any() else np.array(column.levels)
        return np.asarray(levels[codes])
    dtype = getattr(column.dtype, "numpy_dtype", column.dtype)  # that of Int64, boolean, int64[pyarrow] and the like
    return labels.astype(dtype) if isinstance(dtype, np.dtype) and dtype.kind in "biuf" and not gone.any() else labels


def positions_in(ids: int, positions: Any) -> Integers:
    """`positions` as int64, each from 0 to ids - 1; all where there are none.

    Raises:
        TypeError, ValueError: they are no whole numbers of one dimension, or out of range.
    """
    if positions is None:
        return np.arange(ids)
    array = np.asarray(positions)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(f"positions must be whole numbers (n,), got {array.dtype} {array.shape}")
    array = array.astype(np.int64)
    wrong = (array < 0) | (array >= ids)
    if wrong.any():
        raise ValueError(f"positions must be from 0 to {ids - 1}, got {array[wrong][0]}")
    return array


def padded(parts: Parts, positions: Any, length: int | None) -> dict[str, Array]:
    """`Panel.padded`."""
    chosen = positions_in(len(parts.facts.ids), positions)
    sequences, visits, facts = parts.sequences.take(chosen), parts.visits, parts.facts
    lengths = sequences.lengths
    longest = int(lengths.max()) if len(lengths) else 0
    if length is not None:
        if _checks.whole_number("length", length) < longest:
            raise ValueError(f"length must be at least {longest}, the visits of the longest, got {length}")
        longest = length
    rows = ragged(sequences.starts, lengths)
    places = ragged(np.arange(len(chosen)) * longest, lengths)

    def spread(array: Array, fill: Any) -> Array:
        out = np.full((len(chosen) * longest, *array.shape[1:]), fill, array.dtype)
        out[places] = array
        return out.reshape(len(chosen), longest, *array.shape[1:])

    values = spread(visits.values[rows], np.nan)
    batch = {
        "values": values,
        "mask": ~np.isnan(values),
        "codes": spread(visits.codes[rows], -1),
        "lengths": lengths.copy(),
        "times": spread(parts.schema.clock.numbers(visits.stamps[rows]), np.nan),
        "static": facts.values[chosen],
        "static_mask": ~np.isnan(facts.values[chosen]),
        "static_codes": facts.codes[chosen],
    }
    if visits.labels is not None:
        labels = visits.labels[rows]
        if sequences.shown is not None:
            labels = np.where(sequences.shown[:, None], labels, np.nan)
        batch["target"] = spread(labels, np.nan)
    elif facts.labels is not None:
        batch["target"] = facts.labels[chosen]
    if visits.weight is not None:
        batch["weight"] = spread(visits.weight[rows], 0.0)
    elif facts.weight is not None:
        batch["weight"] = facts.weight[chosen]
    return batch
