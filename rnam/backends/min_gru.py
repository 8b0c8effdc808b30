"""Recurrent cells: `rnam::min_gru` and `rnam::min_gru_last` on the kernels, `rnam::blocked_min_gru` and
`rnam::blocked_min_gru_last` in blocks. The cell is an argument; minGRU and minLSTM go the same way."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from rnam import reference
from rnam.backends import choice
from rnam.backends.blocks import one_step
from rnam.backends.calls import Embedding, Recurrence, state_dtype, widen
from rnam.backends.cells import BLOCKS, CELLS, KERNELS, Launchers
from rnam.backends.operator import Maybe, Operator, Tensors, is_plain, learns

__all__ = ["MinGRU", "MinGRULast", "composed", "recurrence"]


class MinGRU(Operator[Recurrence]):
    """h and the last state of a recurrent cell."""

    record = Recurrence
    # an embedding is composed with the weight before, and need_h is the choice of an operator
    arguments = Recurrence._fields.index("need_h")
    outputs = 2

    def __init__(self, name: str, launchers: Launchers) -> None:
        self.launchers = launchers
        super().__init__(name)

    def launch(self, call: Recurrence) -> Tensors:
        h, h_last = self.launchers.module.recurrence_forward(call, self.launchers.gates(call.cell))
        return h, h_last

    def launch_backward(
        self, call: Recurrence, saved: Maybe, grads: tuple[Maybe, Maybe], needs: tuple[bool, ...]
    ) -> tuple[Maybe, ...]:
        gates = self.launchers.gates(call.cell)
        found: tuple[Maybe, ...] = self.launchers.module.recurrence_backward(call, gates, saved, *grads, needs=needs)
        return found

    def fake(self, call: Recurrence) -> Tensors:
        terms, batch, seq, _ = call.input.shape
        columns = call.input.shape[3] if call.weight is None else call.weight.shape[2]
        hidden = columns // CELLS[call.cell].num_preacts
        h = call.input.new_empty(terms, batch, seq, hidden)
        return h, call.input.new_empty(terms, batch, 1, hidden, dtype=state_dtype(call.input))

    def formula(self, call: Recurrence) -> Tensors:
        """In the linear space, whichever the call's: both are one function."""
        return reference.recurrence(call._replace(space="linear"), CELLS[call.cell])

    def flops(self, call: Recurrence) -> int:
        return 0 if call.weight is None else 2 * call.input[0, ..., 0].numel() * call.weight.numel()


class MinGRULast(MinGRU):
    """The last state alone. `recurrence` takes it where no gradient will be asked."""

    outputs = 1
    saved = None

    def launch(self, call: Recurrence) -> Tensors:
        return super().launch(call._replace(need_h=False))[1:]

    def launch_backward(
        self, call: Recurrence, saved: Maybe, grads: tuple[Maybe, Maybe], needs: tuple[bool, ...]
    ) -> tuple[Maybe, ...]:
        """Recomputes h first."""
        h, _ = super().launch(call)
        return super().launch_backward(call, h, (None, grads[0]), needs)

    def fake(self, call: Recurrence) -> Tensors:
        return super().fake(call)[1:]

    def formula(self, call: Recurrence) -> Tensors:
        return super().formula(call)[1:]


_OPERATORS: dict[str, tuple[MinGRU, MinGRULast]] = {
    "triton": (MinGRU("min_gru", KERNELS), MinGRULast("min_gru_last", KERNELS)),
    "torch": (MinGRU("blocked_min_gru", BLOCKS), MinGRULast("blocked_min_gru_last", BLOCKS)),
}


def recurrence(call: Recurrence) -> tuple[Tensor, Tensor]:
    """h (no steps unless need_h) and the last state of a call, by the backend that is chosen."""
    path = choice.path_of(call.input)
    if path == "reference" or (path == "torch" and call.space == "log"):
        return reference.recurrence(call, CELLS[call.cell])
    every_state, last_state = _OPERATORS[path]
    if call.embedding is not None:
        call = _compose(call, call.embedding, every_state.launchers)
    gradient = learns(call.input, call.weight, call.h0)
    # first of all whether it is compiled: a question about sizes would become a guard
    eager = path == "torch" and not torch.compiler.is_compiling()
    if eager and one_step.takes(call) and is_plain((call.input, call.weight, call.h0, call.flags)):
        h, h_last = one_step.run(call, CELLS[call.cell], gradient)
        return _no_steps(call, h_last) if h is None else h, h_last
    if call.need_h or gradient:  # the backward reads h
        h, h_last = every_state(call)
        return h if call.need_h else h[:, :, :0], h_last
    (h_last,) = last_state(call)
    return _no_steps(call, h_last), h_last


def _no_steps(call: Recurrence, h_last: Tensor) -> Tensor:
    """The h of need_h=False."""
    return h_last[:, :, :0].to(call.input.dtype)


def composed(input: Tensor, embedding: Embedding, weight: Tensor) -> Tensor:
    """[E W; b W], whose product with [input, 1] is that of input E + b with W. The weight is not rounded before it is
    read."""
    before, bias = embedding
    rows = torch.cat([widen(before.to(input.dtype)), widen(bias)], dim=1)
    return torch.bmm(rows, widen(weight.to(input.dtype)))


def _compose(call: Recurrence, embedding: Embedding, launchers: Launchers) -> Recurrence:
    """The same call of [input, 1] and its weight, both padded to the columns that the launchers like."""
    assert call.weight is not None
    x, weight = call.input, composed(call.input, embedding, call.weight)
    missing = launchers.module.embedded_columns(x.shape[-1], x.dtype.itemsize) - weight.shape[1]
    x = pad(x, (0, 1 + missing), value=1.0)
    weight = pad(weight, (0, 0, 0, missing)) if missing else weight
    return call._replace(input=x, weight=weight, embedding=None)
