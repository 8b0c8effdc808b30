"""The flags of a step: what they mean, how the kernels read them, and what they do to its map."""

import torch
import triton
import triton.language as tl

from .arithmetic import NEG_INF
from .operands import strides

# Bits of a step code.
MASKED = tl.constexpr(1)


RESET = tl.constexpr(2)


# ---- step codes ----


@triton.jit
def load_codes(ptrs, exists):
    """Codes [ROWS] as int32, MASKED where a step does not exist.

    The sum over an axis of one keeps tl.dot right. For the layout of an operand the compiler (triton 3.7.1) takes the
    narrowest load that it depends on, the masks of other loads included, halved by a join. A byte there makes a thread
    hold 8 consecutive k, and with K = 16 the product is wrong (dx off by its own size). The search stops at a
    reduction.
    """
    return tl.sum(tl.load(ptrs, mask=exists, other=MASKED).to(tl.int32)[:, None], 1)


@triton.jit
def is_masked(code):
    """The step leaves the state as it was."""
    return (code & MASKED) != 0


@triton.jit
def is_reset(code):
    """The state before the step is zero. It acts before the mask: both together give h = 0."""
    return (code & RESET) != 0


@triton.jit
def coded_multiplier(a, masked, reset, LOG: tl.constexpr):
    """a at a plain step, 1 at a masked one, 0 at a reset."""
    if LOG:
        return tl.where(reset, NEG_INF, tl.where(masked, 0.0, a))
    else:
        return tl.where(reset, 0.0, tl.where(masked, 1.0, a))


@triton.jit
def coded_input(b, masked, LOG: tl.constexpr):
    """b at a plain step, 0 at a masked one."""
    if LOG:
        return tl.where(masked, NEG_INF, b)
    else:
        return tl.where(masked, 0.0, b)


def code_strides(codes: torch.Tensor | None, F: int, B: int, T: int) -> tuple[int, int, int]:
    """Strides of codes [F, B, T] in bytes, 0 along a dimension of size 1: it is broadcast, never expanded."""
    if codes is None:
        return 0, 0, 0
    if codes.dtype != torch.uint8:
        raise TypeError(f"codes: expected uint8, got {codes.dtype}")
    if codes.ndim != 3 or any(n not in (1, m) for n, m in zip(codes.shape, (F, B, T), strict=True)):
        raise ValueError(f"codes: expected a shape that broadcasts to {(F, B, T)}, got {tuple(codes.shape)}")
    return strides(codes, 3)


def observed(x: torch.Tensor, codes: torch.Tensor | None) -> torch.Tensor:
    """x [F, B, T, D] with 0, by selection, in its masked rows: NaN there must not reach a product, 0 * NaN in dW
    included."""
    return x if codes is None else torch.where(((codes & MASKED.value) != 0).unsqueeze(-1), x.new_zeros(()), x)
