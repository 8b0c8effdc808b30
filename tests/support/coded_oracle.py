"""The oracle as the kernels' tests call it: steps are known by their codes, one byte each."""

from torch import Tensor

from tests.support import oracle

MASKED, RESET = 1, 2


def min_gru(x: Tensor, weight: Tensor, h0: Tensor | None = None, codes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(h [F, B, T, H], h_last [F, B, 1, H]) in the dtype of x [F, B, T, D], differentiable."""
    masked = reset = None
    if codes is not None:
        masked, reset = (codes & MASKED) != 0, (codes & RESET) != 0
    return oracle.min_gru(x, weight, h0, None if masked is None else ~masked, reset, dtype=x.dtype)
