"""The float64 step recurrences that every test and benchmark compares with.

Written apart from the package, one step at a time, in the most literal form; differentiable where a test needs
gradients. `long_scan` gives a long sequence in fewer Python steps and is itself compared with the literal loop.

A cell is a function from its pre-activations to (a, b) of h_t = a_t h_{t-1} + b_t, which `recurrence` walks through.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

# The bits of a step's flags, as the kernels read them.
MASKED, RESET = 1, 2

# Steps of a long sequence that are walked one by one.
SEGMENT = 1024

Gates = Callable[[Tensor], tuple[Tensor, Tensor]]


def min_gru(
    x: Tensor,
    weight: Tensor,
    h0: Tensor | None = None,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    elapsed: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
    space: str = "linear",
    long: bool = False,
) -> tuple[Tensor, Tensor]:
    """x (terms, batch, seq, dim), weight (terms, dim, 2 * hidden) -> h, h_last, step by step in `dtype`; bias (terms,
    1, 2 * hidden), elapsed broadcasts to (terms, batch, seq).

    In float64 this is what is right. In another dtype, and with the state kept as log h ("log"), it is what
    a plain program of that precision gets, which the bounds are made of.
    """
    log = space == "log"
    gates = partial(min_gru_log_gates if log else min_gru_gates, elapsed=_elapsed(elapsed, mask, dtype))
    return recurrence(_project(x, weight, mask, dtype, bias), gates, h0, mask, reset, log=log, long=long)


def min_lstm(
    x: Tensor,
    weight: Tensor,
    h0: Tensor | None = None,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    elapsed: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """x (terms, batch, seq, dim), weight (terms, dim, 3 * hidden) -> h, h_last: h = (f h + i g(u)) / (f + i)."""
    gates = partial(min_lstm_gates, elapsed=_elapsed(elapsed, mask, dtype))
    return recurrence(_project(x, weight, mask, dtype, bias), gates, h0, mask, reset)


def _project(x: Tensor, weight: Tensor, mask: Tensor | None, dtype: torch.dtype, bias: Tensor | None = None) -> Tensor:
    """The pre-activations; a masked step of x may hold anything."""
    x = x.to(dtype) if mask is None else torch.where(mask[..., None], x.to(dtype), 0.0)
    preacts = torch.einsum("fbtd,fdh->fbth", x, weight.to(dtype))
    return preacts if bias is None else preacts + bias.to(dtype)[:, None]


def _elapsed(elapsed: Tensor | None, mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """(..., 1) in `dtype`; a masked step may hold anything."""
    if elapsed is None:
        return None
    elapsed = elapsed.to(dtype)
    return (elapsed if mask is None else torch.where(mask, elapsed, 1.0))[..., None]


def min_gru_gates(preacts: Tensor, elapsed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(1 - z, z g(u)) from (u | k), z = sigmoid(k), or 1 - z = exp(-elapsed softplus(k))."""
    u, k = preacts.chunk(2, dim=-1)
    if elapsed is None:
        return torch.sigmoid(-k), torch.sigmoid(k) * _g(u)
    log_a = elapsed * logsigmoid(-k)
    return log_a.exp(), -torch.expm1(log_a) * _g(u)


