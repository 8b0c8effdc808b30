"""Loads, stores, products and pieces of tiles."""

import triton
import triton.language as tl

from .arithmetic import INTERPRETED


@triton.jit
def multiply(a, b, acc, PRECISION: tl.constexpr):
    """acc + a b in float32. The interpreter would multiply the bits of bfloat16, so there the operands are widened
    first."""
    if INTERPRETED:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def load_lines(ptrs, exists):
    """A tile, 0 where nothing exists by `line_mask`."""
    if len(exists) == 0:
        return tl.load(ptrs)
    else:
        return tl.load(ptrs, mask=exists[0], other=0.0)


@triton.jit
def store_lines(ptrs, x, exists):
    """Stores what exists of a tile by `line_mask`."""
    x = x.to(ptrs.dtype.element_ty)
    if len(exists) == 0:
        tl.store(ptrs, x)
    else:
        tl.store(ptrs, x, mask=exists[0])


@triton.jit
def split_tile(x, PARTS: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr):
    """The PARTS tiles [ROWS, N] of which x [PARTS * ROWS, N] consists, as a tuple."""
    if PARTS == 1:
        return (x,)
    else:
        HALF: tl.constexpr = PARTS // 2
        first, second = tl.split(tl.permute(tl.reshape(x, (2, HALF * ROWS, N)), (1, 2, 0)))
        return split_tile(first, HALF, ROWS, N) + split_tile(second, HALF, ROWS, N)


@triton.jit
def join_tile(parts, PARTS: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr):
    """The tile [PARTS * ROWS, N] made of a tuple of tiles [ROWS, N]."""
    if PARTS == 1:
        return parts[0]
    else:
        HALF: tl.constexpr = PARTS // 2
        both = tl.join(join_tile(parts[:HALF], HALF, ROWS, N), join_tile(parts[HALF:], HALF, ROWS, N))
        return tl.reshape(tl.permute(both, (2, 0, 1)), (PARTS * ROWS, N))


@triton.jit
def last_row(x, ROWS: tl.constexpr):
    """x[ROWS - 1] of a tile [ROWS, n]. By selection, so a NaN or an infinity in another row stays there.

    A sum and not a maximum: tl.max drops a NaN.
    """
    is_last = (tl.arange(0, ROWS) == ROWS - 1)[:, None]
    return tl.sum(tl.where(is_last, x, 0.0), 0)
