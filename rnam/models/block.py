"""`Block`: what a term's network is made of."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from rnam.functional import feed_forward, min_gru_block
from rnam.gru import Cell, has_hooks, minGRU, minLSTM
from rnam.linear import Linear

__all__ = ["CELLS", "Block", "CellName"]

CellName = Literal["mingru", "minlstm"]
Parameters = tuple[Tensor, Tensor]  # weight and bias
CELLS: dict[str, type[Cell]] = {cell.cell: cell for cell in (minGRU, minLSTM)}


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
        if self._is_plain():
            weight = self.gru.to_hidden_and_gate.weight
            return min_gru_block(x, weight, *self._parameters_after(), hidden, mask=mask, embedding=embedding)
        h, hidden = self.gru(x, hidden, mask=mask, embedding=embedding)
        return feed_forward(x, h, *self._parameters_after(), embedding=embedding), hidden

    def at_the_end(self, x: Tensor, last: Tensor, mask: Tensor | None, embedding: Parameters | None = None) -> Tensor:
        """What `forward` gives at the last observed step, where x is `last` (terms, batch, 1, dim): only the recurrence
        takes all steps, and what follows it takes one."""
        _, h_last = self.gru(x, mask=mask, need_output=False, embedding=embedding)
        return feed_forward(last, h_last.to(last.dtype), *self._parameters_after(), embedding=embedding)

    def _is_plain(self) -> bool:
        """Whether one function may compute the whole block: its cell is a minGRU, and no hook waits for it."""
        cell = self.gru
        return type(cell) is minGRU and not has_hooks(cell)

    def _parameters_after(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The parameters of what follows the cell."""
        norm, first, _, second = cast("list[Linear]", self.ff)
        return norm.weight, norm.bias, first.weight, first.bias, second.weight, second.bias
