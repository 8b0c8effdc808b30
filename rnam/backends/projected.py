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
from rnam.backends.min_gru import recurrence
from rnam.backends.operator import Maybe, Operator, Tensors, learns

__all__ = ["MinGRUProjected", "PackedProjection", "projected"]


class PackedProjection(NamedTuple):
    """input (terms, batch, seq, dim); parameters (terms, 3 * dim * hidden): the weight of the minGRU and that of the
    projection; h0 and flags as in `Recurrence`."""

    input: Tensor
    parameters: Tensor
    h0: Tensor | None
    flags: Tensor | None

    def layers(self) -> tuple[Recurrence, Tensor]:
        """The call of the minGRU, and the weight (terms, hidden, dim); both weights are views."""
        dim = self.input.shape[3]
        hidden = self.parameters.shape[1] // (3 * dim)
        weight, out_weight = self.parameters.tensor_split([2 * dim * hidden], dim=1)
        call = Recurrence(self.input, torch.unflatten(weight, 1, (dim, 2 * hidden)), self.h0, self.flags)
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
        dx, d_weight, dh0 = KERNELS.module.recurrence_backward(gru, gates, h, dh, dh_last, needs=needs)
        d_packed = None if d_weight is None else torch.cat([d_weight.flatten(1), d_out.flatten(1)], dim=1)
        return dx, d_packed, dh0

    def fake(self, call: PackedProjection) -> Tensors:
        terms, batch, _, dim = call.input.shape
        hidden = call.parameters.shape[1] // (3 * dim)
        h_last = call.input.new_empty(terms, batch, 1, hidden, dtype=state_dtype(call.input))
        return torch.empty_like(call.input, memory_format=torch.contiguous_format), h_last

    def formula(self, call: PackedProjection) -> Tensors:
        gru, out_weight = call.layers()
        h, h_last = reference.recurrence(gru, CELLS[gru.cell])
        return reference.grouped_linear(h, out_weight, None, None), h_last

    def flops(self, call: PackedProjection) -> int:
        return 2 * call.input.shape[1] * call.input.shape[2] * call.parameters.numel()

    def flops_backward(self, call: PackedProjection, needs: tuple[bool, ...]) -> int:
        """Two of the three parts are those of the recurrence, whose input may need nothing."""
        part = self.flops(call) // 3
        return 2 * part * (needs[0] + needs[1]) + part * (1 + needs[1])


_OPERATOR = MinGRUProjected("min_gru_projected")


def projected(call: Recurrence, out_weight: Tensor) -> tuple[Tensor, Tensor]:
    """`rnam.functional.min_gru_projected` by the backend that is chosen."""
    hidden, dim = out_weight.shape[1:]
    fused = choice.path_of(call.input) == "triton" and KERNELS.module.projected_is_fused(dim, hidden)
    if not fused or learns(call.input, call.weight, out_weight, call.h0):
        h, h_last = recurrence(call)
        return grouped_linear(h, out_weight, None, None), h_last
    assert call.weight is not None
    packed = torch.cat([widen(w).flatten(1) for w in (call.weight, out_weight)], dim=1)
    y, h_last = _OPERATOR(PackedProjection(call.input, packed, call.h0, call.flags))
    return y, h_last
