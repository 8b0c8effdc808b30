"""An additive model that is a table of numbers, and the loops that the arrays are held against."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from rnam.models.rnam import Additive


class Given(nn.Module):
    """Gives the contributions it was made with, ([members,] terms, batch, [seq,] out), whatever the input."""

    def __init__(self, contributions: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("parts", contributions)
        self.gam = nn.Module()
        self.gam.bias = nn.Parameter(bias)

    def forward(self, input: Tensor, *, return_sequence: bool = False) -> Additive:
        terms = self.parts.dim() - (4 if return_sequence else 3)
        shaped = self.gam.bias.reshape(*self.gam.bias.shape[:-1], *[1] * (2 if return_sequence else 1), -1)
        return Additive(self.parts.sum(terms) + shaped, self.parts)


def places(members: bool, time: bool, rng: np.random.Generator, out: int = 2) -> tuple[np.ndarray, ...]:
    """Contributions ([2,] 6, 3, [5,] out), weights and observed of their places; term 1 is rarely observed."""
    seq = (5,) if time else ()
    values = rng.normal(size=(*((2,) if members else ()), 6, 3, *seq, out))
    weight = rng.uniform(0.5, 2, size=(6, *seq))
    observed = rng.random((6, 3, *seq)) < np.array([0.9, 0.3, 0.6]).reshape(1, 3, *[1] * len(seq))
    observed[:3] = True
    return values, weight, observed


def each(values: np.ndarray, weight: np.ndarray, observed: np.ndarray, members: bool):
    """For each (member, term, output) its numbers and their weights, one by one, in plain Python."""
    stacked = values if members else values[None]
    if weight.ndim == 1:
        stacked, weight, observed = stacked[:, :, :, None], weight[:, None], observed[:, :, None]
    for m, f, k in np.ndindex(stacked.shape[0], stacked.shape[2], stacked.shape[-1]):
        pairs = [
            (stacked[m, b, f, t, k], weight[b, t])
            for b, t in np.ndindex(*weight.shape)
            if observed[b, f, t] and weight[b, t] > 0
        ]
        yield (m, f, k), pairs
