"""From values in their own units to what a model is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from rnam.explain import _arrays
from rnam.explain._arrays import Bools, Floats
from rnam.inputs import Columns

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


class OneValue:
    """How a model is given one value of each term: RNAM with in_dim 1 or with columns, or NAM.

    Raises:
        ValueError: for any other model.
    """

    def __init__(self, model: nn.Module) -> None:
        weight = getattr(getattr(model, "emb", None), "weight", None)
        columns: Columns | None = getattr(model, "columns", None)
        self.columns = None if columns is None else columns.columns
        self.over_time = hasattr(model, "emb")
        if columns is not None:
            self.terms = len(columns.columns)
        elif isinstance(weight, Tensor) and weight.dim() == 3 and weight.shape[1] == 1:
            self.terms = len(weight)
        else:
            raise ValueError("encode must be given for a model whose terms do not read one value each, got None")
        first = next(model.parameters())
        self.dtype, self.device = first.dtype, first.device
        self.timing: bool = getattr(model, "timing", False)
        static: Columns | None = getattr(model, "static_columns", None)
        self.static = 0 if static is None else static.least

    def needs_one(self, terms: Sequence[int]) -> None:
        """Raises unless each of these terms reads one column of the input."""
        for term in terms:
            if term >= self.terms or (self.columns is not None and len(self.columns[term]) > 1):
                raise ValueError(f"encode must be given for term {term}, which does not read one value, got None")

    def tensor(self, values: Floats | Bools, dtype: torch.dtype) -> Tensor:
        """Values (rows, steps, terms) as the model's input, or its mask as far as that is (terms, rows, steps)."""
        given = torch.as_tensor(values, dtype=dtype, device=self.device)
        if self.columns is None:
            return given.movedim(-1, 0)
        laid = given.new_zeros(*given.shape[:2], 1 + max(map(max, self.columns)))
        for term, own in enumerate(self.columns):
            laid[..., list(own)] = given[..., term, None]
        return laid if self.over_time else laid[:, 0]

    def input(self, values: Floats) -> Tensor:
        laid = self.tensor(values, self.dtype)
        return laid[..., None] if self.columns is None else laid

    def options(self, rows: int, time: Floats) -> dict[str, Tensor]:
        """What else the model must be given: the times of the steps, and 0 for static terms."""
        options = {}
        if self.timing:
            options["times"] = torch.as_tensor(time, dtype=self.dtype, device=self.device).expand(rows, -1)
        if self.static:
            options["static"] = torch.zeros(rows, self.static, dtype=self.dtype, device=self.device)
        return options


def quantiles(values: Floats, shares: Sequence[float]) -> Floats:
    """Of the values that are there (NaN is none)."""
    there = values[np.isfinite(values)]
    if there.size == 0:
        raise ValueError("data must hold at least one finite number, got none")
    return np.asarray(np.quantile(there, shares))
