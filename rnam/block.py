"""`Block`: what a term's network is made of."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from rnam.functional import feed_forward
from rnam.gru import minGRU
from rnam.linear import Linear
from rnam.lstm import minLSTM

__all__ = ["CELLS", "Block", "CellName"]

CellName = Literal["mingru", "minlstm"]
Parameters = tuple[Tensor, Tensor]  # weight and bias
CELLS = {"mingru": minGRU, "minlstm": minLSTM}


class Block(nn.Module):
    """x + ff(x + cell(x)), ff = LayerNorm, Linear, ReLU, Linear; x (terms, batch, seq, dim), or, with the parameters of
    an embedding, its input (terms, batch, seq, in_dim)."""

    def __init__(
        self,
        terms: int,
        dim: int,
        cell: CellName,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.gru = CELLS[cell](terms, dim, device=device, dtype=dtype)  # whichever it is: checkpoints have this name
        self.ff = nn.Sequential(
            nn.LayerNorm(dim, device=device, dtype=dtype),
            Linear(terms, dim, dim, device=device, dtype=dtype, activation="relu"),
            nn.Identity(),  # in the place of the ReLU, which is in the layer: names in checkpoints count it
            Linear(terms, dim, dim, device=device, dtype=dtype),
        )

    def forward(self, x: Tensor, mask: Tensor | None, embedding: Parameters | None = None) -> Tensor:
        return self.step(x, None, mask, embedding)[0]

    def step(
        self, x: Tensor, hidden: Tensor | None, mask: Tensor | None, embedding: Parameters | None = None
    ) -> tuple[Tensor, Tensor]:
        """`forward` from a state (terms, batch, 1, dim), and the state after the last step."""
        h, hidden = self.gru(x, hidden, mask=mask, embedding=embedding)
        return self._feed_forward(x, h, embedding), hidden

    def at_the_end(self, x: Tensor, last: Tensor, mask: Tensor | None, embedding: Parameters | None = None) -> Tensor:
        """What `forward` gives at the last observed step, where x is `last` (terms, batch, 1, dim): only the recurrence
        takes all steps, and what follows it takes one."""
        _, h_last = self.gru(x, mask=mask, need_output=False, embedding=embedding)
        return self._feed_forward(last, h_last.to(last.dtype), embedding)

    def _feed_forward(self, x: Tensor, h: Tensor, embedding: Parameters | None) -> Tensor:
        norm, first, _, second = self.ff
        given = [getattr(layer, name) for layer in (norm, first, second) for name in ("weight", "bias")]
        return feed_forward(x, h, *given, embedding=embedding)
