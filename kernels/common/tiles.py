"""Loads, stores, products and pieces of tiles that kernels of several folders share."""

import triton.language as tl

from .arithmetic import INTERPRETED, ROCM
from .device import device


@device
def multiply(a, b, acc, PRECISION: tl.constexpr):
    """acc + a b in float32. The interpreter would multiply the bits of bfloat16, so there the operands are widened
    first. ROCm has no products of three tf32 terms; three bfloat16 terms have as many digits, and take six products."""
    if INTERPRETED:
        a, b = a.to(tl.float32), b.to(tl.float32)
    if ROCM and PRECISION == "tf32x3":
        return tl.dot(a, b, acc, input_precision="bf16x6")
    else:
        return tl.dot(a, b, acc, input_precision=PRECISION)


@device
def own_layout(x):
    """The same tile; the layout that its user wants is not asked of the load of x.

    A load whose users want two layouts is left out of the software pipeline: x of a backward, which enters x W and, as
    its transpose, dW. The compiler's search stops at a reduction, and a sum over an axis of one is none at run time,
    but the tile passes through shared memory.
    """
    return tl.sum(x[:, :, None], 2)


@device
def load_existing(ptrs, mask):
    """A tile, 0 where (mask,) says that nothing exists; () says that all of it does. (No function of triton 3.6 gives
    None.)"""
    if len(mask) == 0:
        return tl.load(ptrs)
    else:
        return tl.load(ptrs, mask=mask[0], other=0.0)


@device
def store_existing(ptrs, x, mask):
    """Stores what exists of a tile, by a mask as that of `load_existing`."""
    x = x.to(ptrs.dtype.element_ty)
    if len(mask) == 0:
        tl.store(ptrs, x)
    else:
        tl.store(ptrs, x, mask=mask[0])


@device
def split_tile(x, TILES: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr):
    """The TILES tiles [ROWS, N] of which x [TILES * ROWS, N] consists, as a tuple."""
    if TILES == 1:
        return (x,)
    else:
        HALF: tl.constexpr = TILES // 2
        first, second = tl.split(tl.permute(tl.reshape(x, (2, HALF * ROWS, N)), (1, 2, 0)))
        return split_tile(first, HALF, ROWS, N) + split_tile(second, HALF, ROWS, N)


@device
def join_tile(tiles, TILES: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr):
    """The tile [TILES * ROWS, N] made of a tuple of tiles [ROWS, N]."""
    if TILES == 1:
        return tiles[0]
    else:
        HALF: tl.constexpr = TILES // 2
        both = tl.join(join_tile(tiles[:HALF], HALF, ROWS, N), join_tile(tiles[HALF:], HALF, ROWS, N))
        return tl.reshape(tl.permute(both, (2, 0, 1)), (TILES * ROWS, N))


@device
def add_lines(total, x):
    """total [8, N] plus every eighth row of x [ROWS, N]: those of one warp lie in one thread, after a product and after
    a load alike."""
    return total + tl.sum(tl.reshape(x, (x.shape[0] // 8, 8, x.shape[1])), 0)


@device
def last_row(x, ROWS: tl.constexpr):
    """x[ROWS - 1] of a tile [ROWS, n]. By selection, so a NaN or an infinity in another row stays there.

    A sum and not a maximum: tl.max drops a NaN.
    """
    is_last = (tl.arange(0, ROWS) == ROWS - 1)[:, None]
    return tl.sum(tl.where(is_last, x, 0.0), 0)
