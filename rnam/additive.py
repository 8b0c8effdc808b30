"""What an additive model returns, and the sum that makes it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Additive", "Sum"]


class Additive(NamedTuple):
    """What an additive model returns. contributions.sum(0) + bias is prediction."""

    prediction: Tensor
    contributions: Tensor


class Sum(nn.Module):
    """The sum over terms, plus one bias (out_dim,) that starts at 0."""

    def __init__(
        self, out_dim: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(out_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.bias)

    def forward(self, contributions: Tensor) -> Tensor:
        return contributions.sum(0) + self.bias
