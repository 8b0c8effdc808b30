"""Tables as arrays of numbers. What is no number is refused, by the name of its column."""

from __future__ import annotations

import datetime
import math
import numbers
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import check_array
from torch import Tensor

from rnam.explain._arrays import Bools, as_array

__all__ = [
    "absent",
    "column",
    "column_numbers",
    "distinct",
    "hidden",
    "labels",
    "missing",
    "names",
    "plain_array",
    "refuse_missing",
    "refuse_twice",
    "table",
    "there",
    "to_numbers",
    "warn_of_overflow",
    "whole_numbers",
]

Array = NDArray[Any]

# what float() takes, or what would pass as missing: NaT is a date and a duration
_NO_NUMBERS = (str, bytes, datetime.date, datetime.timedelta, np.datetime64, np.timedelta64)


def names(value: Any) -> list[Any] | None:
    """What the columns of a frame of pandas, polars or pyarrow are called; None of anything else."""
    if hasattr(value, "iloc"):
        return list(value.columns) if value.ndim == 2 else None
    called = getattr(value, "column_names", getattr(value, "columns", None))
    return None if called is None else list(called)


def refuse_twice(argument: str, called: Sequence[Any]) -> None:
    """Raises ValueError if two columns have one name."""
    name, count = Counter(called).most_common(1)[0] if called else (None, 0)
    if count > 1:
        raise ValueError(f"the columns of {argument} must have different names, got {name!r} {count} times")


def plain_array(value: Any) -> Any:
    """A tensor as it is, anything else as an array."""
    return value if isinstance(value, Tensor) else as_array(value)


def column(argument: str, name: object) -> str:
    """A column in the words of an error: by its name, or by its number where it has none."""
    return f"column {name!r} of {argument}"


def table(argument: str, value: Any, **options: Any) -> Array:
    """`value` as an array of numbers that can be written to; what is missing is NaN.

    Args:
        options: of `sklearn.utils.check_array`, which refuses what is empty, sparse, complex or of another shape.
    """
    return np.asarray(
        check_array(
            to_numbers(argument, value),
            allow_nd=True,
            ensure_all_finite=False,
            force_writeable=True,
            input_name=argument,
            **options,
        )
    )


def to_numbers(argument: str, value: Any) -> Any:
    """A frame, a series, an array, a tensor or lists as an array whose dtype is one of numbers; None and NA are NaN.

    Raises:
        TypeError, ValueError: a column holds anything else.
    """
    if issparse(value):
        return value  # check_array says what to do
    called = names(value)
    if called is not None:
        read = [value.iloc[:, n] if hasattr(value, "iloc") else as_array(value[name]) for n, name in enumerate(called)]
        columns = [column_numbers(column(argument, name), values) for name, values in zip(called, read, strict=True)]
        return np.column_stack(columns) if columns else np.empty(value.shape)
    array = value if hasattr(value, "iloc") or _of_categories(value) else as_array(value)
    if array.ndim < 2:
        return column_numbers(argument, array)
    if array.dtype.kind in "biufc":
        return array
    flat = array.reshape(-1, array.shape[-1])
    columns = [column_numbers(column(argument, n), flat[:, n]) for n in range(flat.shape[1])]
    return np.stack(columns, axis=-1).reshape(array.shape)


def column_numbers(where: str, values: Any) -> Array:
    """One column, an array or a pandas.Series, as numbers; None and NA are NaN.

    Raises:
        TypeError, ValueError: it holds anything else.
    """
    kind = values.dtype.kind
    if kind in "biuf":
        return as_array(
            values if isinstance(values.dtype, np.dtype) else values.to_numpy(dtype=np.float64, na_value=np.nan)
        )
    if kind not in "OUS" or _of_categories(values):
        raise ValueError(f"{where} must hold numbers, got {values.dtype}")
    items = np.asarray(values, dtype=object)
    for item in items:
        if isinstance(item, _NO_NUMBERS):
            raise ValueError(f"{where} must hold numbers, got {item!r}")
    try:
        return np.fromiter((math.nan if _is_missing(item) else float(item) for item in items), np.float64, len(items))
    except OverflowError as error:
        raise ValueError(f"{where} must hold numbers that a float64 can hold: {error}") from error
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where} must hold numbers: {error}") from error


def _of_categories(values: Any) -> bool:
    """Whether pandas holds these as categories, of which those that are numbers look like numbers."""
    return hasattr(getattr(values, "dtype", None), "categories")


def absent(values: Array) -> Bools:
    """Where an array of any kind holds nothing: None, NA, NaN or NaT."""
    kind = values.dtype.kind
    if kind == "O":
        return np.fromiter(map(_is_missing, values.flat), np.bool_, values.size).reshape(values.shape)
    if kind in "mM":
        return np.isnat(values)
    return np.asarray(np.isnan(values)) if kind in "fc" else np.zeros(values.shape, np.bool_)


