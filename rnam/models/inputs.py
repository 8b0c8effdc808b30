"""What each term reads: its columns of the input, and the steps at which it is observed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnam import _checks
from rnam._arguments import autocast_enabled
from rnam._untouched import known
from rnam.functional import Activation
from rnam.linear import Linear

__all__ = ["Columns", "Embedding", "check_values", "inside", "observed_terms", "step_numbers"]


class Columns(nn.Module):
    """The gather map: which columns of the input each term reads.

    Where all terms read as many columns, one after the other, and their first columns lie at one distance from term
    to term (as in [[0], [1], [2]] or [[0, 1], [2, 3]]), what comes out is a view of the input. Other maps are one
    index_select; there a term that reads fewer columns than the widest has `fill` in place of those it lacks.

    Args:
        name: the argument that `columns` was, for errors.
        columns: for each term, the numbers of the columns that it reads, counted from 0.
        device: where the indices are kept. They are no buffer: what averages or broadcasts buffers would change them.

    Shape:
        input (batch, *, columns) -> (terms, batch, *, widest).
    """

    index: Tensor | None

    def __init__(self, name: str, columns: Sequence[Sequence[int]], device: torch.device | str | None = None) -> None:
        super().__init__()
        self.columns = _column_numbers(name, columns)
        self.widths = tuple(map(len, self.columns))
        self.widest = max(self.widths)
        self.least = 1 + max(map(max, self.columns))  # columns that the input must have
        self.even = min(self.widths) == self.widest
        self.spacing = _spacing(self.columns) if self.even else None
        self.index = None if self.spacing else self._indices(torch.empty(0, device=device).device)

    @classmethod
    def of_terms(
        cls, name: str, columns: Sequence[Sequence[int]], terms: int, device: torch.device | str | None = None
    ) -> Columns:
        """The map of so many terms."""
        made = cls(name, columns, device)
        if len(made.columns) != terms:
            raise ValueError(f"{name} must have one entry for each of {terms} terms, got {len(made.columns)}")
        return made

    def reset_parameters(self) -> None:
        """Write the indices again."""
        if self.index is not None:
            self.index = self._indices(self.index.device)

    def _indices(self, device: torch.device) -> Tensor:
        """The map as one row of column numbers; that of a module without memory (the device "meta") is on the CPU."""
        # where widths differ, a column of `fill` is put before the others
        shift = 0 if self.even else 1
        rows = [[c + shift for c in own] + [0] * (self.widest - len(own)) for own in self.columns]
        on = "cpu" if device.type == "meta" else device
        return torch.tensor(rows, dtype=torch.int64, device=on).flatten()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """`to`, `to_empty` and the like: the indices follow to the device, and keep their dtype and their numbers."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.index is not None:
            self.index = self._indices(fn(self.index).device)
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A pickle of 0.2 has the indices as a buffer."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if "index" in self._buffers:
            index = self._buffers.pop("index")
            self._non_persistent_buffers_set.discard("index")
            self.index = None if self.spacing else index

    def forward(self, input: Tensor, fill: float = 0) -> Tensor:
        if self.spacing:
            first, step = self.spacing
            return input[..., first : self.least].unfold(-1, self.widest, step).movedim(-2, 0)
        if not self.even:
            input = F.pad(input, (1, 0), value=fill)
        index = self.index
        if index is None or index.device != input.device:  # a replica of DataParallel, or parameters were assigned
            index = self._indices(input.device)
        read = input.index_select(-1, index)
        return torch.unflatten(read, -1, (len(self.columns), self.widest)).movedim(-2, 0)

    def read(
        self, name: str, input: Tensor, mask: Tensor | None, layout: str, within: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """What the terms read of input (batch, *, columns), 0 where it is masked, and where they are observed.

        Args:
            name: of the input, for errors; its mask is `mask` or, of `static`, `static_mask`.
            input: its columns may be more than those that are read.
            mask: bool, of as many dimensions and broadcastable to the input, or None.
            layout: the names of the dimensions, "batch, *, columns".
            within: bool (batch, *), the steps that are no padding, or None.
        """
        if input.shape[-1] < self.least:
            raise ValueError(f"{name} must have at least {self.least} columns in ({layout}), got {tuple(input.shape)}")
        if mask is not None:
            mask_name = "mask" if name == "input" else f"{name}_mask"
            _checks.boolean(mask_name, mask)
            _checks.rank(mask_name, mask, layout)
            _checks.broadcastable(mask_name, mask, layout, input.shape)
            _checks.device(mask_name, mask, name, input)
        if within is not None:
            mask = within[..., None] if mask is None else mask & within[..., None]
        if mask is None:
            return self(input), None
        mask = mask.expand(input.shape)
        return self(torch.where(mask, input, 0)), self.observed(mask)

    def observed(self, mask: Tensor) -> Tensor:
        """A mask (batch, *, columns) of the columns as one of the terms (terms, batch, *): of those of which all
        columns are observed."""
        if self.index is None:
            own: Tensor = self(mask)
        else:  # as numbers: the C++ that torch.compile makes for a CPU has no padding of bool
            own = self(mask.to(torch.uint8), fill=1).to(torch.bool)
        return own.squeeze(-1) if self.widest == 1 else own.all(-1)

    def extra_repr(self) -> str:
        kind = "a view" if self.spacing else "gathered"
        return f"terms={len(self.columns)}, widest={self.widest}, {kind}"


@known
class Embedding(Linear):
    """A `Linear` whose layers read inputs of different widths, padded with zeros to the widest.

    Each weight starts within +-1/sqrt(width) of its own layer. Rows past a layer's width are 0 and, since their inputs
    are 0, so is their gradient.
    """

    widths: tuple[int, ...] = ()  # of layers of one width, and while Linear draws the first time

    def __init__(
        self,
        widths: Sequence[int],
        out_dim: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        activation: Activation | None = None,
    ) -> None:
        widest = max(widths)
        super().__init__(len(widths), widest, out_dim, device=device, dtype=dtype, activation=activation)
        if min(widths) < widest:
            self.widths = tuple(widths)
            self._fit()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.widths:
            self._fit()

    @torch.no_grad()
    def _fit(self) -> None:
        """From the range of the widest layer to that of each."""
        # their ratio is float32, whatever torch's default dtype, so that one seed gives the same parameters
        widths = torch.tensor(self.widths, dtype=torch.float32, device=self.weight.device)[:, None, None]
        used = torch.arange(self.in_dim, device=self.weight.device)[:, None] < widths
        scale = (self.in_dim / widths).sqrt()
        self.weight.mul_(torch.where(used, scale, 0))
        self.bias.mul_(scale)


def check_values(name: str, value: Tensor, layout: str, weight: Tensor) -> None:
    """`value` (layout) goes with a model that has this weight."""
    _checks.floating(name, value)
    _checks.rank(name, value, layout)
    _checks.device(name, value, "the model", weight)
    if not autocast_enabled(value):
        _checks.dtype(name, value, "the model", weight)


def inside(input: Tensor, lengths: Tensor | None, batch: int, seq: int) -> Tensor | None:
    """The steps before each row's length, (batch, seq), or None without lengths."""
    if lengths is None:
        return None
    ends = _checks.integer("lengths", lengths)
    _checks.shape("lengths", lengths, "batch", (batch,))
    _checks.device("lengths", lengths, "input", input)
    if lengths.dtype == torch.uint64:
        ends = torch.where(ends < 0, seq, ends)  # from 2**63 on they have wrapped
    return torch.arange(seq, device=input.device) < ends[:, None]


def observed_terms(input: Tensor, mask: Tensor | None, lengths: Tensor | None) -> Tensor | None:
    """One mask (terms, batch, seq) out of `mask` and `lengths`, or None where neither is given."""
    full = input.shape[:3]
    observed = None
    if mask is not None:
        _checks.boolean("mask", mask)
        _checks.broadcastable("mask", mask, "terms, batch, seq", full)
        _checks.device("mask", mask, "input", input)
        observed = mask
    within = inside(input, lengths, *full[1:])
    if within is not None:
        observed = within if observed is None else observed & within
    return None if observed is None else observed.expand(full)


def step_numbers(observed: Tensor) -> Tensor:
    """The number of each observed step of (*, seq), -1 at the others."""
    steps = torch.arange(observed.shape[-1], device=observed.device)
    return torch.where(observed, steps, -1)


def _column_numbers(name: str, columns: object) -> tuple[tuple[int, ...], ...]:
    """`columns` as tuples of ints of at least 0, with one column or more for each of one or more terms."""
    if not isinstance(columns, Sequence) or isinstance(columns, str):
        raise TypeError(f"{name} must be a sequence of sequences of ints, got {type(columns).__name__}")
    if not columns:
        raise ValueError(f"{name} must have at least one term, got none")
    terms = []
    for term, own in enumerate(columns):
        if not isinstance(own, Sequence) or isinstance(own, str):
            raise TypeError(f"{name}[{term}] must be a sequence of ints, got {type(own).__name__}")
        if not own:
            raise ValueError(f"{name}[{term}] must have at least one column, got none")
        terms.append(tuple(_checks.whole_number(f"{name}[{term}]", c) for c in own))
    return tuple(terms)


def _spacing(columns: tuple[tuple[int, ...], ...]) -> tuple[int, int] | None:
    """The first column and the distance from term to term, where one stride gives all terms; else None."""
    first = columns[0][0]
    step = columns[1][0] - first if len(columns) > 1 else 1
    regular = all(own == tuple(range(first + n * step, first + n * step + len(own))) for n, own in enumerate(columns))
    return (first, step) if regular and step > 0 else None
