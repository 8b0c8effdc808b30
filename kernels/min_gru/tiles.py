"""Loads, stores and products of the fused kernels: a projection x [ROWS, D] -> (u, k) [ROWS, H] and its adjoint.

The weight W [D, 2H] holds the hidden columns first, then the gate columns. It sits in registers or shared memory for
the whole program, in one of three shapes, and so does its gradient:

A weight [D + 1, 2H] has a bias as its last row. That is added to u and k in float32 and not rounded.

    D <= 2         two rows [BLOCK_H] of float32 per input: a broadcast multiply; tl.dot would pad D to 16
    BLOCK_H < 64   one tile of columns u0, k0, u1, k1, ...: one dot for u and k, and tl.split stays in its registers
    else           two tiles and two dots: joining du and dk for one dot crashes the compiler (triton 3.6 to 3.9, in
                   float32 with 4 warps)
"""

import triton.language as tl

from ..common.device import device
from ..common.tiles import add_lines, multiply, own_layout


@device
def interleaved(BLOCK_H: tl.constexpr, H: tl.constexpr):
    """Columns of W in the order u0, k0, u1, k1, ... and which of them exist."""
    n = tl.arange(0, 2 * BLOCK_H)
    return n // 2 + (n % 2) * H, n // 2 < H


@device
def load_weight(
    w_ptr, D: tl.constexpr, H: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, DTYPE: tl.constexpr
):
    """W of one layer rounded to DTYPE, padded with zeros."""
    h = tl.arange(0, BLOCK_H)
    w = ()
    if D <= 2:
        for d in tl.static_range(D):
            w += (tl.load(w_ptr + 2 * d * H + h, mask=h < H, other=0.0).to(DTYPE).to(tl.float32),)
            w += (tl.load(w_ptr + 2 * d * H + H + h, mask=h < H, other=0.0).to(DTYPE).to(tl.float32),)
    elif BLOCK_H < 64:
        w += (load_weight_tile(w_ptr, D, H, BLOCK_D, BLOCK_H, DTYPE),)
    else:
        d = tl.arange(0, BLOCK_D)[:, None]
        w += (tl.load(w_ptr + d * (2 * H) + h[None, :], mask=(d < D) & (h < H)[None, :], other=0.0).to(DTYPE),)
        w += (tl.load(w_ptr + d * (2 * H) + H + h[None, :], mask=(d < D) & (h < H)[None, :], other=0.0).to(DTYPE),)
    return w


@device
def load_bias(w_ptr, D: tl.constexpr, H: tl.constexpr, BLOCK_H: tl.constexpr, HAS_BIAS: tl.constexpr):
    """(b_u, b_k) [BLOCK_H] of one layer in float32, the row after the D rows of W; () without a bias."""
    if HAS_BIAS:
        h = tl.arange(0, BLOCK_H)
        b_u = tl.load(w_ptr + 2 * D * H + h, mask=h < H, other=0.0).to(tl.float32)
        b_k = tl.load(w_ptr + 2 * D * H + H + h, mask=h < H, other=0.0).to(tl.float32)
        return b_u, b_k
    else:
        return ()


@device
def add_bias(u, k, bias):
    """(u, k) plus a bias of `load_bias`."""
    if len(bias) > 0:
        return u + bias[0][None, :], k + bias[1][None, :]
    else:
        return u, k


@device
def load_weight_tile(
    w_ptr, D: tl.constexpr, H: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, DTYPE: tl.constexpr
):
    """W [D, 2H] of one layer rounded to DTYPE, [BLOCK_D, 2 BLOCK_H] with interleaved columns."""
    d = tl.arange(0, BLOCK_D)[:, None]
    n, exists = interleaved(BLOCK_H, H)
    return tl.load(w_ptr + d * (2 * H) + n[None, :], mask=(d < D) & exists[None, :], other=0.0).to(DTYPE)


