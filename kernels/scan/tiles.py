"""What the scan kernels (linear_scan.py, gates_scan.py) share: a tile of ROWS rows of STEPS steps as maps, and the
segments of a cut sequence."""

import triton
import triton.language as tl

from ..common.arithmetic import LN2, NEG_INF, log2, rcp
from ..common.gates import min_gru_gates, min_gru_log_gates, min_gru_slopes, min_lstm_gates, min_lstm_slopes
from ..common.scans import advance, affine, log_affine, prolong
from ..common.tiles import last_row


@triton.jit
def place(H, count, BLOCK_H: tl.constexpr):
    """(sequence n of 64 bits, segment g, channels [BLOCK_H], which exist) of a program; channels are innermost on the
    grid."""
    blocks = tl.cdiv(H, BLOCK_H)
    pid = tl.program_id(0)
    g = pid // blocks % count
    n = (pid // blocks // count).to(tl.int64)
    h_offs = pid % blocks * BLOCK_H + tl.arange(0, BLOCK_H)
    return n, g, h_offs, h_offs < H


@triton.jit
def compose(a, b, STEPS: tl.constexpr, LOG: tl.constexpr):
    """The map of each row: its steps a[s], b[s] in order."""
    row_a, row_b = a[0], b[0]
    for s in tl.static_range(1, STEPS):
        row_b = advance(a[s], b[s], row_b, LOG)
        row_a = prolong(a[s], row_a, LOG)
    return row_a, row_b


@triton.jit
def compose_adjoint(c, dh, ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_H: tl.constexpr):
    """The map of each row backwards in time: s -> c[s] (dh[s] + s) from the last step to the first."""
    row_a = tl.full((ROWS, BLOCK_H), 1.0, tl.float32)
    row_b = tl.zeros((ROWS, BLOCK_H), tl.float32)
    for s in tl.static_range(STEPS - 1, -1, -1):
        row_b = c[s] * (dh[s] + row_b)
        row_a = row_a * c[s]
    return row_a, row_b


@triton.jit
def tile_map(a, b, ROWS: tl.constexpr, LOG: tl.constexpr):
    """The one map that rows [ROWS, BLOCK_H] of maps make in order: the last row of their inclusive scan."""
    if LOG:
        a, b = tl.associative_scan((a, b), 0, log_affine)
    else:
        a, b = tl.associative_scan((a, b), 0, affine)
    return last_row(a, ROWS), last_row(b, ROWS)


@triton.jit
def extend(row_a, row_b, carry_a, carry, ROWS: tl.constexpr, LOG: tl.constexpr):
    """The map (carry_a, carry) [BLOCK_H] of a segment so far, and then a tile of rows."""
    tile_a, tile_b = tile_map(row_a, row_b, ROWS, LOG)
    return prolong(tile_a, carry_a, LOG), advance(tile_a, tile_b, carry, LOG)


@triton.jit
def store_totals(total_a_ptr, total_b_ptr, position, carry_a, carry, h_offs, H, LOG: tl.constexpr):
    """A segment's map into [..., H], in natural units."""
    if LOG:
        carry_a, carry = carry_a * LN2, carry * LN2
    total = position * H + h_offs
    tl.store(total_a_ptr + total, carry_a, mask=h_offs < H)
    tl.store(total_b_ptr + total, carry, mask=h_offs < H)


@triton.jit
def log_shares(x, y):
    """Shares p, q of 2^x and 2^y in their sum, p + q = 1, and log2 of the sum. Both 0 where the sum is 0.

    p comes from x - y and not as 2^(x - sum), so a sum that was rounded to a half leaves p + q = 1.
    """
    top = tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)
    empty = top == NEG_INF
    e = tl.exp2(tl.where(empty, 0.0, tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL) - top))
    larger = tl.where(empty, 0.0, rcp(1.0 + e))
    return tl.where(x >= y, larger, e * larger), tl.where(x >= y, e * larger, larger), top + log2(1.0 + e)


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
