"""The pre-activations of a block, from its input and the weight; or the input itself, where it holds them already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rnam.backends.blocks.plan import Workspace
from rnam.backends.blocks.products import Product, Sum
from rnam.backends.calls import Recurrence, widen

if TYPE_CHECKING:
    from rnam.backends.cells import Cell


def projection(call: Recurrence, cell: Cell) -> Projection | Given:
    return Given(call, cell) if call.weight is None else Projection(call, call.weight, cell)


class Projection:
    """One product for each pre-activation. `like` has the dtype of the sums, `hidden` is their width. The input of a
    weight with a row of bias has a column of ones."""

    def __init__(self, call: Recurrence, weight: Tensor, cell: Cell) -> None:
        # rounded to the dtype of the input, and widened to that of the sums; a bias is not rounded
        split = call.without_bias_row()
        rounded = widen(weight[:, : call.input.shape[3]].to(call.input.dtype))
        whole = rounded if split.bias is None else torch.cat([rounded, split.bias.to(rounded.dtype)], dim=1)
        weights = whole.chunk(cell.num_preacts, dim=2)
        self.like, self.hidden, self.dtype = weights[0], weights[0].shape[2], weight.dtype
        self.rounded, self.weights = rounded.chunk(cell.num_preacts, dim=2), weights
        self.products = [Product(w) for w in weights]

    def prepare_backward(self, need_weight: bool) -> None:
        self.back = [Product(w.transpose(1, 2)) for w in self.rounded]
        self.sums = [Sum(w) for w in self.weights] if need_weight else []

    def forward(self, xs: Tensor, terms: slice, buffers: Workspace) -> list[Tensor]:
        """The pre-activations of the block xs, in memory of their own."""
        outs = [buffers(f"preact {n}", xs, self.hidden) for n in range(len(self.products))]
        for product, out in zip(self.products, outs, strict=True):
            product(xs, terms, out)
        return outs

    def add_to_weight(self, xs: Tensor, gradients: list[Tensor], terms: slice) -> None:
        for total, g in zip(self.sums, gradients, strict=True):
            total(xs, g, terms)

    def input_gradient(self, gradients: list[Tensor], terms: slice, out: Tensor) -> None:
        """Write that of the block's input to `out`."""
        for n, (product, g) in enumerate(zip(self.back, gradients, strict=True)):
            product(g, terms, out, add=n > 0)

    def weight_gradient(self) -> Tensor | None:
        return torch.cat([s.total for s in self.sums], dim=2).to(self.dtype) if self.sums else None


class Given:
    """The same interface for an input that holds the pre-activations, one after the other."""

    def __init__(self, call: Recurrence, cell: Cell) -> None:
        self.like = widen(call.input.new_empty(0))
        self.hidden = call.input.shape[3] // cell.num_preacts

    def prepare_backward(self, need_weight: bool) -> None:
        pass

    def forward(self, xs: Tensor, terms: slice, buffers: Workspace) -> list[Tensor]:
        parts = torch.split(xs, self.hidden, dim=-1)
        return [buffers(f"preact {n}", xs, self.hidden).copy_(part) for n, part in enumerate(parts)]

    def add_to_weight(self, xs: Tensor, gradients: list[Tensor], terms: slice) -> None:
        pass

    def input_gradient(self, gradients: list[Tensor], terms: slice, out: Tensor) -> None:
        torch.cat(gradients, dim=-1, out=out)

    def weight_gradient(self) -> None:
        return None
