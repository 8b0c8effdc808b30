"""What `gates_scan.py` does to one step of a tile, for each of its cells: PARTS = 2 is a minGRU, 3 a minLSTM."""

import triton
import triton.language as tl

from .primitives import (
    NEG_INF,
    min_gru_gates,
    min_gru_log_gates,
    min_gru_slopes,
    min_lstm_gates,
    min_lstm_slopes,
)


@triton.jit
def load_step(p_ptrs, mask, H, PARTS: tl.constexpr):
    """The pre-activations [ROWS, BLOCK_H] of a step in float32, (u, k) or (u, k_f, k_i).

    Where the mask is off they give a = 1 and b = 0: u = -inf makes g(u) 0, and z is 2^-126 for k = k_i = -inf beside
    k_f = 0.
    """
    u = tl.load(p_ptrs, mask=mask, other=NEG_INF).to(tl.float32)
    if PARTS == 3:
        k_f = tl.load(p_ptrs + H, mask=mask, other=0.0).to(tl.float32)
        k_i = tl.load(p_ptrs + 2 * H, mask=mask, other=NEG_INF).to(tl.float32)
        return u, k_f, k_i
    else:
        k = tl.load(p_ptrs + H, mask=mask, other=NEG_INF).to(tl.float32)
        return u, k


@triton.jit
def step_gates(x, PARTS: tl.constexpr):
    """(z, v, a, ...) of the step h -> a h + z v from what `load_step` gives; `step_slopes` takes all of it."""
    if PARTS == 3:
        return min_lstm_gates(x[0], x[1], x[2])
    else:
        return min_gru_gates(x[0], x[1])


@triton.jit
def step_slopes(x, gates, h_prev, PARTS: tl.constexpr):
    """dh/dx of each of the PARTS pre-activations at the state h_prev before the step."""
    if PARTS == 3:
        z, v, a, s, w_f, w_i = gates
        return min_lstm_slopes(x[0], z, v, a, s, w_f, w_i, h_prev)
    else:
        z, v, a, s = gates
        return min_gru_slopes(x[0], z, v, a, s, h_prev)


@triton.jit
def unless(masked, xs):
    """A tuple of tiles, 0 by selection where masked."""
    out = ()
    for i in tl.static_range(len(xs)):
        out += (tl.where(masked, 0.0, xs[i]),)
    return out


@triton.jit
def step_map(x, LOG: tl.constexpr, PARTS: tl.constexpr):
    """(a, b) of the step h -> a h + b, with LOG their log2, which a minLSTM has not."""
    tl.static_assert(PARTS == 2 or not LOG)
    if LOG:
        return min_gru_log_gates(x[0], x[1])
    else:
        gates = step_gates(x, PARTS)
        return gates[2], gates[0] * gates[1]
