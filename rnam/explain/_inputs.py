"""From values in their own units to what a model is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from rnam.explain import _arrays
from rnam.explain._arrays import Bools, Floats
from rnam.models.inputs import Columns

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Scale = Callable[[Floats], Floats]


def scaling(scale: Scale | tuple[ArrayLike, ArrayLike] | None, terms: int | None = None) -> Scale:
    """`scale` as a function from values to model inputs: none, (mean, standard deviation), or the function itself.

    Mean and deviation are numbers or, for values (rows, terms), of shape (terms,): others would be broadcast.
    """
    if scale is None:
        return lambda values: values
    if callable(scale):
        return lambda values: _same_shape(scale(values.copy()), values)
    if not isinstance(scale, tuple) or len(scale) != 2:
        raise TypeError(f"scale must be None, a pair (mean, sd) or a function, got {type(scale).__name__}")
    mean, sd = _arrays.finite("mean of scale", scale[0]), _arrays.finite("sd of scale", scale[1])
    for name, part in (("mean", mean), ("sd", sd)):
        if part.shape not in ((), *([] if terms is None else [(terms,)])):
            expected = "a number" if terms is None else f"a number or of shape ({terms},)"
            raise ValueError(f"{name} of scale must be {expected}, got shape {part.shape}")
    if not (sd > 0).all():
        raise ValueError(f"sd of scale must be greater than 0, got {sd.min()}")
    return lambda values: (values - mean) / sd


def _same_shape(scaled: ArrayLike, values: Floats) -> Floats:
    found = _arrays.floats("what scale gives", scaled)
    _arrays.same_shape("what scale gives", found, "what it is given", values)
    return found


class OneValue:
    """How a model is given one value of each term: RNAM with in_dim 1 or with columns, or NAM.

    Raises:
        ValueError: for any other model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.columns: Columns | None = getattr(model, "columns", None)
        self.recurrent: int = getattr(model, "terms", 0)  # after these comes the timing term
        memoryless: Columns | None = getattr(model, "memoryless_columns", None)
        if self.columns is not None and memoryless is not None:
            self.columns = Columns("columns", self.columns.columns + memoryless.columns)
        self.over_time = hasattr(model, "in_dim")
        if self.columns is not None:
            self.terms = len(self.columns.columns)
        elif getattr(model, "in_dim", None) == 1:
            self.terms = int(model.terms)  # type: ignore[arg-type]
        else:
            raise ValueError("encode must be given for a model whose terms do not read one value each, got None")
        first = next(model.parameters())
        self.dtype, self.device = first.dtype, first.device
        self.timing: bool = getattr(model, "timing", False)
        self.reads_times: bool = getattr(model, "reads_times", False)
        self.static: Columns | None = getattr(model, "static_columns", None)

    def reads_one(self, columns: Columns | None, term: int, name: str) -> None:
        """Raises unless this term of `columns` reads one of them."""
        if columns is not None and len(columns.columns[term]) > 1:
            raise ValueError(f"encode must be given for {name}, which reads more than one value, got None")

    def changes(self, term: int, name: str) -> None:
        """Raises unless the term reads a sequence of single values."""
        after_timing = self.timing and term > self.recurrent
        kind = "the timing term" if self.timing and term == self.recurrent else None
        if term - after_timing >= self.terms:
            kind = kind or "a static term"
        if kind is not None:
            raise ValueError(f"term must be one that reads a sequence of values, got {name!r}, {kind}")
        self.reads_one(self.columns, term - after_timing, name)

    def tensor(self, values: Floats | Bools, dtype: torch.dtype, columns: Columns | None) -> Tensor:
        """Values (*, terms) at the columns that the terms read (*, columns), or without these (terms, *)."""
        given = torch.as_tensor(values, dtype=dtype, device=self.device)
        if columns is None:
            return given.movedim(-1, 0)
        laid = given.new_zeros(*given.shape[:-1], columns.least)
        first: dict[tuple[int, ...], int] = {}
        for term, own in enumerate(columns.columns):
            other = first.setdefault(own, term)
            if not torch.equal(given[..., other].nan_to_num(), given[..., term].nan_to_num()):
                raise ValueError(f"terms {other} and {term} must be given the same values: both read column {own[0]}")
            laid[..., list(own)] = given[..., term, None]
        return laid

    def input(self, values: Floats) -> Tensor:
        """The model's input, from (rows, steps, terms); of a NAM, which has no steps, (rows, terms)."""
        laid = self.tensor(values, self.dtype, self.columns)
        return laid[..., None] if self.columns is None else laid

    def beside(self, rows: int, time: Floats) -> dict[str, Tensor]:
        """What else a sequence must come with: the times of its steps, and 0 for static terms."""
        options = self._times(rows, time)
        if self.static is not None:
            options["static"] = torch.zeros(rows, self.static.least, dtype=self.dtype, device=self.device)
        return options

    def _times(self, rows: int, time: Floats) -> dict[str, Tensor]:
        if not self.reads_times:
            return {}
        # whatever the model's dtype: in a narrower one neighbouring times are soon the same
        return {"times": torch.as_tensor(time, dtype=torch.float64, device=self.device).expand(rows, -1)}

    def at_one_time(self, values: Floats, scaled: Floats) -> dict[str, Tensor]:
        """All that the model is given for rows of single values (rows, terms): those of the sequence, then the static
        ones; what is NaN in `values` is masked."""
        first, there = scaled[:, : self.terms], ~np.isnan(values)
        seen = there[:, : self.terms]
        if self.over_time:
            first, seen = first[:, None], seen[:, None]
        given = {"input": self.input(first), "mask": self.tensor(seen, torch.bool, self.columns)}
        if self.static is not None:
            given["static"] = self.tensor(scaled[:, self.terms :], self.dtype, self.static)
            given["static_mask"] = self.tensor(there[:, self.terms :], torch.bool, self.static)
        given |= self._times(len(values), np.zeros(1))  # of one step, before which no time has passed
        return given


def quantiles(values: Floats, shares: Sequence[float]) -> Floats:
    """Of the values that are there (NaN is none)."""
    there = values[~np.isnan(values)]
    if there.size == 0:
        raise ValueError("data must hold at least one finite number, got none")
    return np.asarray(np.quantile(there, shares))
