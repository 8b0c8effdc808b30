"""A single step of a recurrent cell, in the few plain operations that it is.

An operator and its blocks would take longer than a small step itself: at 37 terms, one row and width 16, five times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rnam.backends.blocks.gates import Times
from rnam.backends.calls import Recurrence, widen
from rnam.backends.flags import decode
from rnam.reference import elapsed_gates

if TYPE_CHECKING:
    from rnam.backends.cells import Cell

# Pre-activations beyond which the arrays of a step leave the cache, and blocks are faster.
MOST = 1 << 17

# Numbers up to which operations that are few take less time than operations that are cheap each.
FEW_NUMBERS = 1 << 12

# Batch rows up to which one product, whose results lie side by side, is faster than one for each pre-activation.
FEW_ROWS = 2


def takes(call: Recurrence) -> bool:
    """Whether a call is a single step, and small."""
    terms, batch, seq, dim = call.input.shape
    columns = dim if call.weight is None else call.weight.shape[2]
    return seq == 1 and terms * batch * max(dim, columns) <= MOST


def run(call: Recurrence, cell: Cell, gradient: bool) -> tuple[Tensor | None, Tensor]:
    """h in the dtype of the input, None unless need_h, and the last state. With `gradient` as operations that autograd
    records; else what is large is computed in place."""
    preacts, mask = _project(call, cell.num_preacts)
    elapsed = None
    if call.elapsed is not None:
        elapsed = call.elapsed[..., None].to(preacts[0].dtype)
        elapsed = elapsed if mask is None else torch.where(mask, elapsed, 0)
    if gradient or preacts[0].numel() <= FEW_NUMBERS:
        gates = cell.reference if elapsed is None else elapsed_gates(cell.reference, elapsed)
        a, b = gates.coefficients(*preacts)
    else:
        out = torch.empty_like(preacts[0], memory_format=torch.contiguous_format)
        a, b, *_ = cell.gates_after(None if elapsed is None else Times.of(elapsed)).coefficients(preacts, out)
        if elapsed is not None:
            mask = elapsed != 0
    h_last = _advance(call.h0, a, b, mask)
    return h_last.to(call.input.dtype, copy=True) if call.need_h else None, h_last


def _project(call: Recurrence, num_preacts: int) -> tuple[list[Tensor], Tensor | None]:
    """The pre-activations (terms, batch, 1, hidden) of the input, 0 where it is masked, and the mask (terms, batch, 1,
    1)."""
    input, weight = call.input, call.weight
    rows = input.squeeze(2)
    mask, _ = decode(call.flags)  # a reset needs nothing: h0 is 0 there already
    if mask is not None:
        rows, mask = torch.where(mask, rows, 0), mask.unsqueeze(3)
    rows = widen(rows)
    if weight is None:
        return list(rows.unsqueeze(2).clone().chunk(num_preacts, dim=3)), mask
    bias, (_, batch, width) = None, rows.shape
    if weight.shape[1] != width:  # `has_bias_row`, of a call without an embedding
        weight, bias = weight[:, :-1], weight[:, -1:].to(rows.dtype)
    weight = widen(weight if weight.dtype == input.dtype else weight.to(input.dtype))
    if batch <= FEW_ROWS:
        product = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias, rows, weight)
        return list(product.unsqueeze(2).chunk(num_preacts, dim=3)), mask
    preacts = [torch.bmm(rows, part).unsqueeze(2) for part in weight.chunk(num_preacts, dim=2)]
    if bias is not None:
        preacts = [p + part.unsqueeze(2) for p, part in zip(preacts, bias.chunk(num_preacts, dim=2), strict=True)]
    return preacts, mask


def _advance(h0: Tensor | None, a: Tensor, b: Tensor, mask: Tensor | None) -> Tensor:
    """a h0 + b, and h0 to the bit where the step is masked."""
    if h0 is None:
        return b if mask is None else torch.where(mask, b, 0)
    h0 = h0.to(b.dtype)
    if mask is None:
        return torch.addcmul(b, a, h0)
    h = torch.addcmul(b, a, torch.where(mask, h0, 0))  # 0 * inf would reach the gradient of a weight
    return torch.where(mask, h, h0)
