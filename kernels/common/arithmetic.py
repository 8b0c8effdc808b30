"""Constants and elementary functions on tiles, in few instructions."""

import torch
import triton
import triton.language as tl

from .device import device

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
INF = tl.constexpr(float("inf"))
NEG_INF = tl.constexpr(float("-inf"))

# 2^126 is the largest power of two whose reciprocal is a normal number, and rcp.approx.ftz flushes the others to zero.
MAX_EXPONENT = tl.constexpr(126.0)

# The interpreter has no inline assembly. It is chosen for the whole process when triton is imported, and so is this.
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)

# torch is built for one of CUDA and ROCm, and so is what it compiles. ROCm has no PTX.
ROCM = tl.constexpr(torch.version.hip is not None)


@device
def rcp(x):
    """1 / x to 1 ulp; subnormal results become 0. One MUFU instruction, where 1 / x is 8 instructions."""
    if INTERPRETED or ROCM:
        return 1.0 / x
    else:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )


@device
def log2(x):
    """log2(x) with absolute error 2^-22; log2(0) = -inf. One MUFU instruction, where tl.log2 is 27 instructions."""
    if INTERPRETED or ROCM:
        return tl.log2(x)
    else:
        return tl.inline_asm_elementwise(
            "lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )


@device
def log2_1p(e):
    """log2(1 + e) for e in [0, 1] to 2.1e-7 of itself: e times the polynomial of degree 8 of least relative error.

    A state that the gates hold for thousands of steps is the sum of as many of these numbers. `log2` of 1 + e is wrong
    by up to 2^-22 of 1, which adds up. The nine FFMA take as long as one MUFU instruction, in another pipe.
    """
    return e * log2_1p_ratio(e)


@device
def log2_1p_ratio(e):
    """log2(1 + e) / e for e in [0, 1], and log2(e) of Euler's e at 0: the polynomial of `log2_1p`."""
    q = tl.fma(e, 0.0075491685420274734, -0.04256700351834297)
    q = tl.fma(e, q, 0.11285609006881714)
    q = tl.fma(e, q, -0.197118878364563)
    q = tl.fma(e, q, 0.27564138174057007)
    q = tl.fma(e, q, -0.35840845108032227)
    q = tl.fma(e, q, 0.48069295287132263)
    q = tl.fma(e, q, -0.7213401794433594)
    return tl.fma(e, q, 1.4426950216293335)


@device
def one_minus_exp2_ratio(x):
    """(1 - 2^-x) / x for x in [0, 1] to 1e-7 of itself, and ln 2 at 0.

    Times x it is -expm1(-x ln 2) to 1.3e-7, where 1 - exp2(-x) cancels. On [0, 1] a polynomial of degree 4 is off by
    3.8e-7, this one of degree 5 by 9.4e-9 before its coefficients are rounded.
    """
    q = tl.fma(x, -0.00011458057269919664, 0.0012907800264656544)
    q = tl.fma(x, q, -0.009596276096999645)
    q = tl.fma(x, q, 0.05549895390868187)
    q = tl.fma(x, q, -0.24022606015205383)
    return tl.fma(x, q, 0.6931471824645996)


@device
def logaddexp2(x, y):
    """log2(2^x + 2^y). Guarded: equal infinities give that infinity, where the plain form gives NaN. NaN stays NaN."""
    top = tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)
    gap = tl.where(tl.abs(top) == INF, 0.0, tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL) - top)
    return top + log2_1p(tl.exp2(gap))


@device
def in_elements(stride, UNIT: tl.constexpr):
    """A stride that came in units of UNIT elements, as 64 bits: whatever its annotation, the interpreter gives an
    argument the bits it needs, and the product may need more."""
    return stride.to(tl.int64) * UNIT
