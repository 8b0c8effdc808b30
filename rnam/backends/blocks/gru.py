"""A recurrent cell, forward and backward, in blocks that stay in cache.

The formulas are those of `rnam.reference`, which evaluates each over the whole tensor in some 20 passes over memory
forward and twice that backward. Here a block of (terms, steps, batch rows) is copied in with time outermost, projected,
gated and scanned while it is in cache, and copied out: x is read once and h written once. The backward computes the
gates again, so that x, W and h are all that is kept. The gates of each cell are in `gates.py`.

Scan      h_t = a_t h_{t-1} + b_t: one addcmul a step over all rows of the block. (For a minGRU a lerp by z needs no a
          and is a tenth faster, but its 1 - z cancels as z -> 1.) Where rows are few, time is cut into segments, which
          are walked side by side; see `walk.py`.
Flags     Masks and resets edit a, b and, in the backward, h_{t-1} and lambda.
Elapsed   A step over which no time has passed is as a masked one in the forward: the state is held to the bit. In the
          backward it is a step like any other, since it has a slope in the time.
Backward  lambda_t = dh_t + a_{t+1} lambda_{t+1}, and from it the slopes of the gates. In half precision h_{t-1} is the
          rounded one, infinite where it exceeds 65504 in float16.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rnam.backends.blocks import one_step
from rnam.backends.blocks.gates import Times
from rnam.backends.blocks.plan import Block, Edits, Plan, Workspace, copy, in_place, new, select
from rnam.backends.blocks.projection import projection
from rnam.backends.blocks.walk import walk, walk_back
from rnam.backends.calls import Recurrence
from rnam.backends.flags import MASKED, decode, forget

if TYPE_CHECKING:
    from rnam.backends.cells import Cell

Maybe = Tensor | None

# Elements of one array of a block; the forward has four arrays and the backward nine.
FORWARD, BACKWARD = 1 << 18, 1 << 17


def recurrence_forward(call: Recurrence, cell: Cell) -> tuple[Maybe, Tensor]:
    """h (terms, batch, seq, hidden) in the dtype of the input, None unless need_h, and the last state in float32 or
    float64."""
    if one_step.takes(call):
        _, reset = decode(call.flags)
        if call.h0 is not None and reset is not None:  # the op may have a state that is not 0 yet
            call = call._replace(h0=forget(call.h0, reset, call.input))
        return one_step.run(call, cell, gradient=False)
    x, project = call.input, projection(call, cell)
    hidden = project.hidden
    h = new(torch.Size((*x.shape[:3], hidden)), x) if call.need_h else None
    every = None if call.elapsed is None else Times.of(call.elapsed)
    h_last = _states(call.h0, (*x.shape[:2], 1, hidden), project.like)
    plan = Plan(x.shape, hidden, FORWARD)
    buffers = Workspace(plan.rows, project.like)
    for terms, rows in plan.groups():
        state = h_last[terms, rows].transpose(1, 2)
        for block in plan.blocks(terms, rows):
            xs, flags, edits = _read(buffers, block, call, plan)
            times = _times(every, block, plan, flags, project.like)
            gates = cell.gates_after(times)
            if times is not None and not times.positive:
                edits = _holding(times.elapsed == 0, flags, project.like)
            out = None if h is None else block.cut(h)
            preacts = project.forward(xs, terms, buffers)
            b = out if out is not None and in_place(out, xs) else buffers("b", xs, hidden)
            a, b, *rest = gates.coefficients(preacts, b)
            if edits:
                select(a, edits.moves, edits.holds)
                select(b, edits.observed)
            c = _complement(rest[0] if gates.complement else None, block, edits)
            walk(a, b, c, state, edits.held if edits else None)
            if out is not None and b is not out:
                copy(out, b)
            state.copy_(b[:, -1, -1:])
    return h, h_last


def recurrence_backward(
    call: Recurrence, cell: Cell, h: Tensor, dh: Maybe, dh_last: Maybe, *, needs: tuple[bool, ...]
) -> tuple[Maybe, ...]:
    """The gradients of input, weight, h0 and elapsed that are needed, from those of h and h_last (None where there is
    none). That of elapsed is (terms, batch, seq), and in the dtype of the sums."""
    need_x, need_weight, need_h0, need_elapsed = needs
    x, project = call.input, projection(call, cell)
    project.prepare_backward(need_weight)
    hidden = project.hidden
    dx = new(x.shape, x) if need_x else None
    every = None if call.elapsed is None else Times.of(call.elapsed)
    d_elapsed = project.like.new_empty(x.shape[:3]) if need_elapsed else None
    adjoint = _states(dh_last, (*h.shape[:2], 1, hidden), project.like)
    plan = Plan(x.shape, hidden, BACKWARD)
    buffers = Workspace(plan.rows, project.like)
    for terms, rows in plan.groups():
        carried = adjoint[terms, rows].transpose(1, 2)
        for block in reversed(plan.blocks(terms, rows)):
            xs, flags, edits = _read(buffers, block, call, plan)
            gates = cell.gates_after(_times(every, block, plan, flags, project.like), need_elapsed)
            preacts = project.forward(xs, terms, buffers)
            kept = gates.gates(preacts, functools.partial(buffers, block=xs, width=hidden))
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
            c = _complement(kept[1] if gates.complement else None, block, edits)
            walk_back(a, lam, c, carried)
            if edits:
                select(lam, edits.observed)
            gradients = gates.slopes(preacts, kept, own, before, lam)
            if d_elapsed is not None:
                *gradients, products = gradients
                torch.sum(products, -1, keepdim=True, out=block.cut(d_elapsed[..., None]))
            if need_weight:
                project.add_to_weight(xs, gradients, terms)
            if dx is not None:
                part = block.cut(dx)
                out = part if in_place(part, lam) else buffers("dx", part, x.shape[3])
                project.input_gradient(gradients, terms, out)
                if out is not part:
                    copy(part, out)
    dh0 = adjoint.to(call.h0.dtype) if need_h0 and call.h0 is not None else None
    return dx, project.weight_gradient(), dh0, d_elapsed


def _states(start: Maybe, sizes: tuple[int, ...], like: Tensor) -> Tensor:
    """A copy of the states, to be overwritten; zeros for None."""
    states = like.new_empty(sizes)
    return states.zero_() if start is None else states.copy_(start)


def _read(buffers: Workspace, block: Block, call: Recurrence, plan: Plan) -> tuple[Tensor, Maybe, Edits | None]:
    """The block of the input with time outermost; a copy, unless it lies like that, and 0 at masked steps. For a weight
    with a row of bias it has a column of ones. And its flags."""
    part = block.cut(call.input)
    bias, width = call.has_bias_row, part.shape[-1]
    if call.flags is None and not bias and in_place(part, buffers.like):
        return part, None, None
    rows = buffers("x", part, width + bias)
    xs = copy(rows[..., :width], part)
    if bias:
        rows[..., width].fill_(1)
    if call.flags is None:
        return rows, None, None
    flags = block.cut_steps(call.flags, plan.sizes)
    edits = Edits(flags, xs)
    select(xs, edits.observed)
    return rows, flags, edits


def _times(every: Times | None, block: Block, plan: Plan, flags: Maybe, like: Tensor) -> Times | None:
    """Those of the block; 1 at masked steps, which may hold anything."""
    if every is None:
        return None
    elapsed = block.cut_steps(every.elapsed, plan.sizes).to(like.dtype)
    elapsed = elapsed.contiguous() if flags is None else torch.where((flags & MASKED) == 0, elapsed, 1)
    return every._replace(elapsed=elapsed)


def _holding(still: Tensor, flags: Maybe, like: Tensor) -> Edits:
    """The edits of these flags that hold the state at these steps too."""
    held = still.to(torch.uint8) * MASKED
    return Edits(held if flags is None else held | flags, like)


def _complement(c: Maybe, block: Block, edits: Edits | None) -> Maybe:
    """1 - a of a cell that has it, 0 at masked steps (where no slope reads it), for a walk that does."""
    return select(c, edits.observed) if c is not None and block.segments > 1 and edits else c
