"""The cells: gates, their slopes, and the table that the kernels and launchers of any cell read.

The functions of a cell turn the pre-activations of a step into its map h -> a h + z v and give the slopes of h. Nothing
else knows the cell. Derivations and error bounds: README.md in the folder above.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import triton.language as tl

from .arithmetic import (
    INF,
    LN2,
    LOG2E,
    MAX_EXPONENT,
    NEG_INF,
    log2,
    log2_1p,
    log2_1p_ratio,
    one_minus_exp2_ratio,
    rcp,
)
from .device import device

# ---- what cells share ----


@device
def sigmoid_pair(k):
    """(sigmoid(k), sigmoid(-k)), both to 3.4e-7 relative."""
    e = tl.exp2(tl.minimum(k * -LOG2E, MAX_EXPONENT, propagate_nan=tl.PropagateNan.ALL))
    z = rcp(1.0 + e)
    return z, complement(z, e * z, k < 0)


@device
def complement(z, product, closed):
    """a = 1 - z, by the difference where the gate is `closed` (z < 1/2) and else by a product, as 1 - z would cancel.

    A product of two roundings is not 1 where z vanishes, but up to 2^-23 less: a state that the gate holds would decay
    by that in every step.
    """
    return tl.where(closed, 1.0 - z, product)


@device
def candidate(u):
    """v = g(u), s = sigmoid(u).

    g(u) = u + 1/2 where u >= 0 and sigmoid(u) below is max(u + 1/2, sigmoid(u)): the two cross at 0 only.
    """
    s = rcp(1.0 + tl.exp2(u * -LOG2E))
    return tl.maximum(u + 0.5, s, propagate_nan=tl.PropagateNan.ALL), s


@device
def log_candidate(u):
    """log2 of g(u)."""
    u2 = u * LOG2E
    return tl.where(u >= 0, log2(tl.maximum(u, 0.0) + 0.5), u2 - log2(1.0 + tl.exp2(-tl.abs(u2))))


@device
def candidate_slope(u, s):
    """g'(u). At 0 it is 1, the one from the right."""
    return tl.where(u >= 0, 1.0, s * (1.0 - s))


# ---- the minGRU: preacts (u, k) ----


@device
def min_gru_gates(u, k):
    """z = sigmoid(k), v = g(u), a = 1 - z, s = sigmoid(u)."""
    z, a = sigmoid_pair(k)
    v, s = candidate(u)
    return z, v, a, s


@device
def min_gru_gates_half(u, k):
    """(z, v, a) of `min_gru_gates` with one reciprocal, 1 / ((1 + e_k) (1 + e_u)), for both sigmoids: 3 special
    functions in place of 4, to 6e-7 relative. The clamps keep the product of the two finite and its reciprocal normal:
    below k = -43.7 z is 2^-63 and not less, and so is sigmoid(u).
    """
    e_k = tl.exp2(tl.minimum(k * -LOG2E, MAX_EXPONENT / 2, propagate_nan=tl.PropagateNan.ALL))
    e_u = tl.exp2(tl.minimum(u * -LOG2E, MAX_EXPONENT / 2, propagate_nan=tl.PropagateNan.ALL))
    both = rcp((1.0 + e_k) * (1.0 + e_u))
    z = both * (1.0 + e_u)
    v = tl.maximum(u + 0.5, both * (1.0 + e_k), propagate_nan=tl.PropagateNan.ALL)
    return z, v, complement(z, e_k * z, k < 0)


@device
def min_gru_slopes(u, k, z, v, a, s, h_prev):
    """(dh/du, dh/dk) of the step h = a h_prev + z v."""
    return z * candidate_slope(u, s), z * (a * (v - h_prev))


@device
def min_gru_log_gates(u, k):
    """(log2 a, log2(z v)); exact at k = +-inf."""
    k2 = k * LOG2E
    soft = log2_1p(tl.exp2(-tl.abs(k2)))
    log_a = -(tl.maximum(k2, 0.0) + soft)
    log_z = -(tl.maximum(-k2, 0.0) + soft)
    return log_a, log_z + log_candidate(u)


