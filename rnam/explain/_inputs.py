"""From values in their own units to what a model is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from rnam.explain import _arrays
from rnam.explain._arrays import Floats

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Scale = Callable[[Floats], Floats]


def scaling(scale: Scale | tuple[ArrayLike, ArrayLike] | None) -> Scale:
    """`scale` as a function from values to model inputs: none, (mean, standard deviation), or the function itself."""
    if scale is None:
        return lambda values: values
    if callable(scale):
        return scale
    if not isinstance(scale, tuple) or len(scale) != 2:
        raise TypeError(f"scale must be None, a pair (mean, sd) or a function, got {type(scale).__name__}")
    mean, sd = _arrays.finite("mean of scale", scale[0]), _arrays.finite("sd of scale", scale[1])
    if not (sd > 0).all():
        raise ValueError(f"sd of scale must be greater than 0, got {sd.min()}")
    return lambda values: (values - mean) / sd


def one_value_per_term(model: nn.Module) -> tuple[int, torch.dtype, torch.device]:
    """The terms, dtype and device of a model that takes (terms, batch, seq, 1); an error for any other."""
    embedding = getattr(getattr(model, "emb", None), "weight", None)
    if not isinstance(embedding, Tensor) or embedding.dim() != 3 or embedding.shape[1] != 1:
        raise ValueError("encode must be given for a model whose input is not (terms, batch, seq, 1), got None")
    return len(embedding), embedding.dtype, embedding.device


def quantiles(values: Floats, shares: Sequence[float]) -> Floats:
    """Of the values that are there (NaN is none)."""
    there = values[np.isfinite(values)]
    if there.size == 0:
        raise ValueError("data must hold at least one finite number, got none")
    return np.asarray(np.quantile(there, shares))
