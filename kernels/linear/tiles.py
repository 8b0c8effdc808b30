"""Tiles of the grouped linear kernels: the weight, rows of the input and their product. Up to BROADCAST_D inputs are
read number by number."""

import triton.language as tl

from ..common.device import device
from ..common.tiles import multiply
from .config import BROADCAST_MAX_D

BROADCAST_D = tl.constexpr(BROADCAST_MAX_D)


@device
def load_weight(
    w_ptr, D: tl.constexpr, H: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, DTYPE: tl.constexpr
):
    """W rounded to the type of x and padded with zeros: a tile [BLOCK_D, BLOCK_H], or D rows [BLOCK_H] of float32."""
    h = tl.arange(0, BLOCK_H)
    if D <= BROADCAST_D:
        w = ()
        for d in tl.static_range(D):
            w += (tl.load(w_ptr + d * H + h, mask=h < H, other=0.0).to(DTYPE).to(tl.float32),)
        return w
    else:
        d = tl.arange(0, BLOCK_D)[:, None]
        return tl.load(w_ptr + d * H + h[None, :], mask=(d < D) & (h < H)[None, :], other=0.0).to(DTYPE)


@device
def load_input(row_ptr, mask, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Rows of x: a tile [BLOCK_N, BLOCK_D], or D columns [BLOCK_N] of float32."""
    if D <= BROADCAST_D:
        x = ()
        for d in tl.static_range(D):
            x += (tl.load(row_ptr + d, mask=mask, other=0.0).to(tl.float32),)
        return x
    else:
        d = tl.arange(0, BLOCK_D)[None, :]
        return tl.load(row_ptr[:, None] + d, mask=mask[:, None] & (d < D), other=0.0)


@device
def product(x, w, D: tl.constexpr, PRECISION: tl.constexpr):
    """x W, float32."""
    if D <= BROADCAST_D:
        y = x[0][:, None] * w[0][None, :]
        if D == 2:
            y = tl.fma(x[1][:, None], w[1][None, :], y)
        return y
    else:
        return multiply(x, w, None, PRECISION)
