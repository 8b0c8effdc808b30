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
    q = tl.fma(e, 0.0075491685420274734, -0.04256700351834297)
    q = tl.fma(e, q, 0.11285609006881714)
    q = tl.fma(e, q, -0.197118878364563)
    q = tl.fma(e, q, 0.27564138174057007)
    q = tl.fma(e, q, -0.35840845108032227)
    q = tl.fma(e, q, 0.48069295287132263)
    q = tl.fma(e, q, -0.7213401794433594)
    q = tl.fma(e, q, 1.4426950216293335)
    return e * q


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