def _is_missing(item: Any) -> bool:
    """None, NaN, NaT, or pandas.NA, which nothing holds before pandas is imported."""
    if item is None or item is np.ma.masked or item is getattr(sys.modules.get("pandas"), "NA", None):
        return True
    return isinstance(item, float | np.generic | datetime.date | datetime.timedelta) and bool(item != item)


def there(values: Array, largest: float) -> Bools:
    """Where `values` are numbers: neither NaN nor infinite, nor too large for the model's dtype."""
    # in float64: `largest` would be infinite in a narrower dtype
    return np.asarray(np.isfinite(values) & (np.abs(values, dtype=np.float64) <= largest))


def hidden(values: Array, mask: Any = None, lengths: Any = None) -> Bools | None:
    """Where `mask` or `lengths` hides `values` (samples, [steps,] columns); None if the mask cannot be theirs."""
    covered = np.zeros(values.shape, np.bool_)
    if mask is not None:
        seen = as_array(mask)
        fits = seen.ndim == values.ndim and all(
            n in (1, full) for n, full in zip(seen.shape, values.shape, strict=True)
        )
        if not fits or seen.dtype != np.bool_:
            return None
        covered |= ~seen
    if lengths is not None and values.ndim == 3:
        steps = np.arange(values.shape[1])
        covered |= (steps >= as_array(lengths)[:, None])[..., None]
    return covered


def missing(values: Array, largest: float, mask: Any = None, lengths: Any = None) -> Bools:
    """Where no number is there in `values` (samples, [steps,] columns), and neither `mask` nor `lengths` hides that."""
    covered = hidden(values, mask, lengths)
    # the model says what its mask must be
    return np.zeros(values.shape, np.bool_) if covered is None else ~(there(values, largest) | covered)


def refuse_missing(
    argument: str, values: Array, where: Bools, called: Sequence[Any] | None = None, advice: str = ""
) -> None:
    """Raises ValueError if any value is missing, with the name of the first such column."""
    if not where.any():
        return
    if values.ndim > 1:
        columns = where.reshape(-1, where.shape[-1])
        number = int(np.flatnonzero(columns.any(0))[0])
        argument = column(argument, number if called is None else called[number])
        values, where = values[..., number], where[..., number]
    found = values[where]
    what = "NaN" if np.isnan(found).any() else "infinity" if np.isinf(found).any() else str(found[0])
    rows = int(where.reshape(len(where), -1).any(1).sum())
    raise ValueError(f"{argument} must be finite, got {what} in {rows} of {len(where)} samples{advice}")


def whole_numbers(argument: str, value: Any, samples: int) -> Any:
    """`value` (samples,) as integers, from whatever kind of numbers; one of integers as it is."""
    array = to_numbers(argument, value)
    if array.shape != (samples,):
        raise ValueError(f"{argument} must have shape {(samples,)}, got {array.shape}")
    if array.dtype.kind != "f":
        return value if isinstance(value, Tensor) else array
    refuse_missing(argument, array, ~np.isfinite(array))
    broken = array[array != np.floor(array)]
    if len(broken):
        raise ValueError(f"{argument} must be whole numbers, got {broken[0]}")
    return np.clip(array.astype(np.float64), -(2.0**62), 2.0**62).astype(np.int64)


def distinct(argument: str, array: Array) -> Array:
    """For each item the number of its kind, in sorted order.

    Raises:
        TypeError: the items cannot be sorted.
    """
    try:
        return np.unique(array, return_inverse=True)[1]
    except TypeError as error:
        kinds = sorted({type(item).__name__ for item in array.flat})
        raise TypeError(f"{argument} must be of one kind, numbers or words, got {', '.join(kinds)}") from error


def labels(value: Any) -> Array:
    """The labels y of a classifier as an array; those that pandas has as objects come as what they are."""
    array = as_array(value)
    unknown = absent(array)
    if unknown.any():
        raise ValueError(f"y must have a label for each sample, got NaN or None in {unknown.sum()} of {array.size}")
    if array.dtype.kind != "O":
        return array
    if all(isinstance(item, numbers.Number | np.bool_) for item in array.flat):
        return np.array(array.tolist())
    distinct("the labels y", array)
    return array


def warn_of_overflow(predicted: Array) -> None:
    """Warns of the samples for which a prediction is not finite."""
    bad = np.flatnonzero(~np.isfinite(predicted).all(axis=tuple(range(1, predicted.ndim))))
    if len(bad):
        first = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        warnings.warn(
            f"the prediction is NaN or infinite for {len(bad)} of {len(predicted)} samples ({first}): the numbers "
            "that the model was given are too large for it",
            RuntimeWarning,
            stacklevel=5,
        )
