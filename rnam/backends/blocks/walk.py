"""h_t = a_t h_{t-1} + b_t through the steps of a block, and the adjoint back through them.

One addcmul a step over all rows of the block. Where rows are few, time is cut into segments, which are walked side by
side, and twice: from the state 0, for the map h -> A h + B of each segment, and from the state that enters it. The
segments are the steps of a shorter sequence with the coefficients A and B, and its walk gives the states between them.

A is a product of numbers that may all be near 1. They have few digits of what they lack of 1, and their product rounds
to the same side again and again: of 181 numbers near 1 - 1e-5 it is 1e-6 too small in float32, in every segment. So the
complement c = 1 - a is carried along. That of the steps so far is C_t = c_t + a_t C_{t-1}, and A is 1 - C where it is
above 1/2. Elsewhere it is the product, since 1 - C cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from rnam.backends.blocks.plan import select

__all__ = ["walk", "walk_back"]

# Segments up to this many follow one another as single steps; more are cut into segments again.
CHAIN = 64

# Steps that are looked at together for those that hold a state into the next segment.
BACK = 8


def walk(a: Tensor, b: Tensor, c: Tensor | None, state: Tensor, held: Tensor | None = None) -> None:
    """Overwrite b (terms, steps, segments, batch, hidden) by the states from `state` (terms, 1, batch, hidden).

    c is 1 - a, or anything where a is 0; None is 1 - a as it comes from a. `held` (terms or 1, steps, segments, batch,
    1) has all bits set at the steps that hold the state to the bit; None is nowhere.
    """
    coeffs, values = a.unbind(1), b.unbind(1)
    entering = h = state
    if b.shape[2] > 1:
        product, rest = _product(a, coeffs, c)
        entering = h = _entering(product, _last(coeffs[1:], values), rest, state, held)
    for a_t, b_t in zip(coeffs, values, strict=True):
        h = torch.addcmul(b_t, a_t, h, out=b_t)
    if held is not None and b.shape[2] > 1:
        _hold(b, entering, held)


def walk_back(a: Tensor, lam: Tensor, c: Tensor | None, carried: Tensor) -> None:
    """Overwrite lam, which holds dh, by dh_t + a_{t+1} lam_{t+1}. `carried` is the last a_{t+1} lam_{t+1} and becomes
    the first a_t lam_t. Shapes as in `walk`."""
    coeffs, sums = a.unbind(1), lam.unbind(1)[::-1]
    later = carried
    if lam.shape[2] > 1:
        product, rest = _product(a, coeffs, c)
        ends = coeffs[0] * _last(coeffs[:0:-1], sums)
        later = _entering(product.flip(1), ends.flip(1), rest.flip(1), carried, None).flip(1)
    later = sums[0].add_(later)
    for a_t, lam_t in zip(coeffs[:0:-1], sums[1:], strict=True):
        later = torch.addcmul(lam_t, a_t, later, out=lam_t)
    torch.mul(a[:, 0, :1], lam[:, 0, :1], out=carried)


def _last(coeffs: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """The last of h = coeff h + value from the first value, in memory of its own. There are two values or more."""
    h, out = values[0], torch.empty_like(values[0], memory_format=torch.contiguous_format)
    for coeff, value in zip(coeffs, values[1:], strict=True):
        h = torch.addcmul(value, coeff, h, out=out)
    return h


def _product(a: Tensor, coeffs: Sequence[Tensor], c: Tensor | None) -> tuple[Tensor, Tensor]:
    """A (terms, segments, batch, hidden) and C."""
    c = _last(coeffs[1:], (1 - a if c is None else c).unbind(1))
    product = a.prod(1)
    return torch.where(product > 0.5, 1 - c, product), c


def _entering(a: Tensor, b: Tensor, c: Tensor, state: Tensor, held: Tensor | None) -> Tensor:
    """The states that enter the segments, whose maps are a, b (terms, segments, batch, hidden), and c is 1 - a."""
    count = a.shape[1]
    if count <= CHAIN:
        states = [state[:, 0]]
        for a_s, b_s in zip(a.unbind(1)[:-1], b.unbind(1)[:-1], strict=True):
            states.append(torch.addcmul(b_s, a_s, states[-1]))
        return torch.stack(states, dim=1)
    segments = math.isqrt(3 * count // 2)
    b = _cut(b, segments)
    walk(_cut(a, segments), b, _cut(c, segments), state, None if held is None else _cut(held.amax(1), segments))
    return torch.cat([state, b.transpose(1, 2).flatten(1, 2)[:, : count - 1]], dim=1)


def _cut(x: Tensor, segments: int) -> Tensor:
    """(terms, count, batch, hidden) as (terms, steps, segments, batch, hidden), with steps at the end that nobody
    reads."""
    x = pad(x, (0, 0, 0, 0, 0, -x.shape[1] % segments))
    return torch.unflatten(x, 1, (segments, -1)).transpose(1, 2).contiguous()


def _hold(h: Tensor, entering: Tensor, held: Tensor) -> None:
    """Where a segment begins with a held step, put the state that enters it at the end of the segment before, back to
    the last step that is not held.

    It comes from the maps, and the end of a segment from its steps: the same number, rounded another way.
    """
    rows = held[:, :1, 1:]
    held, h = held[:, :, :-1], h[:, :, :-1]
    after = entering[:, None, 1:].view(rows.dtype)
    for stop in range(h.shape[1], 0, -BACK):
        if not rows.any():
            return
        start = max(0, stop - BACK)
        # all bits set where every later step is held; bits are 0 or -1, whose maximum is their conjunction
        runs = torch.cat([held[:, start + 1 : stop], rows], dim=1).flip(1).cummax(1).values.flip(1)
        select(h[:, start:stop], ~runs, after & runs)
        rows = runs[:, :1] & held[:, start : start + 1]
