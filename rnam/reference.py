"""The specification: what every function computes, in plain PyTorch, for any floating dtype.

Kernels and blocks are checked against this file. It is meant to be read:

    u = x W_u,  k = x W_k                                 W = (W_u | W_k), hidden columns first
    z_t = sigmoid(k_t),  v_t = g(u_t)                     g(u) = u + 1/2 if u >= 0 else sigmoid(u)
    h_t = (1 - z_t) h_{t-1} + z_t v_t                     minGRU, arXiv 2410.01201
    log h_t = logaddexp(log a_t + log h_{t-1}, log b_t)   the same in logs, arXiv 2311.06281
    h_t = (f_t h_{t-1} + i_t v_t) / (f_t + i_t)           minLSTM, arXiv 2410.01201: z = i / (f + i)
    1 - z_t = exp(-dt_t softplus(k_t))                    either, where a time dt has passed since the step before

At dt = 1 the last line is the minGRU's own z. It solves h' = softplus(k) (v - h) over dt with u and k held, so that two
intervals in which these are the same are as one; the two papers have no such form. A minLSTM has it by the k whose
sigmoid is i / (f + i).

Arguments are valid when they come here (`rnam.functional` checks them). bfloat16 and float16 are
computed in float32 and rounded once, at the end. A sequence of more than 16 steps is evaluated in pairs,
which is the same function as long as products of coefficients (sums of their logarithms) stay finite.
A state that gates hold for a million steps keeps its digits: pairs add log a in both spaces, and multiply no a.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rnam.backends.calls import Embedding, FeedForward, Recurrence, widen
from rnam.backends.flags import decode

if TYPE_CHECKING:
    from rnam.backends.cells import Cell

# A sequence up to this long is walked step by step; a longer one is halved first. Halving makes the
# Python steps about 16 + log2(T) instead of T and costs one extra pass, in all, over the data.
_STEPS = 16

NORM_EPS = 1e-5  # torch.nn.LayerNorm's

# The activations of a linear layer by name. Blocks and kernels have tables of their own, and a test compares the names.
ACTIVATIONS: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda x: x,
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
}


def grouped_linear(input: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    """activation(input @ weight + bias) for each term. input (terms, *, in_dim) -> (terms, *, out_dim)."""
    return ACTIVATIONS[activation](_project(widen(input), weight.to(input.dtype), bias)).to(input.dtype)


def feed_forward(input: Tensor, update: Tensor, parameters: FeedForward, embedding: Embedding | None = None) -> Tensor:
    """x + relu(n @ weight1 + bias1) @ weight2 + bias2, n = LayerNorm(x + update), each (terms, *, dim); x is the
    input, or its embedding."""
    x = _embed(input, embedding)
    n = F.layer_norm(x + widen(update), x.shape[-1:], eps=NORM_EPS)
    n = n * parameters.norm_weight.to(x.dtype) + parameters.norm_bias.to(x.dtype)
    a = F.relu(_project(n, parameters.weight1.to(input.dtype), parameters.bias1))
    return (x + _project(a, parameters.weight2.to(input.dtype), parameters.bias2)).to(input.dtype)


class Gates(NamedTuple):
    """How the pre-activations of a step make its map h -> a h + b.

    coefficients       (*preacts) -> a, b, in few operations, for a single step
    log_coefficients   (*preacts) -> log a, log b; None where the cell has no log space
    long_coefficients  (*preacts) -> log a, b, for many steps; None where the cell has `coefficients` alone
    relaxation         (*preacts) -> u, k of the minGRU that the cell is where times have elapsed; None where it has no
                       such form

    Where a is near 1 its logarithm has the digits that a lacks: of what a product of many such is less than 1, and of
    the slopes, since that of a sigmoid is computed as a (1 - a).
    """

    coefficients: Callable[..., tuple[Tensor, Tensor]]
    log_coefficients: Callable[..., tuple[Tensor, Tensor]] | None = None
    long_coefficients: Callable[..., tuple[Tensor, Tensor]] | None = None
    relaxation: Callable[..., tuple[Tensor, Tensor]] | None = None


def _min_gru(u: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    # a = sigmoid(-k), not 1 - z: the difference cancels as z -> 1 (7.8e-6 against 3.4e-7 relative).
    return torch.sigmoid(-k), torch.sigmoid(k) * _g(u)


def _log_min_gru(u: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return F.logsigmoid(-k), F.logsigmoid(k) + _log_g(u)


def _as_min_gru(u: Tensor, f: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
    """A minLSTM is a minGRU with k = log(sigmoid(i) / sigmoid(f))."""
    # torch's softplus is the identity from 20 on, which costs float64 half of its digits; logsigmoid is exact
    return u, F.logsigmoid(i) - F.logsigmoid(f)


def _min_lstm(u: Tensor, f: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
    return _min_gru(*_as_min_gru(u, f, i))


def _long_min_gru(u: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return F.logsigmoid(-k), F.logsigmoid(k).exp() * _g(u)


def _long_min_lstm(u: Tensor, f: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
    return _long_min_gru(*_as_min_gru(u, f, i))


MIN_GRU = Gates(_min_gru, _log_min_gru, _long_min_gru, lambda u, k: (u, k))
MIN_LSTM = Gates(_min_lstm, None, _long_min_lstm, _as_min_gru)


def elapsed_gates(gates: Gates, elapsed: Tensor) -> Gates:
    """The gates of a cell after the time `elapsed` (..., 1)."""
    relaxation = gates.relaxation
    assert relaxation is not None

    def long_coefficients(*preacts: Tensor) -> tuple[Tensor, Tensor]:
        u, k = _where_time_passes(*relaxation(*preacts), elapsed)
        log_a = _log_decay(k, elapsed)
        # by torch the slope of expm1 is its value plus 1, which has lost the digits of a small a
        z = _as(-torch.expm1(log_a.detach()), -log_a.exp())
        return log_a, z * _g(u)

    def coefficients(*preacts: Tensor) -> tuple[Tensor, Tensor]:
        log_a, b = long_coefficients(*preacts)
        return log_a.exp(), b

    def log_coefficients(*preacts: Tensor) -> tuple[Tensor, Tensor]:
        u, k = _where_time_passes(*relaxation(*preacts), elapsed)
        log_a = _log_decay(k, elapsed)
        return log_a, torch.log(-torch.expm1(log_a)) + _log_g(u)

    return Gates(coefficients, log_coefficients if gates.log_coefficients else None, long_coefficients)


def _where_time_passes(u: Tensor, k: Tensor, elapsed: Tensor) -> tuple[Tensor, Tensor]:
    """u and k, with finite u and a rate of 0 in the place of what is infinite or NaN where no time has passed."""
    still = elapsed == 0
    return torch.where(still & ~u.isfinite(), 0, u), torch.where(still & ~k.isfinite(), -torch.inf, k)


def _log_decay(k: Tensor, elapsed: Tensor) -> Tensor:
    """log a = -elapsed softplus(k).

    Where one of the two is infinite it is the limit, by selection, and no gradient passes: 0 * inf would be NaN. A rate
    of 0 (k = -inf) holds the state over every finite time, and an infinite time forgets it at every rate.
    """
    extreme = elapsed.isinf() | k.isinf()
    forgets = elapsed.isinf() | (k == torch.inf)
    log_a = torch.where(extreme, 0, elapsed) * F.logsigmoid(-torch.where(extreme, 0, k))
    return torch.where(forgets, -torch.inf, log_a)


def recurrence(call: Recurrence, cell: Cell) -> tuple[Tensor, Tensor]:
    """Projection, gates and scan of a recurrent cell: h (no steps unless need_h) and the last state."""
    gates = cell.reference
    mask, reset = decode(call.flags)
    x = call.input if mask is None else torch.where(mask[..., None], call.input, 0)
    p = widen(x) if call.weight is None else _project(_embed(x, call.embedding), call.weight.to(x.dtype), call.bias)
    moves, elapsed = mask, None
    if call.elapsed is not None:
        elapsed = call.elapsed.to(p.dtype)
        elapsed = (elapsed if mask is None else torch.where(mask, elapsed, 0))[..., None]
        gates, moves = elapsed_gates(cell.reference, elapsed), (elapsed != 0)[..., 0]
    preacts = p.chunk(cell.num_preacts, dim=-1)
    hidden = preacts[0].shape[-1]
    h0 = p.new_zeros(*p.shape[:2], 1, hidden) if call.h0 is None else call.h0.to(p.dtype)

    a, b = (gates.long_coefficients or gates.coefficients)(*preacts)
    b = _edit(b, mask, None, one=0.0, zero=0.0)
    if gates.long_coefficients:
        h = long_scan(_edit(a, mask, reset, one=0.0, zero=-torch.inf), b, h0)
    else:
        h = linear_scan(_edit(a, mask, reset, one=1.0, zero=0.0), b, h0)
    if call.space == "log":
        # Both spaces are one function and differ by rounding alone, so the derivatives are those of the
        # linear form. (log h0 has none at h0 = 0, where the function itself has one.)
        gates = gates if elapsed is None else elapsed_gates(cell.reference, elapsed.detach())
        assert gates.log_coefficients is not None, cell.name
        log_a, log_b = gates.log_coefficients(*(x.detach() for x in preacts))
        log_a = _edit(log_a, mask, reset, one=0.0, zero=-torch.inf)
        log_b = _edit(log_b, mask, None, one=-torch.inf, zero=-torch.inf)
        h = _as(log_scan(log_a, log_b, h0.detach().log()).exp(), h)
    if moves is not None and call.seq:
        moves = moves if reset is None else moves | reset
        h = _held(h, h0, moves) if call.elapsed is None else _as(_held(h.detach(), h0.detach(), moves), h)
    h_last = h[:, :, -1:] if call.seq else h0
    return (h if call.need_h else h[:, :, :0]).to(x.dtype), h_last.clone()


def _embed(input: Tensor, embedding: Embedding | None) -> Tensor:
    """input, or input @ weight + bias of the embedding (weight, bias), in the dtype of the sums."""
    if embedding is None:
        return widen(input)
    weight, bias = embedding
    return _project(widen(input), weight.to(input.dtype), bias)


def linear_scan(coeffs: Tensor, values: Tensor, h0: Tensor | None) -> Tensor:
    """h_t = coeffs_t h_{t-1} + values_t over dim -2.

    Pairs of steps multiply coefficients, and numbers near 1 have few digits of what they lack of 1. In float32 a state
    is off by up to 2e-5 of the largest after 10,000 steps, and by 1e-4 after a million.
    """
    start = torch.zeros_like(values[..., :1, :]) if h0 is None else h0
    a, b = widen(coeffs), widen(values)
    return _scan(a, b, start.to(b.dtype), torch.mul, lambda a, h, b: a * h + b).to(values.dtype)


def long_scan(log_coeffs: Tensor, values: Tensor, h0: Tensor) -> Tensor:
    """`linear_scan` of coefficients whose logarithms are known: sums of these keep the digits of a state that lasts."""
    return _scan(log_coeffs, values, h0, torch.add, lambda log_a, h, b: log_a.exp() * h + b)


def log_scan(log_coeffs: Tensor, log_values: Tensor, log_h0: Tensor | None) -> Tensor:
    """log h_t = logaddexp(log_coeffs_t + log h_{t-1}, log_values_t) over dim -2; -inf is legal everywhere."""
    start = torch.full_like(log_values[..., :1, :], -torch.inf) if log_h0 is None else log_h0
    a, b = widen(log_coeffs), widen(log_values)
    return _scan(a, b, start.to(b.dtype), torch.add, lambda a, h, b: logaddexp(a + h, b)).to(log_values.dtype)


def logaddexp(x: Tensor, y: Tensor) -> Tensor:
    """log(exp(x) + exp(y)). Where both are -inf the result is -inf and the gradients are 0.

    torch.logaddexp gives NaN gradients there, and NaN second derivatives at one -inf.
    """
    peak = torch.maximum(x, y).detach()  # a shift: it cancels, so it needs no gradient
    empty = peak == -torch.inf
    shift = torch.where(torch.isinf(peak), 0, peak)
    total = torch.exp(x - shift) + torch.exp(y - shift)
    return torch.where(empty, -torch.inf, torch.log(torch.where(empty, 1, total)) + shift)


def _scan(
    coeffs: Tensor,
    values: Tensor,
    start: Tensor,
    compose: Callable[[Tensor, Tensor], Tensor],
    apply: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """States h_t = apply(coeffs_t, h_{t-1}, values_t) from h_0 = start, over dim -2.

    A long sequence is halved: steps 2i and 2i + 1 are one step with the coefficient compose(odd, even)
    and the value apply(odd, even's value, odd's value), whose states are those after the odd steps; one
    more step from each gives the even ones. Nothing flows backwards, so a NaN reaches later steps only.
    """
    length = values.shape[-2]
    if length == 0:
        return values.clone()
    if length <= _STEPS:
        states = [start]
        for a, b in zip(torch.split(coeffs, 1, dim=-2), torch.split(values, 1, dim=-2), strict=True):
            states.append(apply(a, states[-1], b))
        return torch.cat(states[1:], dim=-2)
    half = length // 2
    even_a, odd_a = coeffs[..., 0::2, :], coeffs[..., 1::2, :]
    even_b, odd_b = values[..., 0::2, :], values[..., 1::2, :]
    pair_a = compose(odd_a, even_a[..., :half, :])
    pair_b = apply(odd_a, even_b[..., :half, :], odd_b)
    odd = _scan(pair_a, pair_b, start, compose, apply)
    before = torch.cat([start, odd], dim=-2)[..., : length - half, :]
    even = apply(even_a, before, even_b)
    pairs = torch.stack([even[..., :half, :], odd], dim=-2).flatten(-3, -2)
    return torch.cat([pairs, even[..., half:, :]], dim=-2)


def _project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows, weight = x.flatten(1, -2), weight.to(x.dtype)
    product = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias.to(x.dtype), rows, weight)
    return product.reshape(*x.shape[:-1], weight.shape[-1])


def _g(u: Tensor) -> Tensor:
    return torch.where(u >= 0, u + 0.5, torch.sigmoid(u))


def _log_g(u: Tensor) -> Tensor:
    return torch.where(u >= 0, torch.log(torch.relu(u) + 0.5), F.logsigmoid(u))


def _edit(values: Tensor, mask: Tensor | None, reset: Tensor | None, *, one: float, zero: float) -> Tensor:
    """`one` at masked steps, so that they keep the state, then `zero` at resets, so that it is forgotten."""
    if mask is not None:
        values = torch.where(mask[..., None], values, one)
    if reset is not None:
        values = torch.where(reset[..., None], zero, values)
    return values


def _as(value: Tensor, h: Tensor) -> Tensor:
    """The value, with the derivatives of h."""
    return value + torch.where(torch.isfinite(h), h - h.detach(), 0)


def _held(h: Tensor, h0: Tensor, moves: Tensor) -> Tensor:
    """States where `moves` holds; elsewhere exactly the one before, which pairs give to rounding only."""
    moves = moves.expand(h.shape[:3])
    steps = torch.arange(1, h.shape[2] + 1, device=h.device)
    last = torch.where(moves, steps, 0).cummax(dim=2).values
    return torch.cat([h0, h], dim=2).gather(2, last[..., None].expand_as(h))
