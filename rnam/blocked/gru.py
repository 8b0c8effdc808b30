"""minGRU and minLSTM, forward and backward, in blocks that stay in cache.

The formulas are those of `rnam.reference`, which evaluates each over the whole tensor in some 20 passes over memory
forward and twice that backward. Here a block of (terms, steps, batch rows) is copied in with time outermost, projected,
gated and scanned while it is in cache, and copied out: x is read once and h written once. The backward computes the
gates again, so that x, W and h are all that is kept.

Scan      h_t = a_t h_{t-1} + b_t, a = sigmoid(-k) and b = z v: one addcmul a step over all rows of the block. (A lerp
          by z needs no a and is a tenth faster, but its 1 - z cancels as z -> 1.) Where rows are few, time is cut into
          segments that are walked side by side from the state 0; the states between them follow from products of a.
Codes     Masks and resets edit a, b and, in the backward, h_{t-1} and m.
Backward  lambda_t = dh_t + a_{t+1} lambda_{t+1}, m = z lambda, du = m g'(u), dk = m a (v - h_{t-1}). Of halves, h_{t-1}
          is the rounded one, infinite where it exceeds 65504 in float16.
minLSTM   A minGRU with k = log sigmoid(i) - log sigmoid(f), so that z = i / (f + i) of the gates: two projections in
          place of one, and df = -sigmoid(-f) dk, di = sigmoid(-i) dk.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rnam.blocked.plan import Block, Codes, Plan, Workspace, copy, in_place, new, select, widened
from rnam.blocked.products import Product, Sum

LOG2E = 1.0 / math.log(2.0)

Maybe = Tensor | None
aten = torch.ops.aten

# Elements of one array of a block; the forward has four arrays and the backward nine.
FORWARD, BACKWARD = 1 << 18, 1 << 17


def forward(
    x: Tensor, weight: Tensor, h0: Maybe, codes: Maybe, *, parts: int = 2, need_h: bool = True
) -> tuple[Maybe, Tensor]:
    """h (terms, batch, seq, hidden) in the dtype of x, None unless need_h, and the last state in float32 or float64.

    x (terms, batch, seq, dim), weight (terms, dim, parts * hidden) with 2 parts for a minGRU and 3 for a minLSTM, h0
    (terms, batch, 1, hidden) or None; codes one byte a step with three dimensions of the full size or 1, or None.
    """
    weights, hidden = _parts(x, weight, parts)
    if x.shape[2] == 1 and codes is None:
        h_last = _step(x, weights, h0)
        return h_last.to(x.dtype, copy=True) if need_h else None, h_last
    products = [Product(w) for w in weights]
    h = new(torch.Size((*x.shape[:3], hidden)), x) if need_h else None
    h_last = _states(h0, (*x.shape[:2], 1, hidden), weights[0])
    plan = Plan(x.shape, hidden, FORWARD)
    space = Workspace(plan.rows, weights[0])
    for terms, rows in plan.groups():
        state = h_last[terms, rows].transpose(1, 2)
        for block in plan.blocks(terms, rows):
            xs, edit = _read(space, block, x, codes, plan)
            out = None if h is None else block.cut(h)
            u, *gates = _project(products, xs, terms, space, hidden)
            b = out if out is not None and in_place(out, u) else space("b", u, hidden)
            a, b = _coefficients(u, _gate(gates), b)
            if edit:
                select(a, edit.moves, edit.holds)
                select(b, edit.observed)
            _walk(a, b, state)
            if out is not None and b is not out:
                copy(out, b)
            state.copy_(b[:, -1, -1:])
    return h, h_last


def _step(x: Tensor, weights: tuple[Tensor, ...], h0: Maybe) -> Tensor:
    """The state after one step: in blocks, half of its time would go into cutting them (37 terms, 64 rows, 16 wide)."""
    rows = widened(x[:, :, 0])
    u, *gates = (torch.bmm(rows, w) for w in weights)
    a, b = _coefficients(u, _gate(gates), torch.empty_like(u))
    h = b if h0 is None else torch.addcmul(b, a, h0[:, :, 0], out=b)
    return h[:, :, None]


def _coefficients(u: Tensor, k: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """a and b of h_t = a_t h_{t-1} + b_t, in the memory of u and b."""
    torch.maximum(torch.sigmoid(u, out=b), u.add_(0.5), out=b)
    a, z = _sigmoids(k, u)
    return a, b.mul_(z)


def backward(
    x: Tensor,
    weight: Tensor,
    h0: Maybe,
    h: Tensor,
    codes: Maybe,
    dh: Maybe,
    dh_last: Maybe,
    needs: tuple[bool, bool, bool],
    *,
    parts: int = 2,
) -> tuple[Maybe, Maybe, Maybe]:
    """The gradients of x, weight and h0 that are needed, from those of h and h_last (None where there is none)."""
    need_x, need_weight, need_h0 = needs
    weights, hidden = _parts(x, weight, parts)
    products = [Product(w) for w in weights]
    back = [Product(w.transpose(1, 2)) for w in weights]
    sums = [Sum(w) for w in weights]
    dx = new(x.shape, x) if need_x else None
    adjoint = _states(dh_last, (*h.shape[:2], 1, hidden), weights[0])
    plan = Plan(x.shape, hidden, BACKWARD)
    space = Workspace(plan.rows, weights[0])
    for terms, rows in plan.groups():
        carried = adjoint[terms, rows].transpose(1, 2)
        for block in reversed(plan.blocks(terms, rows)):
            xs, edit = _read(space, block, x, codes, plan)
            u, *gates = _project(products, xs, terms, space, hidden)
            s, v, z, lam = (space(name, xs, hidden) for name in ("s", "v", "z", "lambda"))
            torch.sigmoid(u, out=s)
            torch.maximum(torch.add(u, 0.5, out=v), s, out=v)
            a, z = _sigmoids(_gate(gates), z)
            gate = a
            before = block.before(h, h0)
            if edit:
                before = select(copy(space("before", xs, hidden), before), edit.moves)
                gate = space("gate", xs, hidden).copy_(a)
                select(a, edit.moves, edit.holds)
            if dh is None:
                lam.zero_()
            else:
                copy(lam, block.cut(dh))
            _walk_back(a, lam, carried, space)
            m = z.mul_(lam)
            if edit:
                select(m, edit.observed)
            dk = v.sub_(before).mul_(gate).mul_(m)
            # g' is 1 where u >= 0, else s (1 - s); torch.where takes 3.4 ns an element, a lerp by 0 or 1 takes 0.2
            slope_below = aten.sigmoid_backward.grad_input(m, s, grad_input=s)
            du = torch.lerp(slope_below, m, u.ge_(0), out=s)
            gradients = [du, *_gate_backward(dk, gates)]
            if need_weight:
                for total, g in zip(sums, gradients, strict=True):
                    total(xs, g, terms)
            if dx is not None:
                part = block.cut(dx)
                out = part if in_place(part, z) else space("dx", part, x.shape[3])
                for n, (product, g) in enumerate(zip(back, gradients, strict=True)):
                    product(g, terms, out, add=n > 0)
                if out is not part:
                    copy(part, out)
    dw = torch.cat([s.total for s in sums], dim=2).to(weight.dtype) if need_weight else None
    return dx, dw, adjoint.to(h0.dtype) if need_h0 and h0 is not None else None


def _parts(x: Tensor, weight: Tensor, count: int) -> tuple[tuple[Tensor, ...], int]:
    """The parts of the weight, rounded to the dtype of x and widened to that of the sums; hidden."""
    parts = widened(weight.to(x.dtype)).chunk(count, dim=2)
    return parts, parts[0].shape[2]


def _project(products: list[Product], xs: Tensor, terms: slice, space: Workspace, hidden: int) -> list[Tensor]:
    outs = [space(f"part {n}", xs, hidden) for n in range(len(products))]
    for product, out in zip(products, outs, strict=True):
        product(xs, terms, out)
    return outs


def _sigmoids(k: Tensor, space: Tensor) -> tuple[Tensor, Tensor]:
    """(sigmoid(-k), sigmoid(k)) in the memory of k and `space`, both from e = 2^(-k log2 e): a power of two takes 0.5
    ns an element, a sigmoid 0.9. The clamp keeps 1 / (1 + e) a normal number and e finite.

    sigmoid(-k) is e / (1 + e) by a division, which is 1 where the gate is closed: from e = 2^25 on 1 + e is e. A
    product of e and the rounded 1 / (1 + e) is up to 2^-24 less there, and a state that is held would decay by that in
    every step."""
    e = k.mul_(-LOG2E).clamp_(max=-math.log2(torch.finfo(k.dtype).tiny)).exp2_()
    whole = torch.add(e, 1, out=space)
    return e.div_(whole), whole.reciprocal_()


def _gate(gates: list[Tensor]) -> Tensor:
    """k, which may be overwritten: the one projection of a minGRU, or made of the two of a minLSTM."""
    if len(gates) == 1:
        return gates[0]
    f, i = gates
    return logsigmoid(i).sub_(logsigmoid(f))


def _gate_backward(dk: Tensor, gates: list[Tensor]) -> list[Tensor]:
    """The gradients of the gates' projections, in their memory."""
    if len(gates) == 1:
        return [dk]
    f, i = (g.neg_().sigmoid_().mul_(dk) for g in gates)
    return [f.neg_(), i]


