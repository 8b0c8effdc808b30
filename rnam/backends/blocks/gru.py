"""A recurrent cell, forward and backward, in blocks that stay in cache.

The formulas are those of `rnam.reference`, which evaluates each over the whole tensor in some 20 passes over memory
forward and twice that backward. Here a block of (terms, steps, batch rows) is copied in with time outermost, projected,
gated and scanned while it is in cache, and copied out: x is read once and h written once. The backward computes the
gates again, so that x, W and h are all that is kept. The gates of each cell are in `gates.py`.

Scan      h_t = a_t h_{t-1} + b_t: one addcmul a step over all rows of the block. (For a minGRU a lerp by z needs no a
          and is a tenth faster, but its 1 - z cancels as z -> 1.) Where rows are few, time is cut into segments. They
          are walked side by side from the state 0, and the states between them follow from products of a.
Flags     Masks and resets edit a, b and, in the backward, h_{t-1} and lambda.
Backward  lambda_t = dh_t + a_{t+1} lambda_{t+1}, and from it the slopes of the gates. In half precision h_{t-1} is the
          rounded one, infinite where it exceeds 65504 in float16.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rnam.backends.blocks import one_step
from rnam.backends.blocks.plan import Block, Edits, Plan, Workspace, copy, in_place, new, select
from rnam.backends.blocks.projection import projection
from rnam.backends.calls import Recurrence

if TYPE_CHECKING:
    from rnam.backends.cells import Cell

Maybe = Tensor | None

# Elements of one array of a block; the forward has four arrays and the backward nine.
FORWARD, BACKWARD = 1 << 18, 1 << 17


def recurrence_forward(call: Recurrence, cell: Cell) -> tuple[Maybe, Tensor]:
    """h (terms, batch, seq, hidden) in the dtype of the input, None unless need_h, and the last state in float32 or
    float64."""
    if one_step.takes(call):
        return one_step.run(call, cell, gradient=False)
    x, project = call.input, projection(call, cell)
    hidden = project.hidden
    h = new(torch.Size((*x.shape[:3], hidden)), x) if call.need_h else None
    h_last = _states(call.h0, (*x.shape[:2], 1, hidden), project.like)
    plan = Plan(x.shape, hidden, FORWARD)
    buffers = Workspace(plan.rows, project.like)
    for terms, rows in plan.groups():
        state = h_last[terms, rows].transpose(1, 2)
        for block in plan.blocks(terms, rows):
            xs, edits = _read(buffers, block, call, plan)
            out = None if h is None else block.cut(h)
            preacts = project.forward(xs, terms, buffers)
            b = out if out is not None and in_place(out, xs) else buffers("b", xs, hidden)
            a, b = cell.blocks.coefficients(preacts, b)
            if edits:
                select(a, edits.moves, edits.holds)
                select(b, edits.observed)
            _walk(a, b, state)
            if out is not None and b is not out:
                copy(out, b)
            state.copy_(b[:, -1, -1:])
    return h, h_last


def recurrence_backward(
    call: Recurrence, cell: Cell, h: Tensor, dh: Maybe, dh_last: Maybe, *, needs: tuple[bool, ...]
) -> tuple[Maybe, ...]:
    """The gradients of input, weight and h0 that are needed, from those of h and h_last (None where there is none)."""
    need_x, need_weight, need_h0 = needs
    x, project = call.input, projection(call, cell)
    project.prepare_backward(need_weight)
    hidden = project.hidden
    dx = new(x.shape, x) if need_x else None
    adjoint = _states(dh_last, (*h.shape[:2], 1, hidden), project.like)
    plan = Plan(x.shape, hidden, BACKWARD)
    buffers = Workspace(plan.rows, project.like)
    for terms, rows in plan.groups():
        carried = adjoint[terms, rows].transpose(1, 2)
        for block in reversed(plan.blocks(terms, rows)):
            xs, edits = _read(buffers, block, call, plan)
            preacts = project.forward(xs, terms, buffers)
            kept = cell.blocks.gates(preacts, functools.partial(buffers, block=xs, width=hidden))
            a = own = kept[0]
            before = block.before(h, call.h0)
            if edits:
                before = select(copy(buffers("before", xs, hidden), before), edits.moves)
                own = buffers("own", xs, hidden).copy_(a)
                select(a, edits.moves, edits.holds)
            lam = buffers("lambda", xs, hidden)
            if dh is None:
                lam.zero_()
            else:
                copy(lam, block.cut(dh))
            _walk_back(a, lam, carried, buffers)
            if edits:
                select(lam, edits.observed)
            gradients = cell.blocks.slopes(preacts, kept, own, before, lam)
            if need_weight:
                project.add_to_weight(xs, gradients, terms)
            if dx is not None:
                part = block.cut(dx)
                out = part if in_place(part, lam) else buffers("dx", part, x.shape[3])
                project.input_gradient(gradients, terms, out)
                if out is not part:
                    copy(part, out)
    return dx, project.weight_gradient(), adjoint.to(call.h0.dtype) if need_h0 and call.h0 is not None else None


def _states(start: Maybe, sizes: tuple[int, ...], like: Tensor) -> Tensor:
    """A copy of the states, to be overwritten; zeros for None."""
    states = like.new_empty(sizes)
    return states.zero_() if start is None else states.copy_(start)


def _read(buffers: Workspace, block: Block, call: Recurrence, plan: Plan) -> tuple[Tensor, Edits | None]:
    """The block of the input with time outermost; a copy, unless it lies like that, and 0 at masked steps."""
    part = block.cut(call.input)
    if call.flags is None and in_place(part, buffers.like):
        return part, None
    xs = copy(buffers("x", part, part.shape[-1]), part)
    if call.flags is None:
        return xs, None
    edits = Edits(call.flags, plan, block, xs)
    return select(xs, edits.observed), edits


def _walk(a: Tensor, b: Tensor, state: Tensor) -> None:
    """Overwrite b (terms, steps, segments, batch, hidden) by the states from `state` (terms, 1, batch, hidden).

    With several segments a becomes its product over the steps of the segment so far.
    """
    segments = b.shape[2]
    h = state if segments == 1 else torch.cat([state, torch.zeros_like(b[:, 0, 1:])], dim=1)
    for a_t, b_t in zip(a.unbind(1), b.unbind(1), strict=True):
        h = torch.addcmul(b_t, a_t, h, out=b_t)
    if segments == 1:
        return
    first, *others = a.unbind(1)
    for a_t in others:
        first = torch.mul(first, a_t, out=a_t)
    entries = [torch.zeros_like(b[:, 0, 0])]
    for end, product in zip(b[:, -1].unbind(1), a[:, -1].unbind(1), strict=True):
        entries.append(torch.addcmul(end, product, entries[-1]))
    b.addcmul_(a, torch.stack(entries[:-1], dim=1)[:, None])
    b[:, -1] = torch.stack(entries[1:], dim=1)  # to the bit, since a masked step holds it in the next segment


def _walk_back(a: Tensor, lam: Tensor, carried: Tensor, buffers: Workspace) -> None:
    """Overwrite lam, which holds dh, by dh_t + a_{t+1} lam_{t+1}, and `carried`, the last of these, by the first."""
    lam[:, -1, -1:] += carried
    later = lam[:, -1]
    coeffs, sums = a.unbind(1), lam.unbind(1)
    for t in range(len(sums) - 2, -1, -1):
        later = torch.addcmul(sums[t], coeffs[t + 1], later, out=sums[t])
    if lam.shape[2] > 1:
        q = buffers("product", lam, lam.shape[4])
        products = q.unbind(1)
        later = products[-1].fill_(1)
        for t in range(len(sums) - 2, -1, -1):
            later = torch.mul(coeffs[t + 1], later, out=products[t])
        entries = [torch.zeros_like(lam[:, 0, 0])]
        for s in range(lam.shape[2] - 1, 0, -1):
            entries.append(a[:, 0, s] * torch.addcmul(lam[:, 0, s], q[:, 0, s], entries[-1]))
        lam.addcmul_(q, torch.stack(entries[::-1], dim=1)[:, None])
    torch.mul(a[:, 0, :1], lam[:, 0, :1], out=carried)
