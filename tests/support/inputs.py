"""Inputs of layers, made from a seed."""

from __future__ import annotations

import torch
from torch import Tensor


def layer_inputs(
    terms: int, batch: int, seq: int, dim: int, hidden: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """x (terms, batch, seq, dim), weight (terms, dim, 2 * hidden) and h0 (terms, batch, 1, hidden)."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    return (
        normal(terms, batch, seq, dim),
        normal(terms, dim, 2 * hidden) / dim**0.5,
        normal(terms, batch, 1, hidden),
    )


def away_from_the_kink(x: Tensor, weight: Tensor, margin: float = 1e-3) -> Tensor:
    """x, scaled row by row until no |u| is within `margin` of 0.

    g has slopes 1/4 and 1 at u = 0, so two correct implementations that round u differently disagree there
    and so does a finite difference; tests of gradients keep away from it.
    """
    w = weight[..., : weight.shape[-1] // 2]
    for _ in range(200):
        near = (torch.einsum("fbtd,fdh->fbth", x, w).abs() < margin).any(-1, keepdim=True)
        if not near.any():
            return x
        x = torch.where(near, x * 1.37, x)
    raise AssertionError("the inputs stay near the kink")


def mask_and_reset(terms: int, batch: int, seq: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A mask with about half the steps observed and a reset at about every fifth."""
    rng = torch.Generator().manual_seed(seed)
    return (
        torch.rand(terms, batch, seq, generator=rng) > 0.5,
        torch.rand(terms, batch, seq, generator=rng) < 0.2,
    )
