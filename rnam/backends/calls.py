"""The records that travel from `rnam.functional` to a launcher. Their values are valid: they were checked there."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Embedding", "FeedForward", "Recurrence", "autocast_enabled", "pack", "state_dtype", "unpack", "widen",
    "without_autocast",
]  # fmt: skip

# weight (terms, in_dim, dim) and bias (terms, 1, dim) of a linear layer that the input goes through first
Embedding = tuple[Tensor, Tensor]


class Recurrence(NamedTuple):
    """One call of a recurrent cell. The fields up to `space` are the arguments of `torch.ops.rnam.min_gru`.

    input      (terms, batch, seq, dim), or (terms, batch, seq, in_dim) with an embedding
    weight     (terms, dim, num_preacts * hidden), the columns of each pre-activation one after the other; None where
               the input holds the pre-activations already, (terms, batch, seq, num_preacts * hidden)
    h0         (terms, batch, 1, hidden), or None for 0; 0 already in rows whose first step is a reset
    elapsed    the time since the step before, floating, three dimensions of (terms, batch, seq) or 1; None is 1
    flags      uint8, three dimensions of (terms, batch, seq) or 1; see `rnam.backends.flags`
    cell       a name of the table in `rnam.backends.cells`
    space      "linear", or "log" for the scan of arXiv 2311.06281
    need_h     False where the last state is all that is read
    embedding  None, or what the input goes through first
    bias       (terms, 1, num_preacts * hidden), added to the pre-activations, or None

    An operator takes no bias: it is one more row of the weight, see `has_bias_row`. That row is not rounded.
    """

    input: Tensor
    weight: Tensor | None
    h0: Tensor | None = None
    elapsed: Tensor | None = None
    flags: Tensor | None = None
    cell: str = "mingru"
    space: str = "linear"
    need_h: bool = True
    embedding: Embedding | None = None
    bias: Tensor | None = None

    @property
    def seq(self) -> int:
        return self.input.shape[2]

    @property
    def has_bias_row(self) -> bool:
        """Whether the last row of the weight is a bias: without an embedding it is one row longer than the input is
        wide."""
        return self.weight is not None and self.embedding is None and self.weight.shape[1] == self.input.shape[3] + 1

    def without_bias_row(self) -> Recurrence:
        """The same call with that row as its bias."""
        if self.weight is None or not self.has_bias_row:
            return self
        return self._replace(weight=self.weight[:, :-1], bias=self.weight[:, -1:])


class FeedForward(NamedTuple):
    """The parameters of what follows the cell in a residual block: LayerNorm, Linear, ReLU, Linear.

    norm_weight, norm_bias (dim,); weight1, weight2 (terms, dim, dim); bias1, bias2 (terms, 1, dim)
    """

    norm_weight: Tensor
    norm_bias: Tensor
    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor


def pack(parameters: FeedForward, embedding: Embedding | None) -> Tensor:
    """Parameters as kernels and blocks read them, (terms, numbers): one after the other, those of the embedding last.

    They are widened first, so that a gradient is summed over the terms before it is rounded.
    """
    terms = parameters.weight1.shape[0]
    norm, others = parameters[:2], (*parameters[2:], *(embedding or ()))
    rows = [widen(p).expand(terms, -1) for p in norm] + [widen(p).flatten(1) for p in others]
    return torch.cat(rows, dim=1)


def unpack(packed: Tensor, dim: int) -> tuple[FeedForward, Embedding | None]:
    """What `pack` was given, as views (terms, *, dim); norm_weight and norm_bias are (terms, 1, dim)."""
    sizes = [dim, dim, dim * dim, dim, dim * dim, dim]
    rest = packed.shape[1] - sum(sizes)
    sizes += [rest - dim, dim] if rest else []
    parts = [part.reshape(len(packed), -1, dim) for part in torch.split(packed, sizes, dim=1)]
    return FeedForward(*parts[:6]), (parts[6], parts[7]) if rest else None


def widen(x: Tensor) -> Tensor:
    """x in the dtype of the sums: float32 for half precision."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def state_dtype(x: Tensor) -> torch.dtype:
    """The dtype of the last state after inputs like x: that of the sums."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def autocast_enabled(x: Tensor) -> bool:
    """Whether torch.autocast is on for the device of `x`."""
    device = x.device.type
    # a meta tensor has no autocast to ask about; torch.amp.is_autocast_available can't be compiled in torch 2.11
    return device != "meta" and torch.is_autocast_enabled(device)


def without_autocast(x: Tensor, enabled: bool) -> contextlib.AbstractContextManager[object]:
    """Inside, the dtypes are those that the backend chose; autocast would round its float32 products."""
    return torch.autocast(x.device.type, enabled=False) if enabled else contextlib.nullcontext()