# ---- the minGRU in time: preacts (u, k) and dt, the time since the step before ----

# a = exp(-dt softplus(k)), z = 1 - a. With rate = softplus(k) / ln 2 and x = dt rate, a = 2^-x.


@device
def min_gru_rate(k):
    """(softplus(k) / ln 2, e) with e = exp(-|k|): log2(1 + e^k) to 3e-7 of itself and what k log2(e) is rounded by.

    Below k = -87 the rate is 2^-126 log2(e) and not less, so that x is infinite at dt = inf for every k. At dt = 0 x is
    0 but for k = inf: `timed_map` selects.
    """
    k2 = tl.maximum(k * LOG2E, -MAX_EXPONENT, propagate_nan=tl.PropagateNan.ALL)
    e = tl.exp2(-tl.abs(k2))
    return tl.maximum(k2, 0.0) + log2_1p(e), e


@device
def min_gru_timed_gates(u, k, dt):
    """z = 1 - a, v = g(u), a = 2^-x, s = sigmoid(u); and the rate and sigmoid(k), of which the slopes are made.

    Below x = 1 z is x times a polynomial, to 1.3e-7 and what x is off by, and a is 1 - z: a state that the gate holds
    does not decay (see `complement`). From x = 1 on z >= 1/2, and 1 - a has the error of a, 2^-22 at most.
    """
    rate, e = min_gru_rate(k)
    x = dt * rate
    small = tl.abs(x) < 1.0  # a negative time has the formula, too
    z_small = x * one_minus_exp2_ratio(x)
    a_large = tl.exp2(-x)
    z = tl.where(small, z_small, 1.0 - a_large)
    a = tl.where(small, 1.0 - z_small, a_large)
    v, s = candidate(u)
    r = rcp(1.0 + e)
    return z, v, a, s, rate, tl.where(k < 0, e * r, r)


@device
def min_gru_timed_slopes(u, k, dt, z, v, a, s, rate, sigmoid_k, h_prev):
    """(dh/du, dh/dk, dh/d(dt)) of the step h = a h_prev + z v.

    With w = a (v - h_prev) they are z g'(u), dt sigmoid(k) w and softplus(k) w. Where dt or the rate is infinite a is
    0, and so are the slopes in k and dt: by selection, since 0 times infinity would be NaN.
    """
    w = a * (v - h_prev)
    finite = tl.where(dt == INF, 0.0, dt)
    return z * candidate_slope(u, s), finite * (sigmoid_k * w), tl.where(rate == INF, 0.0, rate * LN2 * w)


@device
def min_gru_timed_log_gates(u, k, dt):
    """(log2 a, log2(z v)).

    log2 a = -x. Below x = 1 z = dt rate p(x) with the polynomial p. The logarithms of dt and, where k < 0, of e^k are
    added and not multiplied, since z may be far below the smallest float32. From x = 1 on z = 1 - a.
    """
    rate, e = min_gru_rate(k)
    x = dt * rate
    small = x < 1.0
    scale = tl.where(small, log2(dt) + tl.minimum(k * LOG2E, 0.0), 0.0)
    rest = tl.where(k < 0, log2_1p_ratio(e), rate) * one_minus_exp2_ratio(x)
    log_z = scale + log2(tl.where(small, rest, 1.0 - tl.exp2(-x)))
    return -x, log_z + log_candidate(u)


# ---- the minLSTM: preacts (u, k_f, k_i) ----

# Below it 1 is under 2^-28 of exp(-k).
BOTH_VANISH = tl.constexpr(-20.0)


