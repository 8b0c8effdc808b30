"""Shared by the scan kernels: a tile of ROWS rows of STEPS steps as maps, and the chunks of a cut sequence."""

import triton.language as tl

from ..common.arithmetic import LN2, NEG_INF, log2, rcp
from ..common.device import device
from ..common.scans import advance, complement, multiplier, prolong, tile_map


@device
def place_program(H, num_chunks, BLOCK_H: tl.constexpr):
    """(sequence n of 64 bits, chunk, channels [BLOCK_H], which of them exist) of a program; channels are innermost on
    the grid."""
    blocks = tl.cdiv(H, BLOCK_H)
    pid = tl.program_id(0)
    chunk = pid // blocks % num_chunks
    n = (pid // blocks // num_chunks).to(tl.int64)
    h_offs = pid % blocks * BLOCK_H + tl.arange(0, BLOCK_H)
    return n, chunk, h_offs, h_offs < H


@device
def compose_adjoint(c, dh, ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_H: tl.constexpr):
    """The map of each row backwards in time: s -> c[s] (dh[s] + s) from the last step to the first."""
    row_a = tl.full((ROWS, BLOCK_H), 1.0, tl.float32)
    row_b = tl.zeros((ROWS, BLOCK_H), tl.float32)
    for s in tl.static_range(STEPS - 1, -1, -1):
        row_b = c[s] * (dh[s] + row_b)
        row_a = row_a * c[s]
    return row_a, row_b


@device
def extend(row_a, row_b, carry_a, carry_c, carry, ROWS: tl.constexpr, LOG: tl.constexpr):
    """The map (carry_a, carry) [BLOCK_H] of a chunk so far, and then a tile of rows. Without LOG carry_c is the
    complement of carry_a."""
    tile_a, tile_b = tile_map(row_a, row_b, ROWS, LOG)
    if not LOG:
        carry_c = tl.fma(tile_a, carry_c, complement(tile_a))
    return prolong(tile_a, carry_a, LOG), carry_c, advance(tile_a, tile_b, carry, LOG)


@device
def store_totals(total_a_ptr, total_b_ptr, position, carry_a, carry_c, carry, h_offs, H, LOG: tl.constexpr):
    """A chunk's map into [..., H], in natural units."""
    if LOG:
        carry_a, carry = carry_a * LN2, carry * LN2
    else:
        carry_a = multiplier(carry_a, carry_c)
    total = position * H + h_offs
    tl.store(total_a_ptr + total, carry_a, mask=h_offs < H)
    tl.store(total_b_ptr + total, carry, mask=h_offs < H)


@device
def log_shares(x, y):
    """Shares p, q of 2^x and 2^y in their sum, p + q = 1, and log2 of the sum. Both 0 where the sum is 0.

    p comes from x - y and not as 2^(x - sum), so a sum that was rounded to half precision leaves p + q = 1.
    """
    top = tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)
    empty = top == NEG_INF
    e = tl.exp2(tl.where(empty, 0.0, tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL) - top))
    larger = tl.where(empty, 0.0, rcp(1.0 + e))
    return tl.where(x >= y, larger, e * larger), tl.where(x >= y, e * larger, larger), top + log2(1.0 + e)


@device
def load_preacts(p_ptrs, mask, H, UNREAD: tl.constexpr):
    """The pre-activations [ROWS, BLOCK_H] of a step in float32, and where the mask is off those of UNREAD."""
    preacts = ()
    for j in tl.static_range(len(UNREAD)):
        preacts += (tl.load(p_ptrs + j * H, mask=mask, other=UNREAD[j]).to(tl.float32),)
    return preacts


@device
def step_map(preacts, times, MAP: tl.constexpr, LOG: tl.constexpr):
    """(a, b) of the step h -> a h + b by a cell's gates, with LOG their log2 by its log_map. times holds the times of
    the steps [ROWS, 1], or nothing where all are 1."""
    if LOG:
        return MAP(*preacts, *times)
    else:
        gates = MAP(*preacts, *times)
        return gates[2], gates[0] * gates[1]


@device
def zero_where(masked, xs):
    """A tuple of tiles, 0 by selection where masked."""
    out = ()
    for i in tl.static_range(len(xs)):
        out += (tl.where(masked, 0.0, xs[i]),)
    return out
