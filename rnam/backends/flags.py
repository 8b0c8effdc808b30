"""Masks and resets as one byte a step.

The bits are defined here, and blocks and tests read them. The kernels import nothing of rnam: they have two constants
of their own, and a test holds these to the bits here.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["MASKED", "RESET", "decode", "encode", "forget"]

MASKED = 1  # the step leaves the state as it was, and its input is not read
RESET = 2  # the state before the step is 0; a reset acts before a mask


def encode(mask: Tensor | None, reset: Tensor | None) -> Tensor | None:
    """Flags of a mask (True = observed) and resets: uint8, three dimensions of the full size or 1; None of neither."""
    flags: Tensor | None = None
    if mask is not None:
        flags = (~mask).view(torch.uint8)  # True is MASKED
    if reset is not None:
        bits = reset.view(torch.uint8) * RESET
        flags = bits if flags is None else flags | bits
    return None if flags is None else flags[(None,) * (3 - flags.dim())]


def decode(flags: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """(mask, reset) of flags, bool, of their shape."""
    return (None, None) if flags is None else ((flags & MASKED) == 0, (flags & RESET) != 0)


def forget(h0: Tensor, reset: Tensor, input: Tensor) -> Tensor:
    """h0, or 0 in the rows of input whose first step is a reset: by selection, since 0 * inf would be NaN."""
    if input.shape[2] == 0:
        return h0
    return torch.where(reset.expand(input.shape[:3])[:, :, :1, None], 0, h0)
