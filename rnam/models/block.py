"""`Block`: what a term's network is made of."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from rnam._untouched import known, untouched, untouched_linear, watched
from rnam.backends.calls import Embedding, FeedForward
from rnam.functional import feed_forward, min_gru_block
from rnam.gru import Cell, minGRU, minLSTM
from rnam.linear import Linear
from rnam.reference import NORM_EPS

__all__ = ["CELLS", "Block", "CellName", "at_step"]

CellName = Literal["mingru", "minlstm"]
CELLS: dict[str, type[Cell]] = {cell.cell: cell for cell in (minGRU, minLSTM)}


@known
class Block(nn.Module):
    """y = x + ff(x + h), h the states of a cell that reads x; ff = LayerNorm, Linear, ReLU, Linear.

    Shape:
        x (terms, batch, seq, dim) -> y (terms, batch, seq, dim), and the state after the last step (terms, batch, 1,
        dim).
    """

    def __init__(
        self,
        terms: int,
        dim: int,
        cell: CellName,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        timescales: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        # whichever it is: checkpoints have this name
        self.gru = CELLS[cell](terms, dim, device=device, dtype=dtype, timescales=timescales)
        self.ff = nn.Sequential(
            nn.LayerNorm(dim, device=device, dtype=dtype),
            Linear(terms, dim, dim, device=device, dtype=dtype, activation="relu"),
            nn.Identity(),  # in the place of the ReLU, which is in the layer: names in checkpoints count it
            Linear(terms, dim, dim, device=device, dtype=dtype),
        )

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        hidden: Tensor | None = None,
        *,
        last: Tensor | int | None = None,
        embedding: Embedding | None = None,
        elapsed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run over a sequence, from a state.

        Args:
            x: (terms, batch, seq, dim).
            mask: bool (terms, batch, seq), True = observed, or None. At a masked step x does not reach the state.
            hidden: the state before the first step, (terms, batch, 1, dim), or None for 0.
            last: the last observed step of each row (terms, batch, 1, 1), or -1 for the last of all, where that is all
                that is read; y then has that one step. Only the recurrence takes all steps.
            embedding: weight and bias of a linear layer that x (terms, batch, seq, in_dim) goes through first.
            elapsed: the time since the step before, broadcastable to (terms, batch, seq), or None for 1.
        """
        own: dict[str, Any] = {"embedding": embedding, "elapsed": elapsed}
        own = {name: value for name, value in own.items() if value is not None}  # another cell may have none of them
        feed = None if watched() else self._feed_forward()
        cell = feed is not None and untouched_cell(self.gru)
        if cell and last is None and type(self.gru) is minGRU and feed is not None:
            weight, bias = self.gru.to_hidden_and_gate.weight, self.gru.to_hidden_and_gate.bias
            return min_gru_block(x, weight, *feed, hidden, mask=mask, bias=bias, **own)
        if last is None:
            h, state = self.gru(x, hidden, mask=mask, **own)
        elif cell:
            _, state = self.gru(x, hidden, mask=mask, need_output=False, **own)
            x, h = at_step(x, last), state.to(x.dtype)  # masked steps after the last one hold the state
        else:
            h, state = self.gru(x, hidden, mask=mask, **own)
            x, h = at_step(x, last), at_step(h, last)
        if feed is not None:
            return feed_forward(x, h, *feed, embedding=embedding), state
        if embedding is not None:
            raise ValueError("embedding must be None where ff is called: it reads what comes out of the embedding")
        return x + self.ff(x + h), state

    def _feed_forward(self) -> FeedForward | None:
        """The parameters of ff, where it is as the constructor made it."""
        ff = self._modules["ff"]
        if ff is None or not untouched(ff, nn.Sequential) or len(ff._modules) != 4:
            return None
        norm, first, between, second = cast("list[nn.Module]", ff._modules.values())
        if not (
            untouched(norm, nn.LayerNorm)
            and norm.eps == NORM_EPS
            and len(norm.normalized_shape) == 1
            and untouched_linear(first, bias=True, activation="relu")
            and untouched(between, nn.Identity)
            and untouched_linear(second, bias=True)
        ):
            return None
        layers = norm._parameters, first._parameters, second._parameters
        parameters = [own.get(name) for own in layers for name in ("weight", "bias")]
        if parameters[0] is None or parameters[1] is None:
            return None
        return FeedForward(*cast("list[Tensor]", parameters))

    def keeps_embedding(self) -> bool:
        """Whether this block may be given an embedding in the place of its output: no module would see it."""
        return untouched(self, Block) and untouched_cell(self.gru) and self._feed_forward() is not None


def untouched_cell(module: nn.Module) -> bool:
    """Whether `module` is a cell as a block makes it."""
    return (
        (untouched(module, minGRU) or untouched(module, minLSTM))
        and untouched_linear(cast("nn.Module", module._modules["to_hidden_and_gate"]))
        and untouched(cast("nn.Module", module._modules["to_out"]), nn.Identity)
    )


def at_step(x: Tensor, step: Tensor | int) -> Tensor:
    """x (terms, batch, seq, dim) at one step for all, or at the step of each row, (terms, batch, 1, 1): (terms, batch,
    1, dim)."""
    if isinstance(step, int):
        return x[:, :, step, None]
    return x.gather(2, step.expand(-1, -1, 1, x.shape[-1]))
