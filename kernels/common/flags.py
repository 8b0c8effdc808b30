"""The flags of a step, one byte: what its bits mean, how kernels read them and what they do to the map of the step."""

import torch
import triton.language as tl

from .arithmetic import NEG_INF
from .device import device

# The bits. A masked step leaves the state as it was, and its row of the input is not read. A reset makes the state
# before the step zero; it acts before the mask, so that both together give h = 0.
MASKED, RESET = 1, 2

MASKED_BIT = tl.constexpr(MASKED)
RESET_BIT = tl.constexpr(RESET)


@device
def load_flags(ptrs, exists):
    """Flags [ROWS] as int32, MASKED where a step does not exist.

    The sum over an axis of one keeps tl.dot right. For the layout of an operand the compiler (triton 3.7.1) takes the
    narrowest load that it depends on, the masks of other loads included, halved by a join. A byte there makes a thread
    hold 8 consecutive k, and with K = 16 the product is wrong (dx off by its own size). The search stops at a
    reduction.
    """
    return tl.sum(tl.load(ptrs, mask=exists, other=MASKED_BIT).to(tl.int32)[:, None], 1)


@device
def is_masked(flags):
    """True where the step leaves the state as it was."""
    return (flags & MASKED_BIT) != 0


@device
def is_reset(flags):
    """True where the state before the step is zero."""
    return (flags & RESET_BIT) != 0


@device
def flagged_multiplier(a, masked, reset, LOG: tl.constexpr):
    """a at a plain step, 1 at a masked one, 0 at a reset."""
    if LOG:
        return tl.where(reset, NEG_INF, tl.where(masked, 0.0, a))
    else:
        return tl.where(reset, 0.0, tl.where(masked, 1.0, a))


@device
def flagged_input(b, masked, LOG: tl.constexpr):
    """b at a plain step, 0 at a masked one."""
    if LOG:
        return tl.where(masked, NEG_INF, b)
    else:
        return tl.where(masked, 0.0, b)


def check_flags(flags: torch.Tensor | None, F: int, B: int, T: int) -> None:
    """Raises unless flags are bytes that broadcast to [F, B, T]. Kernels broadcast them by a stride of 0."""
    if flags is None:
        return
    if flags.dtype != torch.uint8:
        raise TypeError(f"flags: expected uint8, got {flags.dtype}")
    if flags.ndim != 3 or any(n not in (1, m) for n, m in zip(flags.shape, (F, B, T), strict=True)):
        raise ValueError(f"flags: expected a shape that broadcasts to {(F, B, T)}, got {tuple(flags.shape)}")


def observed(x: torch.Tensor, flags: torch.Tensor | None) -> torch.Tensor:
    """x [F, B, T, D] with 0, by selection, in its masked rows: NaN there must not reach a product, 0 * NaN in dW
    included."""
    return x if flags is None else torch.where(((flags & MASKED) != 0).unsqueeze(-1), x.new_zeros(()), x)
