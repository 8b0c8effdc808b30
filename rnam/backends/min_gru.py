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
from rnam.backends.flags import decode
from rnam.backends.linear import grouped_linear
from rnam.backends.operator import Maybe, Operator, Tensors, is_plain, learns

__all__ = ["MinGRU", "MinGRULast", "composed", "recurrence", "sum_to", "with_bias_row"]


class MinGRU(Operator[Recurrence]):
    """h and the last state of a recurrent cell."""

    record = Recurrence
    # an embedding and a bias are composed with the weight before, and need_h is the choice of an operator
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
        gates, backward = self.launchers.gates(call.cell), self.launchers.module.recurrence_backward
        *others, d_elapsed = backward(call, gates, saved, *grads, needs=needs)
        return *others, sum_to(d_elapsed, call.elapsed)

    def fake(self, call: Recurrence) -> Tensors:
        terms, batch, seq, _ = call.input.shape
        columns = call.input.shape[3] if call.weight is None else call.weight.shape[2]
        hidden = columns // CELLS[call.cell].num_preacts
        h = call.input.new_empty(terms, batch, seq, hidden)
        return h, call.input.new_empty(terms, batch, 1, hidden, dtype=state_dtype(call.input))

    def formula(self, call: Recurrence) -> Tensors:
        """In the linear space, whichever the call's: both are one function."""
        return reference.recurrence(call.without_bias_row()._replace(space="linear"), CELLS[call.cell])

    def flops(self, call: Recurrence) -> int:
        return 0 if call.weight is None else 2 * call.input.numel() * call.weight.shape[2]


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
    if call.elapsed is not None and CELLS[call.cell].blocks.after is None:
        return _as_min_gru(call)
    if call.embedding is not None:
        call = _compose(call, call.embedding, every_state.launchers)
    elif call.bias is not None:
        assert call.weight is not None
        call = call._replace(weight=with_bias_row(call.weight, call.bias), bias=None)
    gradient = learns(call.input, call.weight, call.h0, call.elapsed)
    # first of all whether it is compiled: a question about sizes would become a guard
    eager = path == "torch" and not torch.compiler.is_compiling()
    if eager and one_step.takes(call) and is_plain((call.input, call.weight, call.h0, call.elapsed, call.flags)):
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


def composed(input: Tensor, embedding: Embedding, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[E W; b W + bias], whose product with [input, 1] is that of input E + b with W, and the bias. The weight is not
    rounded before it is read."""
    before, shift = embedding
    rows = torch.cat([widen(before.to(input.dtype)), widen(shift)], dim=1)
    product = torch.bmm(rows, widen(weight.to(input.dtype)))
    return product if bias is None else torch.cat([product[:, :-1], product[:, -1:] + widen(bias)], dim=1)


def with_bias_row(weight: Tensor, bias: Tensor) -> Tensor:
    """The weight with the bias as its last row, in the dtype of the sums: neither is rounded before it is read."""
    return torch.cat([widen(weight), widen(bias)], dim=1)


def sum_to(gradient: Maybe, like: Maybe) -> Maybe:
    """The gradient (terms, batch, seq) of a tensor that was broadcast to that, as its own."""
    return None if gradient is None or like is None else gradient.sum_to_size(like.shape).to(like.dtype)


def _as_min_gru(call: Recurrence) -> tuple[Tensor, Tensor]:
    """A cell that knows elapsed times by the minGRU that it is. The projection is an operator of its own here, and
    nothing is rounded between the two."""
    x, row = call.input, CELLS[call.cell]
    assert row.reference.relaxation is not None
    mask, _ = decode(call.flags)
    preacts = widen(x if mask is None else torch.where(mask[..., None], x, 0))
    if call.embedding is not None:
        before, shift = call.embedding
        preacts = grouped_linear(preacts, widen(before.to(x.dtype)), widen(shift), None)
    if call.weight is not None:
        bias = None if call.bias is None else widen(call.bias)
        preacts = grouped_linear(preacts, widen(call.weight.to(x.dtype)), bias, None)
    preacts = torch.cat(row.reference.relaxation(*preacts.chunk(row.num_preacts, dim=-1)), dim=-1)
    h, h_last = recurrence(call._replace(input=preacts, weight=None, embedding=None, bias=None, cell="mingru"))
    return h.to(x.dtype), h_last


def _compose(call: Recurrence, embedding: Embedding, launchers: Launchers) -> Recurrence:
    """The same call of [input, 1] and its weight, both padded to the columns that the launchers like. A bias makes the
    last row one of bias instead, so that half precision does not round it."""
    assert call.weight is not None
    x, weight = call.input, composed(call.input, embedding, call.weight, call.bias)
    if call.bias is not None:
        return call._replace(weight=weight, embedding=None, bias=None)
    missing = launchers.module.embedded_columns(x.shape[-1], x.dtype.itemsize) - weight.shape[1]
    x = pad(x, (0, 1 + missing), value=1.0)
    weight = pad(weight, (0, 0, 0, missing)) if missing else weight
    return call._replace(input=x, weight=weight, embedding=None, bias=None)
