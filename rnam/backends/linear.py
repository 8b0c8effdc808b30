"""The grouped linear layer: `rnam::grouped_linear` on the kernels, `rnam::blocked_linear` in blocks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rnam import reference
from rnam.backends import choice
from rnam.backends.cells import BLOCKS, KERNELS, Launchers
from rnam.backends.operator import Maybe, Operator, Tensors, is_plain

__all__ = ["GroupedLinear", "Rows", "grouped_linear"]


class Rows(NamedTuple):
    """input (terms, rows, in_dim), weight (terms, in_dim, out_dim), bias (terms, 1, out_dim) or None."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    activation: str | None


class GroupedLinear(Operator[Rows]):
    """activation(input @ weight + bias) of every term."""

    record = Rows
    outputs = 1
    saved = None

    def __init__(self, name: str, launchers: Launchers) -> None:
        self.launchers = launchers
        super().__init__(name)

    def launch(self, call: Rows) -> Tensors:
        return (self.launchers.module.grouped_linear_forward(*call),)

    def launch_backward(
        self, call: Rows, saved: Maybe, grads: tuple[Maybe, Maybe], needs: tuple[bool, ...]
    ) -> tuple[Maybe, ...]:
        found: tuple[Maybe, ...] = self.launchers.module.grouped_linear_backward(*call, grads[0], needs=needs)
        return found

    def fake(self, call: Rows) -> Tensors:
        return (call.input.new_empty(*call.input.shape[:2], call.weight.shape[2]),)

    def formula(self, call: Rows) -> Tensors:
        return (reference.grouped_linear(*call),)

    def flops(self, call: Rows) -> int:
        return 2 * call.input.shape[1] * call.weight.numel()


_OPERATORS = {"triton": GroupedLinear("grouped_linear", KERNELS), "torch": GroupedLinear("blocked_linear", BLOCKS)}


def grouped_linear(
    input: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None, out: Tensor | None = None
) -> Tensor:
    """`rnam.functional.grouped_linear` by the backend that is chosen."""
    path = choice.path_of(input)
    known = reference.ACTIVATIONS if path == "reference" else _OPERATORS[path].launchers.module.ACTIVATIONS
    if activation is not None and activation not in known:
        names = ", ".join(repr(name) for name in known if name is not None)
        raise ValueError(f"activation must be None or one of {names} on backend {path!r}, got {activation!r}")
    if path == "reference":
        output = reference.grouped_linear(input, weight, bias, activation)
        return output if out is None else out.copy_(output)
    operator, rows = _OPERATORS[path], input.flatten(1, -2)
    at_once = out is not None and out.is_contiguous() and not torch.compiler.is_compiling()
    if out is not None and at_once and is_plain((rows, weight, bias, out)):
        into = out.view(*rows.shape[:2], weight.shape[2])
        operator.launchers.module.grouped_linear_forward(rows, weight, bias, activation, out=into)
        torch.autograd.graph.increment_version(out)  # a kernel tells autograd nothing
        return out
    (y,) = operator(Rows(rows, weight, bias, activation))
    y = y.reshape(*input.shape[:-1], weight.shape[-1])
    return y if out is None else out.copy_(y)
