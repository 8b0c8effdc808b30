"""The recurrent networks of an additive model: embedding, blocks and head, a network per term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rnam._untouched import untouched, watched
from rnam.backends.calls import Embedding as Embedded
from rnam.functional import keeps_embedding
from rnam.linear import Linear
from rnam.models.block import Block, CellName, at_step
from rnam.models.inputs import Embedding

__all__ = ["RecurrentNetworks"]


class RecurrentNetworks(nn.Module):
    """A network per term: Linear, `blocks` of x + ff(x + cell(x)), and Linear, ReLU, Linear.

    Args:
        widths: the number of inputs of each network at each step.
        hidden_dim, out_dim, blocks, cell, timescales, device, dtype: as `rnam.RNAM`.
        shared: whether the networks share LayerNorm's scale and shift, which else stay at 1 and 0.
    """

    def __init__(
        self,
        widths: Sequence[int],
        hidden_dim: int,
        out_dim: int,
        blocks: int,
        cell: CellName,
        timescales: tuple[float, float] | None,
        shared: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        terms = len(widths)
        self.emb = Embedding(widths, hidden_dim, device=device, dtype=dtype)
        self.blocks = nn.ModuleList(
            Block(terms, hidden_dim, cell, device=device, dtype=dtype, timescales=timescales) for _ in range(blocks)
        )
        if not shared:
            for block in self.blocks:
                block.get_submodule("ff.0").requires_grad_(False)
        self.proj = nn.Sequential(
            Linear(terms, hidden_dim, hidden_dim, device=device, dtype=dtype, activation="relu"),
            nn.Identity(),  # in the place of the ReLU, which is in the layer: names in checkpoints count it
            Linear(terms, hidden_dim, out_dim, device=device, dtype=dtype),
        )

    def run_networks(
        self,
        x: Tensor,
        observed: Tensor | None,
        hidden: Sequence[Tensor] | None,
        last: Tensor | int | None,
        elapsed: Tensor | None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The outputs of the networks at every step or at one, and the states of the blocks after the last step.

        Args:
            x: (terms, batch, seq, widest).
            observed: bool (terms, batch, seq), or None where all are.
            hidden: the states of the blocks before the first step, or None for 0.
            last: as in `Block.forward`: the step of each row that is read, or None for every step.
            elapsed: as in `Block.forward`.

        Returns:
            (terms, batch, seq, out_dim), or (terms, batch, 1, out_dim) with `last`; and a list of (terms, batch, 1,
            hidden_dim).
        """
        (x, embedding), states = self._embed(x), []
        for n in range(len(self.blocks)):
            own: dict[str, Any] = {} if embedding is None else {"embedding": embedding}
            if elapsed is not None:
                own["elapsed"] = elapsed
            at_end = last is not None and n == len(self.blocks) - 1
            cut = at_end and untouched(self.blocks[n], Block)  # any other module gives all steps
            if cut:
                own["last"] = last
            (x, state), embedding = self._block(n, x, observed, hidden, own), None
            if at_end and not cut and last is not None:
                x = at_step(x, last)
            states.append(state)
        return self.proj(x), states

    def _embed(self, x: Tensor) -> tuple[Tensor, Embedded | None]:
        """The input of the first block: x and the parameters of the embedding where the block has use for both, else
        the embedded x."""
        emb, first = self.emb, self.blocks[0]
        plain = untouched(emb, Embedding) and emb.bias is not None and emb.activation is None
        fused = plain and not watched() and isinstance(first, Block) and first.keeps_embedding()
        if fused and keeps_embedding(x, emb.weight):
            return x, (emb.weight, emb.bias)
        return emb(x), None

    def _block(
        self, n: int, x: Tensor, observed: Tensor | None, hidden: Sequence[Tensor] | None, options: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Calls a block, which may be another module, with what it needs to know: y and the state."""
        output = self.blocks[n](x, observed, *(() if hidden is None else (hidden[n],)), **options)
        if not isinstance(output, tuple) or len(output) != 2:
            raise TypeError(f"blocks[{n}] must give a pair (output, state), got {type(output).__name__}")
        return output

    def any_parameter(self) -> Tensor:
        """A parameter, whose dtype and device are those of the model."""
        weight = getattr(self.emb, "weight", None)  # to look for the first of all takes longer
        return weight if isinstance(weight, Tensor) else next(self.parameters())
