"""What the scan kernels (linear_scan.py, gates_scan.py) share: a tile of ROWS rows of STEPS steps as maps, and the
segments of a cut sequence."""

import triton
import triton.language as tl

from .primitives import LN2, advance, affine, last_row, log_affine, prolong


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
