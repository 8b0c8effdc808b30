"""Tiles that stay in their threads on the way from memory through sums and products back to memory.

In a product of one warp a row of a tile lies in four lanes, and which of its numbers a lane has is fixed: of the first
operand numbers q, q + 4, ... (float32) or 2q, 2q + 1, 2q + 8, ... (half precision) in lane q, of the result 2q, 2q + 1,
2q + 8, ... A wide load gives a lane numbers that lie side by side. Between the two a tile would pass through shared
memory.

But the order of the numbers that a product sums is free, and so is the order of its columns: each is a permutation of
the weights, made once per program. Here lane q always has the same numbers of a row, VECTOR that lie side by side in
each of PIECES = WIDTH / (4 VECTOR) pieces, and `positions` says where a product wants them. A tile is permuted by
reshapes, which name the registers of a thread anew and move nothing.

    RUN    positions side by side in a lane: 1 or 2
    order  (piece, VECTOR / RUN, lane, RUN), where memory has (piece, lane, VECTOR)
"""

import triton.language as tl

from .device import device
from .tiles import load_existing, multiply, store_existing

LANES = tl.constexpr(4)  # that share a row in a product

# tl.dot sums at least 16.
LEAST_SUM = tl.constexpr(16)

# A row is at least two positions of each of its four lanes.
LEAST_WIDTH = 8


@device
def positions(x, VECTOR: tl.constexpr, RUN: tl.constexpr):
    """Columns in the order of a product, from that of memory."""
    N: tl.constexpr = x.shape[0]
    WIDTH: tl.constexpr = x.shape[1]
    x = tl.reshape(x, (N, WIDTH // (LANES * VECTOR), LANES, VECTOR // RUN, RUN))
    return tl.reshape(tl.permute(x, (0, 1, 3, 2, 4)), (N, WIDTH))


@device
def restored(x, VECTOR: tl.constexpr, RUN: tl.constexpr):
    """Columns in the order of memory, from that of a product."""
    N: tl.constexpr = x.shape[0]
    WIDTH: tl.constexpr = x.shape[1]
    x = tl.reshape(x, (N, WIDTH // (LANES * VECTOR), VECTOR // RUN, LANES, RUN))
    return tl.reshape(tl.permute(x, (0, 1, 3, 2, 4)), (N, WIDTH))


@device
def operand(x, VECTOR: tl.constexpr, DTYPE: tl.constexpr):
    """A tile as the first operand of a product: rounded to DTYPE, at least LEAST_SUM wide."""
    N: tl.constexpr = x.shape[0]
    WIDTH: tl.constexpr = x.shape[1]
    x = positions(x.to(DTYPE), VECTOR, 32 // DTYPE.primitive_bitwidth)
    if WIDTH < LEAST_SUM:
        x = tl.permute(tl.join(x, tl.zeros((N, WIDTH), DTYPE)), (0, 2, 1))
        x = tl.reshape(x, (N, 2 * WIDTH))
    return x


@device
def high(x):
    """float32 rounded to the 11 bits of tf32; a NaN may become a number, an infinity stays one."""
    bits = x.to(tl.int32, bitcast=True) + 0x1000
    return (bits & -0x2000).to(tl.float32, bitcast=True)


@device
def factor(w, VECTOR: tl.constexpr, COLUMNS: tl.constexpr, DTYPE: tl.constexpr, PRECISION: tl.constexpr):
    """A weight [WIDTH, n], columns and rows in the order of memory, as the second operand of `product`. A lane has
    COLUMNS columns side by side in a piece of the result."""
    w = tl.trans(operand(tl.trans(positions(w, COLUMNS, 2)), VECTOR, DTYPE))
    if PRECISION == "tf32x3":
        return high(w), high(w - high(w))
    else:
        return (w,)


@device
def product(x, w, VECTOR: tl.constexpr, DTYPE: tl.constexpr, PRECISION: tl.constexpr):
    """x W, float32, from columns in the order of memory to those of a product."""
    x = operand(x, VECTOR, DTYPE)
    if PRECISION == "tf32x3":
        big = high(x)
        small = multiply(x - big, w[0], multiply(big, w[1], None, "tf32"), "tf32")
        return multiply(big, w[0], small, "tf32")
    else:
        return multiply(x, w[0], None, PRECISION)


@device
def columns(WIDTH: tl.constexpr, VECTOR: tl.constexpr):
    """The columns of a row [PIECES, 1, LANES, VECTOR]: a load of such a tile gives a thread VECTOR of them."""
    piece = tl.arange(0, WIDTH // (LANES * VECTOR))[:, None, None, None]
    lane = tl.arange(0, LANES)[None, None, :, None]
    return (piece * LANES + lane) * VECTOR + tl.arange(0, VECTOR)[None, None, None, :]


@device
def row_mask(exists, D: tl.constexpr, WIDTH: tl.constexpr, VECTOR: tl.constexpr, MASK_ROWS: tl.constexpr):
    """The mask of a tile [PIECES, ROWS, LANES, VECTOR] for `load_lanes`: of the columns that exist, and with MASK_ROWS
    of the rows that do; () where all of it does."""
    if MASK_ROWS:
        return (exists[None, :, None, None] & (columns(WIDTH, VECTOR) < D),)
    elif D < WIDTH:
        return (columns(WIDTH, VECTOR) < D,)
    else:
        return ()


@device
def load_lanes(ptrs, mask):
    """A tile [ROWS, WIDTH] from pointers [PIECES, ROWS, LANES, VECTOR]; 0 where `mask` (of `row_mask`) is off."""
    x = load_existing(ptrs, mask)
    return tl.reshape(tl.permute(x, (1, 0, 2, 3)), (x.shape[1], x.shape[0] * x.shape[2] * x.shape[3]))


@device
def store_lanes(ptrs, x, mask):
    """Stores what exists of a tile [ROWS, WIDTH] at pointers [PIECES, ROWS, LANES, VECTOR]."""
    x = tl.reshape(x.to(ptrs.dtype.element_ty), (ptrs.shape[1], ptrs.shape[0], ptrs.shape[2], ptrs.shape[3]))
    store_existing(ptrs, tl.permute(x, (1, 0, 2, 3)), mask)


@device
def project_lanes(x, w, VECTOR: tl.constexpr, VECTOR_H: tl.constexpr, PRECISION: tl.constexpr):
    """(u, k) = x W of a tile x [ROWS, WIDTH], float32, with the columns of W in the order u0, k0, u1, k1, ...

    VECTOR and VECTOR_H are the numbers side by side in a lane, of x and of u and k.
    """
    p = product(x, w, VECTOR, x.dtype, PRECISION)
    u, k = tl.split(tl.reshape(p, (x.shape[0], p.shape[1] // 2, 2)))
    return restored(u, VECTOR_H, 1), restored(k, VECTOR_H, 1)


def padded_width(D: int) -> int:
    """The columns of a tile."""
    return max(LEAST_WIDTH, 1 << (D - 1).bit_length())


def vector(D: int, itemsize: int) -> int:
    """Numbers that a thread loads at once: 16 bytes, or its share of a row."""
    return min(16 // itemsize, padded_width(D) // 4)