def min_gru_log_gates(preacts: Tensor, elapsed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Their logarithms."""
    u, k = preacts.chunk(2, dim=-1)
    log_g = torch.where(u >= 0, torch.log(u.clamp(min=0) + 0.5), logsigmoid(u))
    if elapsed is None:
        return logsigmoid(-k), logsigmoid(k) + log_g
    log_a = elapsed * logsigmoid(-k)
    return log_a, torch.log(-torch.expm1(log_a)) + log_g


def min_lstm_gates(preacts: Tensor, elapsed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(f, i g(u)) / (f + i) from (u | k_f | k_i); a softmax of the logarithms, as f + i is 0 below k = -745. Over a
    time the first is a power."""
    u, k_f, k_i = preacts.chunk(3, dim=-1)
    gates = torch.stack([logsigmoid(k_f), logsigmoid(k_i)])
    if elapsed is None:
        f, i = torch.softmax(gates, dim=0)
        return f, i * _g(u)
    log_a = elapsed * torch.log_softmax(gates, dim=0)[0]
    return log_a.exp(), -torch.expm1(log_a) * _g(u)


def _g(u: Tensor) -> Tensor:
    return torch.where(u >= 0, u + 0.5, torch.sigmoid(u))


def recurrence(
    preacts: Tensor,
    gates: Gates,
    h0: Tensor | None = None,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    log: bool = False,
    long: bool = False,
) -> tuple[Tensor, Tensor]:
    """preacts (terms, batch, seq, n * hidden) -> h (terms, batch, seq, hidden) and the last state, in their dtype.

    A reset forgets the state before its step, and a masked step keeps what it finds. Pre-activations of a masked step
    may hold anything. With `log` the gates are logarithms; `long` takes `long_scan`.
    """
    observed, forgets = (None if t is None else t.expand(preacts.shape[:3]) for t in (mask, reset))
    a, b = gates(preacts if observed is None else torch.where(observed[..., None], preacts, 0.0))
    start = _start(b, h0)
    if long:
        if observed is not None:
            a, b = torch.where(observed[..., None], a, 1.0), torch.where(observed[..., None], b, 0.0)
        h = long_scan(a if forgets is None else torch.where(forgets[..., None], 0.0, a), b, start)
        return h, h[:, :, -1:]
    states = _walk(a, b, start.log() if log else start, observed, forgets, log)
    states = states.exp() if log else states
    return states[:, :, 1:], states[:, :, -1:]


def decode(flags: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """(mask, reset) of one byte a step."""
    return (None, None) if flags is None else ((flags & MASKED) == 0, (flags & RESET) != 0)


def _walk(
    a: Tensor,
    b: Tensor,
    start: Tensor,
    observed: Tensor | None = None,
    forgets: Tensor | None = None,
    log: bool = False,
) -> Tensor:
    """The states from `start` (..., 1, n) on: one more than there are steps."""
    h = start[..., 0, :]
    states = [h]
    for t, (a_t, b_t) in enumerate(zip(a.unbind(-2), b.unbind(-2), strict=True)):
        if forgets is not None:
            h = torch.where(forgets[..., t, None], -torch.inf if log else 0.0, h)
        moved = torch.logaddexp(a_t + h, b_t) if log else a_t * h + b_t
        h = moved if observed is None else torch.where(observed[..., t, None], moved, h)
        states.append(h)
    return torch.stack(states, dim=-2)


def scan(coeffs: Tensor, values: Tensor, h0: Tensor | None = None, log: bool = False) -> Tensor:
    """h_t = coeffs_t h_{t-1} + values_t over dim -2, in the dtype of values; with `log` of the logarithms.

    autograd gives NaN where the logarithm of a state is -inf; `scan_adjoint` does not.
    """
    return _walk(coeffs, values, _start(values, h0, log), log=log)[..., 1:, :]


def scan_adjoint(
    coeffs: Tensor,
    values: Tensor,
    h0: Tensor | None,
    h: Tensor,
    dh: Tensor,
    log: bool = False,
    *,
    walk: Callable[[Tensor, Tensor], Tensor] = scan,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of coeffs, values and h0: G_t = dh_t + p_{t+1} G_{t+1}, which is a scan back through time.

    p is how much of h_t comes from h_{t-1}, and q from values_t: (coeffs, 1), or shares of exp(h), 0 where that is 0.
    """
    start = _start(values, h0, log)
    before = torch.cat([start, h[..., :-1, :]], dim=-2)
    p, q = coeffs, 1.0
    if log:
        empty = h == -torch.inf
        level = torch.where(empty, 0.0, h)
        p, q = (torch.where(empty, 0.0, (t - level).exp()) for t in (coeffs + before, values))
    later = torch.cat([p[..., 1:, :], torch.zeros_like(start)], dim=-2)
    total = walk(later.flip(-2), dh.flip(-2)).flip(-2)
    return (p if log else before) * total, q * total, (p * total)[..., :1, :]


def _start(values: Tensor, h0: Tensor | None, log: bool = False) -> Tensor:
    """h0 (..., 1, n), or an empty state."""
    if h0 is not None:
        return h0.to(values.dtype)
    return values.new_full((*values.shape[:-2], 1, values.shape[-1]), -torch.inf if log else 0.0)


def long_scan(coeffs: Tensor, values: Tensor, h0: Tensor | None = None) -> Tensor:
    """`scan` of a long sequence in about a thousandth of its Python steps; differentiable.

    Segments of SEGMENT steps are walked side by side, from 0. The product of a segment's coefficients then says what
    its end gets from the state that enters it, which gives all the states that enter. Last, each segment is walked
    from its own.
    """
    h: Tensor = _LongScan.apply(coeffs, values, _start(values, h0))
    return h


class _LongScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, coeffs: Tensor, values: Tensor, h0: Tensor) -> Tensor:
        h = _in_segments(coeffs, values, h0)
        ctx.save_for_backward(coeffs, values, h0, h)
        return h

    @staticmethod
    def backward(ctx, dh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return scan_adjoint(*ctx.saved_tensors, dh, walk=_in_segments)


def _in_segments(coeffs: Tensor, values: Tensor, h0: Tensor | None = None) -> Tensor:
    whole = values.shape[-2] // SEGMENT * SEGMENT
    if whole == 0:
        return scan(coeffs, values, h0)
    a, b = (t[..., :whole, :].unflatten(-2, (-1, SEGMENT)) for t in (coeffs, values))
    ends = _in_segments(a.prod(-2), scan(a, b)[..., -1, :], h0)
    entering = torch.cat([_start(values, h0), ends[..., :-1, :]], dim=-2)
    h = scan(a, b, entering[..., None, :]).flatten(-3, -2)
    return torch.cat([h, scan(coeffs[..., whole:, :], values[..., whole:, :], ends[..., -1:, :])], dim=-2)


def embed(x: Tensor, weight: Tensor, bias: Tensor, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """x (terms, batch, seq, in_dim) as (terms, batch, seq, dim): x @ weight + bias."""
    return torch.einsum("fbtd,fdh->fbth", x.to(dtype), weight.to(dtype)) + bias.to(dtype)[:, None]


def feed_forward(x: Tensor, update: Tensor, *parameters: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """x + relu(LayerNorm(x + update) @ weight1 + bias1) @ weight2 + bias2, term by term in `dtype`.

    parameters: norm weight and bias (dim,), weight1 (terms, dim, dim), bias1 (terms, 1, dim), weight2, bias2; and those
    of `embed` where x is its input.
    """
    x, update = x.to(dtype), update.to(dtype)
    scale, shift, weight1, bias1, weight2, bias2, *embedding = (p.to(dtype) for p in parameters)
    if embedding:
        x = embed(x, *embedding, dtype=dtype)
    outputs = []
    for f in range(x.shape[0]):
        r = x[f] + update[f]
        centred = r - r.mean(-1, keepdim=True)
        n = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * scale + shift
        a = torch.relu(n @ weight1[f] + bias1[f])
        outputs.append(x[f] + a @ weight2[f] + bias2[f])
    return torch.stack(outputs)
