"""A residual block around a minGRU: `rnam::min_gru_block`, one kernel up to a width. Elsewhere it is its two halves."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rnam import reference
from rnam.backends import choice
from rnam.backends.calls import FeedForward, Recurrence, pack, state_dtype, unpack, widen
from rnam.backends.cells import CELLS, KERNELS
from rnam.backends.feed_forward import feed_forward, linear_flops, packed_formula
from rnam.backends.linear import grouped_linear
from rnam.backends.min_gru import composed, recurrence, sum_to, with_bias_row
from rnam.backends.operator import Maybe, Operator, Tensors, learns

__all__ = ["MinGRUBlock", "PackedBlock", "block"]


class PackedBlock(NamedTuple):
    """input (terms, batch, seq, dim) or, to be embedded, (terms, batch, seq, in_dim); parameters (terms, rows, dim);
    h0, elapsed and flags as in `Recurrence`; need_h where the states are kept for the backward; bias_row where the
    weight has a row more than the input is wide, which it has of a bias and where it is composed with an embedding.

    The parameters are the weight of the minGRU, in 2 rows for each of its own, and then what `pack` gives.
    """

    input: Tensor
    parameters: Tensor
    h0: Tensor | None
    elapsed: Tensor | None
    flags: Tensor | None
    need_h: bool
    bias_row: bool

    def recurrence(self) -> tuple[Recurrence, Tensor]:
        """The call of the minGRU, and the parameters of the feed-forward; both are views."""
        inputs, dim = self.input.shape[3] + self.bias_row, self.parameters.shape[2]
        weight = self.parameters[:, : 2 * inputs].reshape(-1, inputs, 2 * dim)
        call = Recurrence(self.input, weight, self.h0, self.elapsed, self.flags, need_h=self.need_h)
        return call, self.parameters[:, 2 * inputs :].flatten(1)


class MinGRUBlock(Operator[PackedBlock]):
    """The output, the last state and, with need_h, the states; else these are empty."""

    record = PackedBlock
    outputs = 3
    saved = 2

    def launch(self, call: PackedBlock) -> Tensors:
        y, h, h_last = KERNELS.module.block_forward(*call.recurrence())
        return y, h_last, call.input.new_empty(0) if h is None else h

    def launch_backward(
        self, call: PackedBlock, saved: Maybe, grads: tuple[Maybe, Maybe], needs: tuple[bool, ...]
    ) -> tuple[Maybe, ...]:
        """Recomputes h where it was not kept."""
        if not call.need_h:
            _, _, saved = self.launch(call._replace(need_h=True))
        gru, packed = call.recurrence()
        dx, d_packed, dh0, d_elapsed = KERNELS.module.block_backward(gru, packed, saved, *grads, needs=needs)
        d_packed = None if d_packed is None else d_packed.view(call.parameters.shape)
        return dx, d_packed, dh0, sum_to(d_elapsed, call.elapsed)

    def fake(self, call: PackedBlock) -> Tensors:
        terms, batch, seq, _ = call.input.shape
        h = call.input.new_empty(terms, batch, seq, call.parameters.shape[2])
        h_last = h.new_empty(terms, batch, 1, h.shape[3], dtype=state_dtype(h))
        return torch.empty_like(h), h_last, h if call.need_h else h.new_empty(0)

    def formula(self, call: PackedBlock) -> Tensors:
        gru, packed = call.recurrence()
        h, h_last = reference.recurrence(gru.without_bias_row()._replace(need_h=True), CELLS[gru.cell])
        y = packed_formula(call.input.flatten(1, 2), packed, h.flatten(1, 2))
        return y.view(h.shape), h_last

    def flops(self, call: PackedBlock) -> int:
        return sum(self._products(call))

    def flops_backward(self, call: PackedBlock, needs: tuple[bool, ...]) -> int:
        """The recurrence is first, so that its input may need nothing."""
        recurrence, rest = self._products(call)
        return recurrence * (needs[0] + needs[1]) + rest * (1 + needs[1])

    def _products(self, call: PackedBlock) -> tuple[int, int]:
        """FLOPs of the recurrence and of what follows it. An embedding is within both."""
        _, packed = call.recurrence()
        dim, rows = call.parameters.shape[2], call.input.shape[1] * call.input.shape[2]
        parameters, embedding = unpack(packed, dim)
        return 4 * call.input.numel() * dim, linear_flops(rows, parameters, embedding)


_OPERATOR = MinGRUBlock("min_gru_block")


def block(call: Recurrence, parameters: FeedForward) -> tuple[Tensor, Tensor]:
    """`rnam.functional.min_gru_block` by the backend that is chosen.

    Its two halves where half precision is embedded and has a bias: one kernel would round that as a row of the weight,
    and a gate at -9 would lose a hundredth of its rate.
    """
    weight = call.weight
    assert weight is not None
    dim = weight.shape[1]
    rounds = call.embedding is not None and call.bias is not None and widen(call.input) is not call.input
    if rounds or choice.path_of(call.input) != "triton" or not KERNELS.module.feed_forward_is_fused(dim):
        h, h_last = recurrence(call)
        return feed_forward(call.input, h, parameters, call.embedding), h_last
    input, embedding, bias = call.input, call.embedding, call.bias
    if embedding is not None and not KERNELS.module.feed_forward_keeps_embedding(input.shape[-1], dim):
        input, embedding = grouped_linear(input, *embedding, None), None
    if embedding is not None:
        weight = composed(input, embedding, weight, bias)
    else:
        weight = widen(weight) if bias is None else with_bias_row(weight, bias)
    rows = torch.cat([weight.flatten(1), pack(parameters, embedding)], dim=1)
    packed = torch.unflatten(rows, 1, (-1, dim))
    need_h = learns(input, packed, call.h0, call.elapsed)  # the backward reads h
    bias_row = embedding is not None or bias is not None
    y, h_last, _ = _OPERATOR(PackedBlock(input, packed, call.h0, call.elapsed, call.flags, need_h, bias_row))
    return y, h_last
