"""One operator, two doors, every derivative rule: made once here for all the operators of `_ops`.

The op (`torch.ops.rnam.*`) is opaque to the compiler and to export, with fake, autograd and vmap rules. In
eager mode with gradients the same launcher runs inside an autograd Function instead: func.grad fails on an
op's autograd formula, and compile(func.grad) gives zeros with the Function alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rnam import _dispatch

Tensors = tuple[Tensor, ...]
Maybe = Tensor | None
Needs = tuple[bool, bool, bool]

_LIBRARY = torch.library.Library("rnam", "DEF")


@dataclass
class Operator:
    """A function of three floating tensors (the third may be None), one byte a step (or None) and a word.

    Calling it gives a tuple of outputs: the result, the last state where there is one, and what only the backward
    reads where that is neither. All operators have this form, so that their rules are written once.
    """

    name: str
    outputs: int
    # (first, second, third, codes, option) -> outputs; sees no gradients, as launch_backward
    launch: Callable[[Tensor, Tensor, Maybe, Maybe, str], Tensors]
    # (first, second, third, output, codes, grad, grad_last, option, needs) -> three gradients or None
    launch_backward: Callable[
        [Tensor, Tensor, Maybe, Maybe, Maybe, Maybe, Maybe, str, Needs], tuple[Maybe, Maybe, Maybe]
    ]
    # (first, second, third, option) -> outputs of the right shape, dtype and device
    fake: Callable[[Tensor, Tensor, Maybe, str], Tensors]
    # launch in plain PyTorch, for the second derivative
    twin: Callable[[Tensor, Tensor, Maybe, Maybe, str], Tensors]
    # what vmap does with its dimension: it joins the terms, or stands before all others
    joins_terms: bool
    # the output that launch_backward reads, which is kept, and must not be changed in place
    reads: int | None = 0
    function: Any = field(init=False)

    def __post_init__(self) -> None:
        _define(self)
        self.function = _function(self)

    def __call__(self, first: Tensor, second: Tensor, third: Maybe, codes: Maybe, option: str) -> Tensors:
        if _dispatch.forward_mode():
            raise NotImplementedError(f"rnam::{self.name} has no forward-mode derivative; the backend 'reference' has")
        # inside vmap a tensor does not say that a grad around it wants its gradient
        recorded = learns(first, second, third) or torch._C._are_functorch_transforms_active()
        door = self.function.apply if recorded and not torch.compiler.is_compiling() else self.op
        return _tuple(door(first, second, third, codes, option))

    @property
    def op(self) -> Any:
        return getattr(torch.ops.rnam, self.name)

    @property
    def op_backward(self) -> Any:
        return getattr(torch.ops.rnam, f"{self.name}_backward")

    def run(self, first: Tensor, second: Tensor, third: Maybe, codes: Maybe, option: str) -> Any:
        return _single_or_tuple(self.launch(first, second, third, codes, option))

    def run_backward(
        self,
        first: Tensor,
        second: Tensor,
        third: Maybe,
        output: Maybe,
        codes: Maybe,
        grad: Maybe,
        grad_last: Maybe,
        option: str,
        needs: Needs,
    ) -> Tensors:
        """Three gradients; one that is not needed is an empty tensor, since an op can't return None."""
        needs = (needs[0], needs[1], needs[2] and third is not None)
        grads = self.launch_backward(first, second, third, output, codes, grad, grad_last, option, needs)
        like = (first, second, second if third is None else third)
        return tuple(t.new_empty(0) if g is None else g for g, t in zip(grads, like, strict=True))


