"""A minGRU and the projection of its states: `rnam::min_gru_projected`, one kernel where no gradient is recorded.
Elsewhere it is its two layers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rnam import reference
from rnam.backends import choice
from rnam.backends.calls import Recurrence, state_dtype, widen
from rnam.backends.cells import CELLS, KERNELS
from rnam.backends.linear import grouped_linear
from rnam.backends.min_gru import recurrence, sum_to, with_bias_row
from rnam.backends.operator import Maybe, Operator, Tensors, learns

__all__ = ["MinGRUProjected", "PackedProjection", "projected"]


class PackedProjection(NamedTuple):
    """input (terms, batch, seq, dim); parameters (terms, 3 * dim * hidden): the weight of the minGRU and that of the
    projection; h0, elapsed and flags as in `Recurrence`; with bias_row 2 * hidden more, the bias as a row of the first
    weight."""

    input: Tensor
    parameters: Tensor
    h0: Tensor | None
    elapsed: Tensor | None
    flags: Tensor | None
    bias_row: bool

    @property
    def hidden(self) -> int:
        return self.parameters.shape[1] // (3 * self.input.shape[3] + 2 * self.bias_row)

    def layers(self) -> tuple[Recurrence, Tensor]:
        """The call of the minGRU, and the weight (terms, hidden, dim); both weights are views."""
        dim, hidden = self.input.shape[3], self.hidden
        inputs = dim + self.bias_row
        weight, out_weight = self.parameters.tensor_split([2 * inputs * hidden], dim=1)
        weight = torch.unflatten(weight, 1, (inputs, 2 * hidden))
        call = Recurrence(self.input, weight, self.h0, self.elapsed, self.flags)
        return call, torch.unflatten(out_weight, 1, (hidden, dim))


class MinGRUProjected(Operator[PackedProjection]):
    """The output and the last state."""

    record = PackedProjection
    outputs = 2
    saved = None

    def launch(self, call: PackedProjection) -> Tensors:
        y, h_last = KERNELS.module.projected_forward(*call.layers())
        return y, h_last

    def launch_backward(
        self, call: PackedProjection, saved: Maybe, grads: tuple[Maybe, Maybe], needs: tuple[bool, ...]
    ) -> tuple[Maybe, ...]:
        """Recomputes h, and then the backwards of both layers."""
        (gru, out_weight), (dy, dh_last) = call.layers(), grads
        gates = KERNELS.gates(gru.cell)
        h, _ = KERNELS.module.recurrence_forward(gru, gates)
        dh, d_out = None, torch.zeros_like(out_weight)
        if dy is not None:
            dh, d_out, _ = KERNELS.module.grouped_linear_backward(
                h.flatten(1, 2), out_weight, None, None, dy.flatten(1, 2), needs=(True, needs[1], False)
            )
            dh = dh.view(h.shape)
        dx, d_weight, dh0, d_elapsed = KERNELS.module.recurrence_backward(gru, gates, h, dh, dh_last, needs=needs)
        d_packed = None if d_weight is None else torch.cat([d_weight.flatten(1), d_out.flatten(1)], dim=1)
        return dx, d_packed, dh0, sum_to(d_elapsed, gru.elapsed)

    def fake(self, call: PackedProjection) -> Tensors:
        terms, batch, _, _ = call.input.shape
        h_last = call.input.new_empty(terms, batch, 1, call.hidden, dtype=state_dtype(call.input))
        return torch.empty_like(call.input, memory_format=torch.contiguous_format), h_last

    def formula(self, call: PackedProjection) -> Tensors:
        gru, out_weight = call.layers()
        h, h_last = reference.recurrence(gru.without_bias_row(), CELLS[gru.cell])
        return reference.grouped_linear(h, out_weight, None, None), h_last

    def flops(self, call: PackedProjection) -> int:
        return 6 * call.input.numel() * call.hidden

    def flops_backward(self, call: PackedProjection, needs: tuple[bool, ...]) -> int:
        """Two of the three parts are those of the recurrence, whose input may need nothing."""
        part = self.flops(call) // 3
        return 2 * part * (needs[0] + needs[1]) + part * (1 + needs[1])


_OPERATOR = MinGRUProjected("min_gru_projected")


def projected(call: Recurrence, out_weight: Tensor) -> tuple[Tensor, Tensor]:
    """`rnam.functional.min_gru_projected` by the backend that is chosen."""
    hidden, dim = out_weight.shape[1:]
    fused = choice.path_of(call.input) == "triton" and KERNELS.module.projected_is_fused(dim, hidden)
    if not fused or learns(call.input, call.weight, out_weight, call.h0, call.elapsed, call.bias):
        h, h_last = recurrence(call)
        return grouped_linear(h, out_weight, None, None), h_last
    weight = call.weight
    assert weight is not None
    if call.bias is not None:
        weight = with_bias_row(weight, call.bias)
    packed = torch.cat([widen(w).flatten(1) for w in (weight, out_weight)], dim=1)
    y, h_last = _OPERATOR(
        PackedProjection(call.input, packed, call.h0, call.elapsed, call.flags, call.bias is not None)
    )
    return y, h_last