@device
def min_lstm_gates(u, k_f, k_i):
    """z = i / (f + i), v = g(u), a = f / (f + i), s = sigmoid(u), f and i the sigmoids of k_f and k_i; and w_f, w_i, of
    which the slopes are made.

    With e = exp(-k) and S = 2 + e_f + e_i: z = (1 + e_f) / S, a = (1 + e_i) / S, w = e / S. That is one special
    function more than sigmoid_pair has, where log i - log f takes four more, and no difference cancels. Where both
    gates vanish each e is divided by the smaller of them, beside which 1 is nothing and left out; k_f = k_i = -inf
    gives NaN.
    """
    top = tl.maximum(k_f, k_i)
    vanish = top < BOTH_VANISH
    shift = tl.where(vanish, top, 0.0)
    one = tl.where(vanish, 0.0, 1.0)
    e_f = tl.exp2(tl.minimum((k_f - shift) * -LOG2E, MAX_EXPONENT, propagate_nan=tl.PropagateNan.ALL))
    e_i = tl.exp2(tl.minimum((k_i - shift) * -LOG2E, MAX_EXPONENT, propagate_nan=tl.PropagateNan.ALL))
    forget, take = one + e_i, one + e_f
    r = rcp(forget + take)
    z = take * r
    v, s = candidate(u)
    return z, v, complement(z, forget * r, take < forget), s, e_f * r, e_i * r


@device
def min_lstm_slopes(u, k_f, k_i, z, v, a, s, w_f, w_i, h_prev):
    """(dh/du, dh/dk_f, dh/dk_i) of the step h = a h_prev + z v: with z' = z a (v - h_prev) they are z g'(u),
    -(1 - f) z' and (1 - i) z', where (1 - f) z = w_f and (1 - i) a = w_i."""
    return z * candidate_slope(u, s), -(w_f * (a * (v - h_prev))), w_i * (z * (v - h_prev))


# ---- the table ----


@dataclass(frozen=True)
class TimedGates:
    """A cell whose steps take time, dt: its functions are those of `Gates` at dt = 1.

    A step of dt = 0 is the identity for every k: a = 1 and z = 0. That is what stands for the time of a step that is
    not read.

    gates     (*preacts, dt) -> (z, v, a, ...)
    slopes    (*preacts, dt, *gates, h_prev) -> dh / d preact, one for each, and dh / d(dt)
    log_map   (*preacts, dt) -> (log2 a, log2(z v))
    """

    gates: Callable[..., Any]
    slopes: Callable[..., Any]
    log_map: Callable[..., Any]


@dataclass(frozen=True, eq=False)  # a cell is itself alone: it is a key at each call
class Gates:
    """A cell on the kernels. Nothing asks how many pre-activations a cell has to know which one it is.

    unread           values in the place of the pre-activations of a step that is not read: they give a = 1 and z v = 0
    gates            (*preacts) -> (z, v, a, ...), tiles of one step h -> a h + z v
    slopes           (*preacts, *gates, h_prev) -> dh / d preact, one for each
    log_map          (*preacts) -> (log2 a, log2(z v)); None where the cell has no log space
    fused            True if the kernels of min_gru/ compute it
    float32_preacts  True if the pre-activations of an input in half precision stay float32
    timed            the same with the time of a step; None where the cell has no such form
    """

    unread: tuple[float, ...]
    gates: Callable[..., Any]
    slopes: Callable[..., Any]
    log_map: Callable[..., Any] | None = None
    fused: bool = False
    float32_preacts: bool = False
    timed: TimedGates | None = None

    num_preacts: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_preacts", len(self.unread))


def functions_of(gates: Gates, elapsed: bool) -> Gates | TimedGates:
    """The functions of a cell, of steps that take time where times have `elapsed`; raises for a cell without those."""
    if not elapsed:
        return gates
    if gates.timed is None:
        raise ValueError("elapsed: expected None for a cell whose gates take no time, got times")
    return gates.timed


MIN_GRU = Gates(
    (NEG_INF.value, NEG_INF.value), min_gru_gates, min_gru_slopes, min_gru_log_gates, fused=True,
    timed=TimedGates(min_gru_timed_gates, min_gru_timed_slopes, min_gru_timed_log_gates),
)  # fmt: skip

# float16 overflows from 65504 on and keeps 3 to 4 digits, while k_i - k_f alone counts where both gates vanish. z is
# 2^-126 for k_i = -inf beside k_f = 0, and g(-inf) is 0.
MIN_LSTM = Gates((NEG_INF.value, 0.0, NEG_INF.value), min_lstm_gates, min_lstm_slopes, float32_preacts=True)