@device
def input_pointers(row_ptrs, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Pointers (or offsets) of rows of D numbers: [ROWS, BLOCK_D], or [ROWS] where the D <= 2 columns are read one by
    one."""
    if D <= 2:
        return row_ptrs
    else:
        return row_ptrs[:, None] + tl.arange(0, BLOCK_D)[None, :]


@device
def load_input(ptrs, read, D: tl.constexpr, BLOCK_D: tl.constexpr, MASK_ROWS: tl.constexpr):
    """Rows of x as a tile, or as a tuple of D columns; zero where not `read`, by selection, so a NaN there stays
    out."""
    if D <= 2:
        x = ()
        for d in tl.static_range(D):
            if MASK_ROWS:
                x += (tl.load(ptrs + d, mask=read, other=0.0).to(tl.float32),)
            else:
                x += (tl.load(ptrs + d).to(tl.float32),)
        return x
    else:
        return load_tile(ptrs, read, D, BLOCK_D, MASK_ROWS)


@device
def load_rows(ptrs, read, N: tl.constexpr, BLOCK_N: tl.constexpr, MASK_ROWS: tl.constexpr):
    """A float32 tile [ROWS, BLOCK_N] of rows of N numbers, zero where it does not exist or is not `read`."""
    return load_tile(ptrs, read, N, BLOCK_N, MASK_ROWS).to(tl.float32)


@device
def load_wide_rows(ptrs, read, N: tl.constexpr, BLOCK_N: tl.constexpr, MASK_ROWS: tl.constexpr, WIDE: tl.constexpr):
    """`load_tile`, with WIDE in accesses of 16 bytes although what becomes of the tile enters a product.

    The compiler gives such a load the layout of the operand behind it: in half precision 4 numbers, 8 bytes, per
    thread.
    """
    x = load_tile(ptrs, read, N, BLOCK_N, MASK_ROWS)
    if WIDE:
        x = own_layout(x)
    return x


@device
def load_transposed(ptrs, read, N: tl.constexpr, BLOCK_N: tl.constexpr, MASK_ROWS: tl.constexpr):
    """The transpose [BLOCK_N, ROWS] of `load_tile`."""
    n = tl.arange(0, BLOCK_N)[:, None]
    ptrs = tl.trans(ptrs)
    if MASK_ROWS:
        return tl.load(ptrs, mask=read[None, :] & (n < N), other=0.0)
    elif N < BLOCK_N:
        return tl.load(ptrs, mask=n < N, other=0.0)
    else:
        return tl.load(ptrs)


@device
def load_tile(ptrs, read, N: tl.constexpr, BLOCK_N: tl.constexpr, MASK_ROWS: tl.constexpr):
    """A tile [ROWS, BLOCK_N] of rows of N numbers; zero in padding, and with MASK_ROWS in rows that are not `read`."""
    n = tl.arange(0, BLOCK_N)[None, :]
    if MASK_ROWS:
        return tl.load(ptrs, mask=read[:, None] & (n < N), other=0.0)
    elif N < BLOCK_N:
        return tl.load(ptrs, mask=n < N, other=0.0)
    else:
        return tl.load(ptrs)


@device
def store_rows(ptrs, x, write, N: tl.constexpr, BLOCK_N: tl.constexpr, MASK_ROWS: tl.constexpr):
    """Stores what exists of a tile [ROWS, BLOCK_N], with MASK_ROWS only the rows to `write`."""
    n = tl.arange(0, BLOCK_N)[None, :]
    x = x.to(ptrs.dtype.element_ty)
    if MASK_ROWS:
        tl.store(ptrs, x, mask=write[:, None] & (n < N))
    elif N < BLOCK_N:
        tl.store(ptrs, x, mask=n < N)
    else:
        tl.store(ptrs, x)


@device
def project(x, w, bias, D: tl.constexpr, ROWS: tl.constexpr, BLOCK_H: tl.constexpr, PRECISION: tl.constexpr):
    """(u, k) = x W + bias, float32."""
    if D <= 2:
        u = x[0][:, None] * w[0][None, :]
        k = x[0][:, None] * w[1][None, :]
        if D == 2:
            u = tl.fma(x[1][:, None], w[2][None, :], u)
            k = tl.fma(x[1][:, None], w[3][None, :], k)
    elif BLOCK_H < 64:
        u, k = tl.split(tl.reshape(multiply(x, w[0], None, PRECISION), (ROWS, BLOCK_H, 2)))
    else:
        u, k = multiply(x, w[0], None, PRECISION), multiply(x, w[1], None, PRECISION)
    return add_bias(u, k, bias)


@device
def zero_weight_gradient(D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr):
    """The float32 accumulators of `add_weight_gradient`, one per entry of the weight."""
    dw = ()
    if D <= 2:
        for _ in tl.static_range(2 * D):
            dw += (tl.zeros((ROWS, BLOCK_H), tl.float32),)
    elif BLOCK_H < 64:
        dw += (tl.zeros((BLOCK_D, 2 * BLOCK_H), tl.float32),)
    else:
        dw += (tl.zeros((BLOCK_D, BLOCK_H), tl.float32), tl.zeros((BLOCK_D, BLOCK_H), tl.float32))
    return dw


@device
def pack_gradient(du, dk, D: tl.constexpr, ROWS: tl.constexpr, BLOCK_H: tl.constexpr, DTYPE: tl.constexpr):
    """(du, dk) as the operands of the products of the backward: rounded to DTYPE, in the column order of the weight."""
    if D <= 2:
        return du, dk
    elif BLOCK_H < 64:
        return (tl.reshape(tl.join(du, dk), (ROWS, 2 * BLOCK_H)).to(DTYPE),)
    else:
        return du.to(DTYPE), dk.to(DTYPE)


@device
def add_weight_gradient(
    dw, x, dp,
    D: tl.constexpr, STEPS: tl.constexpr, ROWS: tl.constexpr, BLOCK_H: tl.constexpr, PRECISION: tl.constexpr,
    TRANSPOSED: tl.constexpr,
):  # fmt: skip
    """dw + x^T (du | dk), where x is TRANSPOSED already or not; for D <= 2 the sum over the rows is left to
    `store_weight_gradient`."""
    if D <= 2:
        sums = ()
        for i in tl.static_range(2 * D):
            steps = tl.reshape(x[i // 2][:, None] * dp[i % 2], (STEPS, ROWS, BLOCK_H))
            sums += (dw[i] + tl.sum(steps, 0),)
        return sums
    elif TRANSPOSED:
        return (multiply(x, dp[0], dw[0], PRECISION),)
    elif BLOCK_H < 64:
        return (multiply(tl.trans(own_layout(x)), dp[0], dw[0], PRECISION),)
    else:
        return (
            multiply(tl.trans(x), dp[0], dw[0], PRECISION),
            multiply(tl.trans(x), dp[1], dw[1], PRECISION),
        )


@device
def zero_bias_gradient(BLOCK_H: tl.constexpr, HAS_BIAS: tl.constexpr):
    """The float32 accumulators of `add_bias_gradient`; () without a bias."""
    if HAS_BIAS:
        return tl.zeros((8, BLOCK_H), tl.float32), tl.zeros((8, BLOCK_H), tl.float32)
    else:
        return ()


@device
def add_bias_gradient(db, du, dk):
    """db plus the rows of du and dk; what is left to sum is left to `store_bias_gradient`."""
    if len(db) > 0:
        return add_lines(db[0], du), add_lines(db[1], dk)
    else:
        return ()


@device
def store_bias_gradient(dw_ptr, db, D: tl.constexpr, H: tl.constexpr, BLOCK_H: tl.constexpr):
    """The last row of one partial [D + 1, 2H] of dW, float32."""
    h = tl.arange(0, BLOCK_H)
    tl.store(dw_ptr + 2 * D * H + h, tl.sum(db[0], 0), mask=h < H)
    tl.store(dw_ptr + 2 * D * H + H + h, tl.sum(db[1], 0), mask=h < H)


@device
def store_input_gradient(
    ptrs, direct, dp, w, write,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, PRECISION: tl.constexpr, MASK_ROWS: tl.constexpr,
):  # fmt: skip
    """dx = (du | dk) W^T, plus the rows at each of the pointers `direct`."""
    if D <= 2:
        for d in tl.static_range(D):
            dx = tl.sum(tl.fma(dp[0], w[2 * d][None, :], dp[1] * w[2 * d + 1][None, :]), 1)
            for i in tl.static_range(len(direct)):
                dx += load_input(direct[i] + d, write, 1, BLOCK_D, MASK_ROWS)[0]
            dx = dx.to(ptrs.dtype.element_ty)
            if MASK_ROWS:
                tl.store(ptrs + d, dx, mask=write)
            else:
                tl.store(ptrs + d, dx)
    else:
        dx = multiply(dp[0], tl.trans(w[0]), None, PRECISION)
        if BLOCK_H >= 64:
            dx = multiply(dp[1], tl.trans(w[1]), dx, PRECISION)
        for i in tl.static_range(len(direct)):
            dx += load_rows(direct[i], write, D, BLOCK_D, MASK_ROWS)
        store_rows(ptrs, dx, write, D, BLOCK_D, MASK_ROWS)


@device
def store_weight_gradient(dw_ptr, dw, D: tl.constexpr, H: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr):
    """One partial of dW, float32: its first D rows."""
    h = tl.arange(0, BLOCK_H)
    if D <= 2:
        for d in tl.static_range(D):
            tl.store(dw_ptr + 2 * d * H + h, tl.sum(dw[2 * d], 0), mask=h < H)
            tl.store(dw_ptr + 2 * d * H + H + h, tl.sum(dw[2 * d + 1], 0), mask=h < H)
    else:
        d = tl.arange(0, BLOCK_D)[:, None]
        if BLOCK_H < 64:
            n, exists = interleaved(BLOCK_H, H)
            tl.store(dw_ptr + d * (2 * H) + n[None, :], dw[0], mask=(d < D) & exists[None, :])
        else:
            tl.store(dw_ptr + d * (2 * H) + h[None, :], dw[0], mask=(d < D) & (h < H)[None, :])
            tl.store(dw_ptr + d * (2 * H) + H + h[None, :], dw[1], mask=(d < D) & (h < H)[None, :])
