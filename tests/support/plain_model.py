"""`rnam.RNAM` written with torch.nn's own calls and a loop over the steps: every layer is called, one after the other.

It takes the modules of a model, whatever they have become (hooked, pruned, wrapped, replaced), and so is what the model
must compute with them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def contributions(model: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """x (terms, batch, seq, in_dim), mask (terms, batch, seq) -> contributions after every step (terms, batch, seq,
    out_dim), held where a step is masked, 0 before the first."""
    y = model.emb(torch.where(mask[..., None], x, 0))
    for block in model.blocks:
        y = _block(block, y, mask)
    y = model.proj(y)
    held, every = torch.zeros_like(y[:, :, 0]), []
    for t in range(y.shape[2]):
        held = torch.where(mask[:, :, t, None], y[:, :, t], held)
        every.append(held)
    return torch.stack(every, dim=2)


def _block(block: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    if not hasattr(block, "gru"):  # a wrapper or another module, which is called as a block is
        return block(x, mask)[0]
    return _hooked(block, lambda x: x + block.ff(x + _cell(block.gru, x, mask)), x)


def _cell(cell: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    if not hasattr(cell, "to_hidden_and_gate"):
        return cell(x, mask=mask)[0]
    p = cell.to_hidden_and_gate(torch.where(mask[..., None], x, 0))

    def steps(p: Tensor) -> Tensor:
        u, k = p.chunk(2, dim=-1)
        z, v = torch.sigmoid(k), torch.where(u >= 0, u + 0.5, torch.sigmoid(u))
        h, every = torch.zeros_like(u[:, :, 0]), []
        for t in range(p.shape[2]):
            h = torch.where(mask[:, :, t, None], (1 - z[:, :, t]) * h + z[:, :, t] * v[:, :, t], h)
            every.append(h)
        return cell.to_out(torch.stack(every, dim=2))

    return _hooked(cell, steps, p)


def _hooked(module: nn.Module, function, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """What a forward hook of `module`, that changes the first of its outputs, makes of function(x)."""
    output = function(x)
    for hook in module._forward_hooks.values():
        changed = hook(module, (), (output, None))
        output = output if changed is None else changed[0]
    return output
