"""The gates of the cells on a block, and their slopes, in memory that the block has anyway.

A row gives three functions. `preacts` are the pre-activations of a block, which all may overwrite.

    coefficients(preacts, out) -> a, b, ...     b in the memory of `out`; all that a forward needs
    gates(preacts, buffer) -> a, ...            a, and what `slopes` reads; buffer(name) gives memory for one more array
    slopes(preacts, kept, a, before, lam)       the gradients of the preacts, from what `gates` gave, from a as it was
                                                before masks and resets, from h_{t-1}, and from lam = dL/dh_t

    after(times, learns) -> Gates               the same over times; None where the cell has no such form. With `learns`
                                                the slopes have one more, whose sum over the channels is the gradient of
                                                elapsed

An a near 1 has few digits of 1 - a, of which the walk through segments of time is made. A cell that has more of them
sets `complement`, and then 1 - a is the third of `coefficients` and the second of `gates`. Without it the walk takes
1 - a as it comes from a.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["MIN_GRU", "MIN_LSTM", "Gates", "Times"]

LOG2E = 1.0 / math.log(2.0)
FAR = 60.0  # log(1 + e^k) is k from here on, in float64 too

aten = torch.ops.aten

Preacts = list[Tensor]
Kept = tuple[Tensor, ...]


class Gates(NamedTuple):
    """A cell on a block; see above."""

    coefficients: Callable[[Preacts, Tensor], Kept]
    gates: Callable[[Preacts, Callable[[str], Tensor]], Kept]
    slopes: Callable[[Preacts, Kept, Tensor, Tensor, Tensor], Preacts]
    complement: bool = False
    after: Callable[[Times, bool], Gates] | None = None


class Times(NamedTuple):
    """Elapsed times of a block (terms or 1, steps, segments, batch, 1): whether all are greater than 0, and whether all
    are finite. NaN is neither."""

    elapsed: Tensor
    positive: bool
    finite: bool

    @classmethod
    def of(cls, elapsed: Tensor) -> Times:
        least, most = elapsed.abs().aminmax()
        return cls(elapsed, bool(least > 0), bool(most < math.inf))


def _min_gru_coefficients(preacts: Preacts, out: Tensor) -> Kept:
    """a, b and z = 1 - a."""
    u, k = preacts
    torch.maximum(torch.sigmoid(u, out=out), u.add_(0.5), out=out)
    a, z = _sigmoids(k, u)
    return a, out.mul_(z), z


def _min_gru_gates(preacts: Preacts, buffer: Callable[[str], Tensor]) -> Kept:
    """a, z, v = g(u) and s = sigmoid(u)."""
    u, k = preacts
    s = torch.sigmoid(u, out=buffer("s"))
    v = torch.add(u, 0.5, out=buffer("v"))
    torch.maximum(v, s, out=v)
    return *_sigmoids(k, buffer("z")), v, s


def _min_gru_slopes(preacts: Preacts, kept: Kept, a: Tensor, before: Tensor, lam: Tensor) -> Preacts:
    """m = z lam, du = m g'(u), dk = m a (v - h_{t-1})."""
    u, _ = preacts
    _, z, v, s = kept
    m = z.mul_(lam)
    dk = v.sub_(before).mul_(a).mul_(m)
    return [_slope_of_g(u, m, s), dk]