def learns(*tensors: Maybe) -> bool:
    """Whether a gradient may be asked of a function of these."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _define(operator: Operator) -> None:
    """The door for the compiler: rnam::name and rnam::name_backward with their rules."""
    name = operator.name
    inputs = "Tensor first, Tensor second, Tensor? third"
    outputs = ", ".join(["Tensor"] * operator.outputs)
    outputs = f"({outputs})" if operator.outputs > 1 else outputs
    _LIBRARY.define(f"{name}({inputs}, Tensor? codes, str option) -> {outputs}")
    _LIBRARY.define(
        f"{name}_backward({inputs}, Tensor? output, Tensor? codes, Tensor? grad, Tensor? grad_last, "
        "str option, bool[] needs) -> (Tensor, Tensor, Tensor)"
    )

    def fake(first: Tensor, second: Tensor, third: Maybe, codes: Maybe, option: str) -> Any:
        return _single_or_tuple(operator.fake(first, second, third, option))

    def fake_backward(first: Tensor, second: Tensor, third: Maybe, *others: Any) -> Tensors:
        *_, needs = others
        shaped = (first, second, second if third is None else third)
        present = (needs[0], needs[1], needs[2] and third is not None)
        return tuple(t.new_empty(t.shape if p else 0) for p, t in zip(present, shaped, strict=True))

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _save(operator, ctx, inputs, output)

    def backward(ctx: Any, *grads: Maybe) -> tuple[Maybe, ...]:
        return _gradients(operator, operator.op_backward, ctx, grads)

    def backward_twice(ctx: Any, *cotangents: Maybe) -> tuple[Maybe, ...]:
        return _second_gradients(operator, ctx, cotangents)

    for device in ("CPU", "CUDA"):
        _LIBRARY.impl(name, operator.run, device)
        _LIBRARY.impl(f"{name}_backward", operator.run_backward, device)
    for suffix, shapes, formula, save, rule in (
        ("", fake, backward, keep, _map_forward(operator, lambda *a: operator.op(*a))),
        (
            "_backward",
            fake_backward,
            backward_twice,
            _save_backward,
            _map_backward(operator, lambda *a: operator.op_backward(*a)),
        ),
    ):
        torch.library.register_fake(f"rnam::{name}{suffix}", shapes, lib=_LIBRARY)
        torch.library.register_autograd(f"rnam::{name}{suffix}", formula, setup_context=save, lib=_LIBRARY)
        torch.library.register_vmap(f"rnam::{name}{suffix}", rule, lib=_LIBRARY)


def _function(operator: Operator) -> Any:
    """The door for eager mode: an autograd Function whose backward is one too.

    Both call the op, below autograd, and so work on fake tensors and under tracing.
    """

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(
            first: Tensor,
            second: Tensor,
            third: Maybe,
            output: Maybe,
            codes: Maybe,
            grad: Maybe,
            grad_last: Maybe,
            option: str,
            needs: Needs,
        ) -> Tensors:
            grads: Tensors = operator.op_backward(first, second, third, output, codes, grad, grad_last, option, needs)
            return grads

        setup_context = staticmethod(_save_backward)

        @staticmethod
        def backward(ctx: Any, *cotangents: Maybe) -> tuple[Maybe, ...]:
            return _second_gradients(operator, ctx, cotangents)

        @staticmethod
        def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
            return _map_backward(operator, Backward.apply)(info, in_dims, *arguments)

    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(first: Tensor, second: Tensor, third: Maybe, codes: Maybe, option: str) -> Any:
            return operator.op(first, second, third, codes, option)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            _save(operator, ctx, inputs, output)

        @staticmethod
        def backward(ctx: Any, *grads: Maybe) -> tuple[Maybe, ...]:
            return _gradients(operator, Backward.apply, ctx, grads)

        @staticmethod
        def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
            return _map_forward(operator, Forward.apply)(info, in_dims, *arguments)

    door: Any
    for door in (Backward, Forward):
        # apply binds its arguments to this, and inspect would make it anew at each call
        door.forward.__signature__ = inspect.signature(door.forward)
    return Forward


def _save(operator: Operator, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    first, second, third, codes, option = inputs
    read = None if operator.reads is None else _tuple(output)[operator.reads]
    ctx.save_for_backward(first, second, third, read, codes)
    ctx.option = option
    ctx.set_materialize_grads(False)


def _gradients(
    operator: Operator, run: Callable[..., Tensors], ctx: Any, grads: tuple[Maybe, ...]
) -> tuple[Maybe, ...]:
    first, second, third, output, codes = ctx.saved_tensors
    tensors, needs = (first, second, third), ctx.needs_input_grad[:3]
    wanted = [t is not None and need for t, need in zip(tensors, needs, strict=True)]
    grads = grads[:2]  # a third output is for this backward alone
    if all(g is None for g in grads) or not any(wanted):
        return (None,) * 5
    grad, grad_last = (*grads, None)[:2]
    values = run(first, second, third, output, codes, grad, grad_last, ctx.option, tuple(wanted))
    return (*(v if w else None for v, w in zip(values, wanted, strict=True)), None, None)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    first, second, third, _, codes, grad, grad_last, option, needs = inputs
    ctx.save_for_backward(first, second, third, codes, grad, grad_last)
    ctx.option, ctx.needs = option, needs
    ctx.set_materialize_grads(False)


def _second_gradients(operator: Operator, ctx: Any, cotangents: tuple[Maybe, ...]) -> tuple[Maybe, ...]:
    """Derivatives of the backward in its tensors and in the gradients that came in, in plain PyTorch.

    The output that the backward reads is a function of the tensors here, so it gets none of its own.
    """
    first, second, third, codes, grad, grad_last = ctx.saved_tensors
    tensors, grads = (first, second, third), (grad, grad_last)[: operator.outputs]
    used = [n for n, g in enumerate(grads) if g is not None]
    # an output that was not needed is empty, and what comes in for it says nothing
    wanted = [n for n, t in enumerate(tensors) if ctx.needs[n] and not (t is None or cotangents[n] is None)]
    if not wanted:
        return (None,) * 9

    def forward(*given: Tensor) -> list[Tensor]:
        first, second, third = _fill(tensors, given)
        outputs = operator.twin(first, second, third, codes, ctx.option)  # type: ignore[arg-type]
        return [outputs[n] for n in used]

    def first_derivative(given: list[Tensor], incoming: list[Tensor]) -> list[Maybe]:
        pull = torch.func.vjp(forward, *given)[1]
        pulled = _fill(tensors, pull(incoming))
        return [pulled[n] for n in wanted]

    given, incoming = [t for t in tensors if t is not None], [g for g in grads if g is not None]
    pull = torch.func.vjp(first_derivative, given, incoming)[1]
    of_given, of_incoming = pull([cotangents[n] for n in wanted])
    of_grads = [*_fill(grads, of_incoming), None][:2]
    return (*_fill(tensors, of_given), None, None, *of_grads, None, None)


def _map_forward(operator: Operator, run: Callable[..., Any]) -> Callable[..., Any]:
    def rule(
        info: Any,
        in_dims: tuple[int | None, ...],
        first: Tensor,
        second: Tensor,
        third: Maybe,
        codes: Maybe,
        option: str,
    ) -> Any:
        fold = _Fold(operator, info.batch_size, second, in_dims[1])
        tensors = (fold(t, d) for t, d in zip((first, second, third), in_dims[:3], strict=True))
        outputs = _tuple(run(*tensors, fold.codes(codes, in_dims[3]), option))
        dims = (0,) * operator.outputs
        return _single_or_tuple(tuple(map(fold.undo, outputs))), dims if len(dims) > 1 else 0

    return rule


def _map_backward(operator: Operator, run: Callable[..., Any]) -> Callable[..., Any]:
    def rule(
        info: Any,
        in_dims: tuple[int | None, ...],
        first: Tensor,
        second: Tensor,
        third: Maybe,
        output: Maybe,
        codes: Maybe,
        grad: Maybe,
        grad_last: Maybe,
        option: str,
        needs: Needs,
    ) -> Any:
        fold = _Fold(operator, info.batch_size, second, in_dims[1])
        before = (fold(t, d) for t, d in zip((first, second, third, output), in_dims[:4], strict=True))
        after = (fold(t, d) for t, d in zip((grad, grad_last), in_dims[5:7], strict=True))
        values = run(*before, fold.codes(codes, in_dims[4]), *after, option, needs)
        return tuple(map(fold.undo, values)), (0, 0, 0)

    return rule


class _Fold:
    """vmap's dimension, moved to where the launchers take it: F terms mapped N times are N * F terms."""

    def __init__(self, operator: Operator, size: int, second: Tensor, dim: int | None) -> None:
        self.size, self.joins_terms = size, operator.joins_terms
        self.terms = second.shape[1 if dim == 0 else 0]

    def __call__(self, value: Maybe, dim: int | None) -> Maybe:
        if value is None:
            return None
        value = value.expand(self.size, *value.shape) if dim is None else value.movedim(dim, 0)
        return value.flatten(0, 1) if self.joins_terms else value

    def codes(self, codes: Maybe, dim: int | None) -> Maybe:
        """Codes that hold for every term go on to hold for every term, unless they are mapped."""
        if codes is None or (dim is None and codes.shape[0] == 1):
            return codes
        if dim is not None:
            codes = codes.movedim(dim, 0)
            return codes.expand(self.size, self.terms, *codes.shape[2:]).flatten(0, 1)
        return self(codes, None)

    def undo(self, value: Tensor) -> Tensor:
        if value.numel() == 0:  # a gradient that was not needed
            return value.expand(self.size, *value.shape)
        return value.reshape(self.size, -1, *value.shape[1:]) if self.joins_terms else value


def _fill(form: tuple[Maybe, ...], values: Any) -> list[Maybe]:
    """`values` at the places where `form` holds a tensor, None at the others."""
    rest = iter(values)
    return [None if t is None else next(rest) for t in form]


def _tuple(value: Any) -> Tensors:
    return (value,) if isinstance(value, Tensor) else tuple(value)


def _single_or_tuple(values: Tensors) -> Tensor | Tensors:
    return values[0] if len(values) == 1 else values