def _states(start: Maybe, sizes: tuple[int, ...], like: Tensor) -> Tensor:
    """A copy of the states, to be overwritten; zeros for None."""
    states = like.new_empty(sizes)
    return states.zero_() if start is None else states.copy_(start)


def _read(space: Workspace, block: Block, x: Tensor, codes: Maybe, plan: Plan) -> tuple[Tensor, Codes | None]:
    """The block of x with time outermost; a copy, unless it lies like that, and 0 at masked steps."""
    part = block.cut(x)
    if codes is None and in_place(part, space.like):
        return part, None
    xs = copy(space("x", part, x.shape[3]), part)
    if codes is None:
        return xs, None
    edit = Codes(codes, plan, block, xs)
    return select(xs, edit.observed), edit


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


def _walk_back(a: Tensor, lam: Tensor, carried: Tensor, space: Workspace) -> None:
    """Overwrite lam, which holds dh, by dh_t + a_{t+1} lam_{t+1}, and `carried`, the last of these, by the first."""
    lam[:, -1, -1:] += carried
    later = lam[:, -1]
    coeffs, sums = a.unbind(1), lam.unbind(1)
    for t in range(len(sums) - 2, -1, -1):
        later = torch.addcmul(sums[t], coeffs[t + 1], later, out=sums[t])
    if lam.shape[2] > 1:
        q = space("product", lam, lam.shape[4])
        products = q.unbind(1)
        later = products[-1].fill_(1)
        for t in range(len(sums) - 2, -1, -1):
            later = torch.mul(coeffs[t + 1], later, out=products[t])
        entries = [torch.zeros_like(lam[:, 0, 0])]
        for s in range(lam.shape[2] - 1, 0, -1):
            entries.append(a[:, 0, s] * torch.addcmul(lam[:, 0, s], q[:, 0, s], entries[-1]))
        lam.addcmul_(q, torch.stack(entries[::-1], dim=1)[:, None])
    torch.mul(a[:, 0, :1], lam[:, 0, :1], out=carried)
