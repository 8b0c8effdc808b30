"""What every operator shares: `torch.ops.rnam.*`, an autograd Function, and all derivative rules.

An operator has three entries, and `__call__` chooses one:

    the op         under torch.compile and torch.export, for which it is opaque, and wherever something watches
                   operators: a dispatch mode, a tensor subclass, a trace, a profiler
    the Function   in eager mode with gradients: func.grad fails on an op's autograd formula. compile(func.grad) gives
                   zeros with a Function alone; with the op in its place torch raises
    the launcher   in eager mode without a gradient; the boundary of an op would take longer than a small call
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar, get_type_hints

import torch
from torch import Tensor
from torch._C import (
    _are_functorch_transforms_active,
    _get_tracing_state,
    _len_torch_dispatch_stack,
    _len_torch_function_stack,
)
from torch._C._autograd import _profiler_enabled
from torch._C._functorch import unwrap_if_dead
from torch.nn import Parameter

from rnam.backends import choice, flops
from rnam.backends.calls import autocast_enabled, without_autocast

__all__ = ["Maybe", "Operator", "Tensors", "learns"]

Tensors = tuple[Tensor, ...]
Maybe = Tensor | None
Call = TypeVar("Call", bound="tuple[Any, ...]")

_LIBRARY = torch.library.Library("rnam", "DEF")
_BROADCAST = ("elapsed", "flags")  # fields of three dimensions, each of the full size or 1
_SCHEMA = {Tensor: "Tensor", Tensor | None: "Tensor?", str: "str", str | None: "str?", bool: "bool"}


class Operator(Generic[Call]):
    """A function of a record, with derivatives in its floating tensors.

    A subclass says what it computes; this class makes the rest of it, once.

    record      a NamedTuple: floating tensors first, then `flags` if it has any, then options; the sizes of `elapsed`
                and `flags` may be 1
    arguments   how many of its fields the op takes; None is all
    outputs     the result, the last state where there is one, and what only the backward reads where that is neither
    saved       the output that the backward reads, which must not be changed in place; None where it reads none
    joins_terms vmap's dimension joins the terms of every tensor; else it stands before all other dimensions
    """

    record: ClassVar[type[Any]]
    arguments: ClassVar[int | None] = None
    outputs: ClassVar[int]
    saved: ClassVar[int | None] = 0
    joins_terms: ClassVar[bool] = True

    def __init__(self, name: str) -> None:
        self.name = name
        hints = get_type_hints(self.record)
        self.fields: tuple[str, ...] = self.record._fields[: self.arguments]
        types = [_SCHEMA[hints[field]] for field in self.fields]
        self.tensors = sum(t in ("Tensor", "Tensor?") for t in types)
        self.floats = self.tensors - ("flags" in self.fields)
        self._define(", ".join(f"{t} {field}" for t, field in zip(types, self.fields, strict=True)))
        self.function = self._function()
        # without what only torch.func needs: binding the arguments to a signature takes longer than a small call
        self.apply = super(torch.autograd.Function, self.function).apply  # type: ignore[misc]
        # looked up once: torch.ops finds an op in Python
        self.op = getattr(torch.ops.rnam, name).default
        self.op_backward = getattr(torch.ops.rnam, f"{name}_backward").default

    # ---- what a subclass says ----

    def launch(self, call: Call) -> Tensors:
        """The outputs. No gradient is recorded inside."""
        raise NotImplementedError

    def launch_backward(
        self, call: Call, saved: Maybe, grads: tuple[Maybe, Maybe], needs: tuple[bool, ...]
    ) -> tuple[Maybe, ...]:
        """The gradients of the floating tensors that are needed, from those of the first two outputs."""
        raise NotImplementedError

    def fake(self, call: Call) -> Tensors:
        """Empty outputs of the right shape, dtype and device."""
        raise NotImplementedError

    def formula(self, call: Call) -> Tensors:
        """The outputs in plain PyTorch, for the second derivative."""
        raise NotImplementedError

    def flops(self, call: Call) -> int:
        """Twice the multiplications of the matrix products in `formula`."""
        return 0

    def flops_backward(self, call: Call, needs: tuple[bool, ...]) -> int:
        """The same of its derivative: here of one product, of the first tensor with the second."""
        return self.flops(call) * sum(needs[:2])

    # ---- what this class makes of it ----

    def __call__(self, call: Call) -> Tensors:
        arguments = call[: len(self.fields)]
        if choice.forward_mode():
            raise NotImplementedError(f"rnam::{self.name} has no forward-mode derivative; the backend 'reference' has")
        if torch.compiler.is_compiling():
            return _as_tuple(self.op(*arguments))
        if _are_functorch_transforms_active():
            # inside vmap a tensor does not say that a grad around it wants its gradient
            return _as_tuple(self.function.apply(*arguments))
        if learns(*arguments[: self.floats]):
            return _as_tuple(self.apply(*_unwrapped(arguments, self.tensors)))
        return self.launch(call) if is_plain(arguments[: self.tensors]) else _as_tuple(self._watched(*arguments))

    def _watched(self, *arguments: Any) -> Any:
        """By the op, where something watches operators."""
        flops.teach()
        return self.op(*arguments)

    def _run_backward(self, *arguments: Any) -> Any:
        tensors = arguments[: self.tensors] + arguments[len(self.fields) : -1]
        return self._gradients(arguments) if is_plain(tensors) else self.op_backward(*arguments)

    def _launch(self, *arguments: Any) -> Any:
        """Autocast may be on where the op is called by a graph."""
        with without_autocast(arguments[0], autocast_enabled(arguments[0])):
            return _alone(self.launch(self.record(*arguments)))

    def _launch_backward(self, *arguments: Any) -> Any:
        """The op can't return None: a gradient that is not needed is an empty tensor."""
        tensors, needs = arguments[: self.floats], arguments[-1]
        needs = tuple(t is not None and need for t, need in zip(tensors, needs, strict=True))
        grads = self._gradients((*arguments[:-1], needs))
        like = _present(tensors)
        return _alone(tuple(t.new_empty(0) if g is None else g for g, t in zip(grads, like, strict=True)))

    def _gradients(self, arguments: tuple[Any, ...]) -> tuple[Maybe, ...]:
        """Those that are needed, of tensors that are there. Autocast may be on where `backward` is called."""
        count, cast = len(self.fields), autocast_enabled(arguments[0])
        saved, grad, grad_last, needs = arguments[count:]
        call = self.record(*arguments[:count])
        if not cast:
            return self.launch_backward(call, saved, (grad, grad_last), needs)
        with without_autocast(arguments[0], cast):
            return self.launch_backward(call, saved, (grad, grad_last), needs)

    def _flops(self, *arguments: Any, out_val: Any = None) -> int:
        return self.flops(self.record(*arguments))

    def _flops_backward(self, *arguments: Any, out_val: Any = None) -> int:
        return self.flops_backward(self.record(*arguments[: len(self.fields)]), arguments[-1])

    def _fake(self, *arguments: Any) -> Any:
        return _alone(self.fake(self.record(*arguments)))

    def _fake_backward(self, *arguments: Any) -> Any:
        needs, tensors = arguments[-1], arguments[: self.floats]
        wanted = [t is not None and need for t, need in zip(tensors, needs, strict=True)]
        shapes = zip(wanted, _present(tensors), strict=True)
        return _alone(tuple(t.new_empty(t.shape if w else 0) for w, t in shapes))

    def _define(self, schema: str) -> None:
        """rnam::name and rnam::name_backward with their rules."""
        backward = f"{schema}, Tensor? output, Tensor? grad, Tensor? grad_last, bool[] needs"
        _LIBRARY.define(f"{self.name}({schema}) -> {_tensors(self.outputs)}")
        _LIBRARY.define(f"{self.name}_backward({backward}) -> {_tensors(self.floats)}")
        for suffix, launch, fake, save, gradient, mapped in (
            ("", self._launch, self._fake, self._save, self._op_gradient, self._map_op),
            (
                "_backward",
                self._launch_backward,
                self._fake_backward,
                self._save_backward,
                self._second_gradient,
                self._map_op_backward,
            ),
        ):
            name = f"rnam::{self.name}{suffix}"
            for device in ("CPU", "CUDA"):
                _LIBRARY.impl(f"{self.name}{suffix}", launch, device)
            torch.library.register_fake(name, fake, lib=_LIBRARY)
            torch.library.register_autograd(name, gradient, setup_context=save, lib=_LIBRARY)
            torch.library.register_vmap(name, mapped, lib=_LIBRARY)
        flops.FORMULAS[getattr(torch.ops.rnam, self.name)] = self._flops
        flops.FORMULAS[getattr(torch.ops.rnam, f"{self.name}_backward")] = self._flops_backward

    def _function(self) -> Any:
        """An autograd Function whose backward is one too, so that it is differentiable twice and by vmap."""
        operator = self

        class Backward(torch.autograd.Function):
            @staticmethod
            def forward(*arguments: Any) -> Any:
                return operator.op_backward(*arguments)  # the op: it works on fake tensors and under vmap

            setup_context = staticmethod(operator._save_backward)
            backward = staticmethod(operator._second_gradient)

            @staticmethod
            def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
                return operator._map_backward(Backward.apply, info, in_dims, arguments)

        class Forward(torch.autograd.Function):
            @staticmethod
            def forward(*arguments: Any) -> Any:
                if is_plain(arguments[: operator.tensors]):
                    return _alone(operator.launch(operator.record(*arguments)))
                return operator._watched(*arguments)

            setup_context = staticmethod(operator._save)

            @staticmethod
            def backward(ctx: Any, *grads: Maybe) -> tuple[Maybe, ...]:
                twice = torch.is_grad_enabled() or _are_functorch_transforms_active()
                return operator._gradient(Backward.apply if twice else operator._run_backward, ctx, grads)

            @staticmethod
            def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
                return operator._map(Forward.apply, info, in_dims, arguments)

        backward_fields = (*self.fields, "output", "grad", "grad_last", "needs")
        for function, names in ((Forward, self.fields), (Backward, backward_fields)):
            # torch binds the arguments to this signature; inspect would make it anew at each call
            parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
            function.forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return Forward

    def _save(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        saved = None if self.saved is None else _as_tuple(output)[self.saved]
        ctx.save_for_backward(*inputs[: self.tensors], saved)
        ctx.options = inputs[self.tensors :]
        ctx.set_materialize_grads(False)

    def _op_gradient(self, ctx: Any, *grads: Maybe) -> tuple[Maybe, ...]:
        return self._gradient(self.op_backward, ctx, grads)

    def _gradient(self, run: Callable[..., Any], ctx: Any, grads: tuple[Maybe, ...]) -> tuple[Maybe, ...]:
        *tensors, saved = ctx.saved_tensors
        # lists: generators take twice the time
        pairs = zip(tensors, ctx.needs_input_grad[: self.floats], strict=False)
        wanted = tuple([t is not None and need for t, need in pairs])
        first, last = (*grads, None)[:2]  # a third output is for this backward alone
        if (first is None and last is None) or True not in wanted:
            return (None,) * len(self.fields)
        values = _as_tuple(run(*tensors, *ctx.options, saved, first, last, wanted))
        found = [v if w else None for v, w in zip(values, wanted, strict=True)]
        return (*found, *(None,) * (len(self.fields) - self.floats))

    def _save_backward(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *given, _, grad, grad_last, needs = inputs
        ctx.save_for_backward(*given[: self.tensors], grad, grad_last)
        ctx.options, ctx.needs = given[self.tensors :], needs
        ctx.set_materialize_grads(False)

    def _second_gradient(self, ctx: Any, *cotangents: Maybe) -> tuple[Maybe, ...]:
        """Derivatives of the backward in its tensors and in the gradients that came in, in plain PyTorch.

        The output that the backward reads is a function of the tensors here, so it gets none of its own.
        """
        *given, grad, grad_last = ctx.saved_tensors
        tensors, others = given[: self.floats], (*given[self.floats :], *ctx.options)
        grads = (grad, grad_last)[: self.outputs]
        used = [n for n, g in enumerate(grads) if g is not None]
        # an output that was not needed is empty, and what comes in for it says nothing
        wanted = [n for n, t in enumerate(tensors) if ctx.needs[n] and not (t is None or cotangents[n] is None)]
        count = len(self.fields) + 4
        if not wanted:
            return (None,) * count

        def forward(*floats: Tensor) -> list[Tensor]:
            outputs = self.formula(self.record(*_fill(tensors, floats), *others))
            return [outputs[n] for n in used]

        def first_derivative(floats: list[Tensor], incoming: list[Tensor]) -> list[Maybe]:
            pull = torch.func.vjp(forward, *floats)[1]
            pulled = _fill(tensors, pull(incoming))
            return [pulled[n] for n in wanted]

        floats, incoming = [t for t in tensors if t is not None], [g for g in grads if g is not None]
        with without_autocast(floats[0], autocast_enabled(floats[0])):
            pull = torch.func.vjp(first_derivative, floats, incoming)[1]
            of_floats, of_incoming = pull([cotangents[n] for n in wanted])
        of_grads = (*_fill(grads, of_incoming), None)[:2]
        skipped = (None,) * (len(self.fields) - self.floats + 1)  # flags, options and the saved output
        return (*_fill(tensors, of_floats), *skipped, *of_grads, None)

    def _map_op(self, info: Any, in_dims: Any, *arguments: Any) -> Any:
        return self._map(self.op, info, in_dims, arguments)

    def _map_op_backward(self, info: Any, in_dims: Any, *arguments: Any) -> Any:
        return self._map_backward(self.op_backward, info, in_dims, arguments)

    def _map(self, run: Callable[..., Any], info: Any, in_dims: Any, arguments: Sequence[Any]) -> Any:
        mapped = _Mapped(self.joins_terms, info.batch_size, arguments[0], in_dims[0])
        given = self._mapped_fields(mapped, in_dims, arguments)
        outputs = tuple(map(mapped.undo, _as_tuple(run(*given))))
        return _alone(outputs), 0 if self.outputs == 1 else (0,) * self.outputs

    def _map_backward(self, run: Callable[..., Any], info: Any, in_dims: Any, arguments: Sequence[Any]) -> Any:
        mapped = _Mapped(self.joins_terms, info.batch_size, arguments[0], in_dims[0])
        count = len(self.fields)
        *others, needs = arguments[count:]
        given = self._mapped_fields(mapped, in_dims, arguments, needs)
        grads = [mapped.tensor(t, dim) for t, dim in zip(others, in_dims[count : count + 3], strict=True)]
        values = [mapped.undo(v) for v in _as_tuple(run(*given, *grads, needs))]
        if "elapsed" in self.fields:
            n = self.fields.index("elapsed")
            if needs[n]:
                values[n] = mapped.sum_terms(values[n], arguments[n], in_dims[n])
        return _alone(tuple(values)), 0 if self.floats == 1 else (0,) * self.floats

    def _mapped_fields(
        self, mapped: _Mapped, in_dims: Any, arguments: Sequence[Any], needs: Sequence[bool] = ()
    ) -> list[Any]:
        """With `needs` every gradient that is needed is one for each of what is mapped."""
        tensors: list[Maybe] = []
        for n, field in enumerate(self.fields[: self.tensors]):
            if field in _BROADCAST:
                tensors.append(mapped.steps(arguments[n], in_dims[n], every_term=any(needs[n : n + 1])))
            else:
                tensors.append(mapped.tensor(arguments[n], in_dims[n]))
        return [*tensors, *arguments[self.tensors : len(self.fields)]]


def _unwrapped(arguments: tuple[Any, ...], tensors: int) -> list[Any]:
    """The arguments of a Function, of which so many are tensors, without wrappers of transforms that have ended."""
    return [*[t if t is None else unwrap_if_dead(t) for t in arguments[:tensors]], *arguments[tensors:]]


def learns(*tensors: Maybe) -> bool:
    """Whether a gradient may be asked of a function of these."""
    if torch.is_grad_enabled():
        for t in tensors:  # a loop: a generator takes twice the time
            if t is not None and t.requires_grad:
                return True
    return False


def is_plain(tensors: Iterable[Maybe]) -> bool:
    """Whether a launcher may be called without its op: tensors in ordinary memory, and nothing that watches operators.

    Fake tensors, make_fx and FLOP counters are dispatch modes. A subclass (DTensor) has rules for ops. The memory of a
    tensor with the negative bit does not hold its numbers.
    """
    for t in tensors:
        if t is not None and ((type(t) is not Tensor and type(t) is not Parameter) or t.is_meta or t.is_neg()):
            return False
    return not (
        _len_torch_dispatch_stack()
        or _len_torch_function_stack()
        or _are_functorch_transforms_active()
        or _get_tracing_state()
        or choice.forward_mode()
        or _profiler_enabled()
    )


class _Mapped:
    """vmap's dimension, moved to where the launchers take it: F terms mapped N times are N * F terms."""

    def __init__(self, joins_terms: bool, size: int, input: Tensor, dim: int | None) -> None:
        self.size, self.joins_terms = size, joins_terms
        self.terms = input.shape[1 if dim == 0 else 0]

    def tensor(self, value: Maybe, dim: int | None) -> Maybe:
        if value is None:
            return None
        value = value.expand(self.size, *value.shape) if dim is None else value.movedim(dim, 0)
        return value.flatten(0, 1) if self.joins_terms else value

    def steps(self, value: Maybe, dim: int | None, every_term: bool) -> Maybe:
        """A value of each step that broadcasts over terms keeps broadcasting, unless vmap maps it or `every_term`."""
        if value is None or (dim is None and value.shape[0] == 1 and not every_term):
            return value
        value = value[None] if dim is None else value.movedim(dim, 0)
        return value.expand(self.size, self.terms, *value.shape[2:]).flatten(0, 1)

    def sum_terms(self, gradient: Tensor, value: Tensor, dim: int | None) -> Tensor:
        """The gradient of what `steps` gave for every term, as that of the value."""
        own = value.shape[0] if dim is None else value.movedim(dim, 0).shape[1]
        return gradient.sum(1, keepdim=True) if own == 1 else gradient

    def undo(self, value: Tensor) -> Tensor:
        if value.numel() == 0:  # a gradient that was not needed
            return value.expand(self.size, *value.shape)
        return value.reshape(self.size, -1, *value.shape[1:]) if self.joins_terms else value


def _present(tensors: Sequence[Maybe]) -> list[Tensor]:
    """`tensors` with another of them, the first, in the place of None."""
    return [tensors[0] if t is None else t for t in tensors]  # type: ignore[misc]


def _fill(form: Sequence[Maybe], values: Any) -> list[Maybe]:
    """`values` at the places where `form` holds a tensor, None at the others."""
    rest = iter(values)
    return [None if t is None else next(rest) for t in form]


def _tensors(count: int) -> str:
    """The type of so many results in a schema."""
    return "Tensor" if count == 1 else f"({', '.join(['Tensor'] * count)})"


def _as_tuple(value: Any) -> Tensors:
    return (value,) if isinstance(value, Tensor) else tuple(value)


def _alone(values: Tensors) -> Tensor | Tensors:
    """An op and a Function give a single result bare."""
    return values[0] if len(values) == 1 else values
