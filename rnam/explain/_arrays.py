"""Arguments as float64 arrays, and the weights of the places that contributions have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rnam import _checks

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def plain(value: Any) -> Any:
    """A tensor of any device and dtype, with or without a graph, as numpy; what is none as it is."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    return (value.float() if value.is_floating_point() and value.itemsize == 2 else value).numpy()


def as_array(value: Any) -> NDArray[Any]:
    """`value` as an array of this machine's byte order; long doubles as float64, NaN or NaT where it is masked."""
    given = plain(value)
    if isinstance(given, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in given):
        given = np.ma.array(given)
    array = np.asarray(given)
    if array.dtype.kind == "f" and array.itemsize > 8:
        with np.errstate(over="ignore"):
            array = array.astype(np.float64)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not isinstance(given, np.ma.MaskedArray) or not np.any(given.mask):
        return array
    kind = array.dtype.kind
    array = array.astype(np.float64 if kind in "biu" else object if kind in "SU" else array.dtype)
    array[given.mask] = np.array("NaT", array.dtype) if kind in "mM" else np.nan
    return array


def floats(name: str, value: ArrayLike | Tensor) -> Floats:
    """`value`, of numbers, as float64; NaN where a masked array is masked."""
    array = as_array(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of numbers, got {array.dtype}")
    return array.astype(np.float64)


def finite(name: str, value: ArrayLike | Tensor) -> Floats:
    array = floats(name, value)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return array


def finite_or_nan(name: str, value: ArrayLike | Tensor) -> Floats:
    array = floats(name, value)
    if np.isinf(array).any():
        raise ValueError(f"{name} must be finite or NaN, got infinity")
    return array


def same_shape(name: str, value: NDArray[Any], like_name: str, like: NDArray[Any]) -> None:
    if value.shape != like.shape:
        raise ValueError(f"{name} must have the shape of {like_name}, {like.shape}, got {value.shape}")


def contributions(name: str, value: ArrayLike | Tensor, members: bool) -> Floats:
    """`value` as ([members,] batch, terms, [seq,] out): 3 or 4 dimensions beside that of the members."""
    _checks.boolean_flag("members", members)
    array = floats(name, value)
    if array.ndim - members not in (3, 4):
        lead = "members, " if members else ""
        layout = f"({lead}batch, terms, out) or ({lead}batch, terms, seq, out)"
        raise ValueError(f"{name} must have shape {layout}, got {array.shape}")
    return array


def sample_weight(value: ArrayLike | Tensor | None, shape: tuple[int, ...]) -> Floats:
    """Weights of samples, of the shape asked for; ones where none are given."""
    if value is None:
        return np.ones(shape)
    weight = finite("sample_weight", value)
    if weight.shape != shape:
        raise ValueError(f"sample_weight must have shape {shape}, got {weight.shape}")
    if (weight < 0).any():
        raise ValueError(f"sample_weight must be at least 0, got {weight.min()}")
    if not weight.any():
        raise ValueError("sample_weight must be greater than 0 somewhere, got 0 everywhere")
    return weight


def places(shape: tuple[int, ...], weight: ArrayLike | Tensor | None, observed: ArrayLike | Tensor | None) -> Floats:
    """The weight of each place (batch, terms[, seq]): that of its sample or visit, 0 where it is not observed.

    `shape` is that of the places. A weight (batch,) stands for all visits of a sample.
    """
    batch = (shape[0], *shape[2:])
    if weight is not None and len(batch) == 2 and np.ndim(plain(weight)) == 1:
        weight = np.broadcast_to(sample_weight(weight, shape[:1])[:, None], batch)
    result = np.broadcast_to(np.expand_dims(sample_weight(weight, batch), 1), shape)
    if observed is None:
        return result
    seen = as_array(observed)
    if seen.dtype != np.bool_:
        raise TypeError(f"observed must be bool, got {seen.dtype}")
    if seen.shape != shape:
        raise ValueError(f"observed must have shape {shape}, got {seen.shape}")
    return np.where(seen, result, 0.0)


def over_places(weights: Floats, values: Floats) -> Floats:
    """The sum of weights * values over samples and visits, ([members,] terms, out). Places of weight 0 may hold NaN."""
    product = np.where(weights[..., None] > 0, weights[..., None] * values, 0.0)
    lead = values.ndim - weights.ndim - 1
    axes = (lead, *range(lead + 2, values.ndim - 1))
    return np.asarray(product.sum(axis=axes))


def along_places(constants: Floats, values: Floats) -> Floats:
    """`constants` ([members,] terms, out) in a shape that goes with values ([members,] batch, terms, [seq,] out)."""
    lead = constants.ndim - 2
    shaped = np.expand_dims(constants, lead)
    return np.expand_dims(shaped, -2) if values.ndim - lead == 4 else shaped