def _slope_of_g(u: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """m g'(u) in the memory of s = sigmoid(u): g' is 1 where u >= 0, else s (1 - s).

    torch.where takes 3.4 ns an element, a lerp by 0 or 1 takes 0.2.
    """
    slope_below = aten.sigmoid_backward.grad_input(m, s, grad_input=s)
    return torch.lerp(slope_below, m, u.ge_(0), out=s)


def _as_min_gru(preacts: Preacts) -> Preacts:
    """u and k = log sigmoid(i) - log sigmoid(f), so that sigmoid(k) = i / (f + i) of the gates."""
    u, f, i = preacts
    return [u, logsigmoid(i).sub_(logsigmoid(f))]


def _min_lstm_coefficients(preacts: Preacts, out: Tensor) -> Kept:
    return _min_gru_coefficients(_as_min_gru(preacts), out)


def _min_lstm_gates(preacts: Preacts, buffer: Callable[[str], Tensor]) -> Kept:
    return _min_gru_gates(_as_min_gru(preacts), buffer)


def _min_lstm_slopes(preacts: Preacts, kept: Kept, a: Tensor, before: Tensor, lam: Tensor) -> Preacts:
    """df = -sigmoid(-f) dk and di = sigmoid(-i) dk."""
    u, f, i = preacts
    du, dk = _min_gru_slopes([u, f], kept, a, before, lam)
    df, di = (g.neg_().sigmoid_().mul_(dk) for g in (f, i))
    return [du, df.neg_(), di]


def _sigmoids(k: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """(sigmoid(-k), sigmoid(k)) in the memory of k and `out`.

    Both come from e = 2^(-k log2 e): a power of two takes 0.5 ns an element, a sigmoid 0.9. The clamp keeps 1 / (1 + e)
    a normal number and e finite. sigmoid(-k) is e / (1 + e) by a division, which is 1 where the gate is closed: from
    e = 2^25 on 1 + e is e. A product of e and the rounded 1 / (1 + e) is up to 2^-24 less there: a state that is held
    would decay by that in every step.
    """
    e = k.mul_(-LOG2E).clamp_(max=-math.log2(torch.finfo(k.dtype).tiny)).exp2_()
    whole = torch.add(e, 1, out=out)
    return e.div_(whole), whole.reciprocal_()


def _min_gru_after(times: Times, learns: bool) -> Gates:
    """1 - z = a = exp(-elapsed softplus(k)).

    With w = lam a (v - h_{t-1}) the gradients are dk = elapsed sigmoid(k) w and, summed over the channels,
    d_elapsed = softplus(k) w. They are 0 by selection where elapsed or softplus(k) is infinite.
    """
    half = 0.5 * times.elapsed

    def half_exponent(k: Tensor, e: Tensor, rate: Tensor) -> Tensor:
        """elapsed log(1 + e^k) / 2 in the memory of k, which leaves the exponential and the rate in theirs; an infinite
        rate is left as 0, for the slopes."""
        if times.finite and bool(k.amax() <= FAR):
            torch.log1p(torch.exp(k, out=e), out=rate)
            return torch.mul(rate, half, out=k)
        # e and the rate are neither 0 nor infinite, so that no product with a time is NaN
        limits = torch.finfo(k.dtype)
        torch.log1p(torch.clamp(k, math.log(limits.tiny) + 1e-3, FAR, out=e).exp_(), out=rate)
        torch.maximum(rate, k, out=rate)
        y = torch.clamp(rate, max=limits.max, out=k).mul_(half)
        rate.nan_to_num_(math.nan, posinf=0.0)
        return y

    def decay(y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """a = exp(-2 y) and z = 1 - a in the memory of y and z.

        z = t (1 + a) with t = tanh(y) keeps its digits where y is small; torch's expm1 takes four times as long as its
        tanh.
        """
        t = torch.tanh(y, out=z)
        a = y.mul_(-2).exp_()
        return a, torch.addcmul(t, t, a, out=z)

    def coefficients(preacts: Preacts, out: Tensor) -> Kept:
        u, k = preacts
        torch.maximum(torch.sigmoid(u, out=out), u.add_(0.5), out=out)
        a, z = decay(half_exponent(k, u, u), u)
        return a, out.mul_(z), z

    def gates(preacts: Preacts, buffer: Callable[[str], Tensor]) -> Kept:
        u, k = preacts
        if not times.positive:  # where no time passes the state is held, and 0 times what u and k are may be NaN
            still = times.elapsed == 0
            u.masked_fill_(still & ~u.isfinite(), 0)
            k.masked_fill_(still & ~k.isfinite(), -torch.inf)
        s = torch.sigmoid(u, out=buffer("s"))
        v = torch.add(u, 0.5, out=buffer("v"))
        torch.maximum(v, s, out=v)
        e, z = buffer("slope"), buffer("z")
        rate = buffer("rate") if learns else z
        y = half_exponent(k, e, rate)
        slope = e.div_(torch.add(e, 1, out=z))
        return *decay(y, z), v, s, rate, slope

    def slopes(preacts: Preacts, kept: Kept, a: Tensor, before: Tensor, lam: Tensor) -> Preacts:
        u, _ = preacts
        _, z, v, s, rate, slope = kept
        w = v.sub_(before).mul_(a).mul_(lam)
        finite = times.elapsed.nan_to_num(math.nan, posinf=0.0, neginf=0.0)
        du, dk = _slope_of_g(u, z.mul_(lam), s), slope.mul_(finite).mul_(w)
        return [du, dk, rate.mul_(w)] if learns else [du, dk]

    return Gates(coefficients, gates, slopes, complement=True)


MIN_GRU = Gates(_min_gru_coefficients, _min_gru_gates, _min_gru_slopes, complement=True, after=_min_gru_after)
MIN_LSTM = Gates(_min_lstm_coefficients, _min_lstm_gates, _min_lstm_slopes, complement=True)
