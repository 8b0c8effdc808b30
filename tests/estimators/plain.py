"""A linear additive model, inputs from arrays, and the training loop as it is written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnam.estimators.encoding import Inputs
from rnam.models.additive import Additive


class Line(nn.Module):
    """Contributions are columns times weights: (rows, columns) -> (rows, out_dim)."""

    def __init__(self, columns: int, out_dim: int = 1, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(columns, out_dim, dtype=dtype))
        self.gam = nn.Module()
        self.gam.bias = nn.Parameter(torch.zeros(out_dim, dtype=dtype))

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Additive:
        contributions = input.to(self.weight.dtype).T[..., None] * self.weight[:, None]
        return Additive(contributions.sum(0) + self.gam.bias, contributions)


def rows(values: Any) -> Inputs:
    """Inputs of a table (rows, columns)."""
    return sequences([row[None] for row in np.asarray(values)], flat=True)


def sequences(each: list[Any], flat: bool = False, masked: float = 0.0) -> Inputs:
    """Inputs of sequences (visits, columns), of which a share of the values is masked."""
    values = np.concatenate(each).astype(np.float32)
    mask = np.random.default_rng(0).random(values.shape) >= masked
    static = np.zeros((len(each), 0), np.float32)
    offsets = np.cumsum([0, *map(len, each)])
    return Inputs(np.where(mask, values, 0), mask, None, static, static.astype(bool), offsets, flat)


def by_hand(model: Line, input: Tensor, loss_of: Callable[[Tensor], Tensor], epochs: int, learning_rate: float) -> Line:
    """AdamW on the whole set with a one-cycle schedule, and no weight decay."""
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, epochs, cycle_momentum=False)
    for _ in range(epochs):
        optimizer.zero_grad()
        loss_of(model(input).prediction).backward()
        optimizer.step()
        cycle.step()
    return model
