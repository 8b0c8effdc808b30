"""The oracle as the kernels' tests call it: steps are known by their flags, one byte each."""

from torch import Tensor

from rnam.kernels.common.flags import MASKED, RESET
from tests.support import oracle

__all__ = ["MASKED", "RESET", "min_gru"]


def min_gru(x: Tensor, weight: Tensor, h0: Tensor | None = None, flags: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(h [F, B, T, H], h_last [F, B, 1, H]) in the dtype of x [F, B, T, D], differentiable."""
    masked = reset = None
    if flags is not None:
        masked, reset = (flags & MASKED) != 0, (flags & RESET) != 0
    return oracle.min_gru(x, weight, h0, None if masked is None else ~masked, reset, dtype=x.dtype)
