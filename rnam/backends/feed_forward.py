"""What follows the cell in a residual block: `rnam::feed_forward` on the kernels, `rnam::blocked_feed_forward` in
blocks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from rnam import reference
from rnam.backends import choice
from rnam.backends.calls import Embedding, FeedForward, pack, unpack, widen
from rnam.backends.cells import BLOCKS, KERNELS, Launchers
from rnam.backends.linear import grouped_linear
from rnam.backends.operator import Maybe, Operator, Tensors

__all__ = ["PackedFeedForward", "Residual", "feed_forward", "keeps_embedding", "packed_formula"]


class Residual(NamedTuple):
    """input (terms, rows, dim) or, to be embedded, (terms, rows, in_dim); parameters as `pack` lays them; update
    (terms, rows, dim)."""

    input: Tensor
    parameters: Tensor
    update: Tensor


class PackedFeedForward(Operator[Residual]):
    """input + Linear(relu(Linear(LayerNorm(input + update)))) of every term."""

    record = Residual
    outputs = 1
    saved = None

    def __init__(self, name: str, launchers: Launchers) -> None:
        self.launchers = launchers
        super().__init__(name)

    def launch(self, call: Residual) -> Tensors:
        return (self.launchers.module.feed_forward_forward(*call),)

    def launch_backward(
        self, call: Residual, saved: Maybe, grads: tuple[Maybe, Maybe], needs: tuple[bool, ...]
    ) -> tuple[Maybe, ...]:
        found: tuple[Maybe, ...] = self.launchers.module.feed_forward_backward(*call, grads[0], needs=needs)
        return found

    def fake(self, call: Residual) -> Tensors:
        return (torch.empty_like(call.update, memory_format=torch.contiguous_format),)

    def formula(self, call: Residual) -> Tensors:
        return (packed_formula(*call),)

    def flops(self, call: Residual) -> int:
        parameters, embedding = unpack(call.parameters, call.update.shape[2])
        return linear_flops(call.update.shape[1], parameters, embedding)

    def flops_backward(self, call: Residual, needs: tuple[bool, ...]) -> int:
        """Those of the sums that the weights read are there whatever is needed."""
        return self.flops(call) * (1 + needs[1])


_OPERATORS = {
    "triton": PackedFeedForward("feed_forward", KERNELS),
    "torch": PackedFeedForward("blocked_feed_forward", BLOCKS),
}


def feed_forward(input: Tensor, update: Tensor, parameters: FeedForward, embedding: Embedding | None) -> Tensor:
    """`rnam.functional.feed_forward` by the backend that is chosen."""
    path, dim = choice.path_of(input), update.shape[-1]
    if path == "reference":
        return reference.feed_forward(input, update, parameters, embedding)
    operator = _OPERATORS[path]
    if embedding is not None and not operator.launchers.module.feed_forward_keeps_embedding(input.shape[-1], dim):
        input, embedding = grouped_linear(input, *embedding, None), None
    if operator.launchers.module.feed_forward_is_fused(dim):
        packed = pack(parameters, embedding)
        (y,) = operator(Residual(input.flatten(1, -2), packed, update.flatten(1, -2)))
        return y.reshape(update.shape)
    x = widen(input)
    scale, shift = parameters.norm_weight.to(x.dtype), parameters.norm_bias.to(x.dtype)
    n = layer_norm(x + update, (dim,), scale, shift, reference.NORM_EPS).to(input.dtype)
    a = grouped_linear(n, parameters.weight1, parameters.bias1, "relu")
    return input + grouped_linear(a, parameters.weight2, parameters.bias2, None)


def keeps_embedding(input: Tensor, in_dim: int, dim: int) -> bool:
    """Whether functions of input save something when they are given an embedding. The reference computes it each
    time."""
    path = choice.path_of(input)
    if path == "reference":
        return False
    return bool(_OPERATORS[path].launchers.module.feed_forward_keeps_embedding(in_dim, dim))


def linear_flops(rows: int, parameters: FeedForward, embedding: Embedding | None) -> int:
    """Of the products with the weights, for so many rows of each term."""
    weights = [parameters.weight1, parameters.weight2, *(embedding or ())[:1]]
    return sum(2 * rows * weight.numel() for weight in weights)


def packed_formula(input: Tensor, packed: Tensor, update: Tensor) -> Tensor:
    """The reference, from parameters that are packed."""
    return reference.feed_forward(input, update, *unpack(packed, update.shape[-1]))
