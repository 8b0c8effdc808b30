"""Plans: the work of a launcher for tensors of one layout, written down once, so that later calls allocate and launch
alone.

A launcher is a function of layouts: where two calls have tensors of the same dtypes, shapes, strides, devices and
alignments, and other arguments that are equal, it makes the same operations and launches on other memory. The first
call of a kind runs as it is written. The second is watched and becomes a plan: its operations and launches in order,
with numbers in the place of tensors. Later calls run the plan. A plan holds no tensor, and sizes that come once cost a
look into a dictionary.
"""

import functools
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .arithmetic import INTERPRETED
from .launch import ALIGNMENT, Launch, is_watched, on_device, start, watched

__all__ = ["MOST_PLANS", "Plan", "planned"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Values = list[Tensor]  # the operands of a call, then what its steps make
Step = Callable[[Values], None]

NESTED = (tuple, list)

# A training step has some dozen kinds of calls for each size of batch. Past the bound all are planned again.
MOST_PLANS = 4096
_plans: "dict[Hashable, Plan | None]" = {}  # None: a kind that came once

# A tool that puts something else in its place sees every launch, since there are no plans then.
_RUN = Launch.run

aten = torch.ops.aten

_GONE = torch.empty(0)  # in the place of a tensor that no later step reads
ALLOCATIONS = (
    aten.empty.memory_format,
    aten.empty_like.default,
    aten.empty_strided.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
)


def planned(launcher: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The launcher, whose calls follow plans.

    It takes tensors, hashable values and tuples of these, and gives a tensor, None, or a tuple of these. It never looks
    at what a tensor holds. Beside its arguments it may read the precision of float32 products, and nothing else that
    changes.
    """

    @functools.wraps(launcher)
    def call(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        if is_watched() or Launch.run is not _RUN:
            return launcher(*arguments, **options)
        key: list[Hashable] = [launcher, torch.backends.cuda.matmul.fp32_precision]
        operands: Values = []
        _describe(arguments, key, operands)
        for name, value in options.items():
            key.append(name)
            _describe((value,), key, operands)
        kind = tuple(key)
        plan = _plans.get(kind)
        if plan is not None:
            for step in plan.steps:  # here: a function more would be one more on every call's stack
                step(operands)
            return _filled(plan.result, operands)  # type: ignore[no-any-return]
        if kind not in _plans:
            if len(_plans) >= MOST_PLANS:
                _plans.clear()
            _plans[kind] = None
        elif not torch.is_autocast_enabled(operands[0].device.type) and not _learns(operands):
            # the casts of autocast are below what is watched, and so is what autograd writes down
            trace = _Trace(operands)
            result = trace.watch(launcher, arguments, options)
            form = trace.form(result)
            _plans[kind] = Plan(trace.forgetful(form), form)
            return _filled(form, operands + trace.made)  # type: ignore[no-any-return]
        return launcher(*arguments, **options)

    return call


def _learns(operands: Values) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in operands)


def _describe(values: Iterable[Any], key: list[Hashable], operands: Values) -> None:
    """Adds to `key` what decides about a plan, and to `operands` the tensors."""
    for value in values:
        if value is None:
            key.append(None)
        elif isinstance(value, Tensor):
            operands.append(value)
            aligned = value.data_ptr() % ALIGNMENT == 0
            key.append((value.dtype, value.shape, value.stride(), aligned, value.device))
        elif isinstance(value, NESTED):
            key.append((type(value), len(value)))
            _describe(value, key, operands)
        else:
            key.append(value)


@dataclass
class Plan:
    """The steps of a launcher, each of which adds the tensors that it makes to the values of a call, and the result,
    with places for tensors."""

    steps: list[Step]
    result: Any


class _Place(int):
    """The number of a tensor among the values of a call."""


def _filled(form: Any, values: Values) -> Any:
    """`form` with tensors in their places."""
    if type(form) is _Place:
        return values[form]
    if type(form) is tuple:
        # most parts are places, and a call takes longer than a look
        return tuple([values[part] if type(part) is _Place else _filled(part, values) for part in form])
    if type(form) is list:
        return [_filled(part, values) for part in form]
    return form


class _Trace(TorchDispatchMode):
    """Watches one call of a launcher: its torch operations, as a dispatch mode, and its launches."""

    def __init__(self, operands: Values) -> None:
        super().__init__()
        # a tensor that comes as two operands may come as two tensors the next time
        self.operands = [x.detach() for x in operands]
        self.made: Values = []  # kept, so that no other tensor gets the id of one of these
        self.places = {id(x): _Place(n) for n, x in enumerate(self.operands)}
        self.steps: list[Step] = []
        self.read: list[set[_Place]] = []  # by each step
        self.launching = False

    def watch(self, launcher: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """The result of the call."""
        rest = iter(self.operands)
        arguments = tuple([_replaced(value, rest) for value in arguments])
        options = {name: _replaced(value, rest) for name, value in options.items()}
        with self, watched(self.launch):
            return launcher(*arguments, **options)

    def forgetful(self, result: Any) -> list[Step]:
        """The steps, and between them others that drop what no later one reads, so that a plan holds no more memory
        than its launcher."""
        kept = _places(result)
        last: dict[int, list[_Place]] = {}
        for place in self.places.values():
            if place >= len(self.operands) and place not in kept:
                readers = [n for n, read in enumerate(self.read) if place in read]
                last.setdefault(max(readers, default=len(self.steps)), []).append(place)
        steps: list[Step] = []
        for n, step in enumerate(self.steps):
            steps.append(step)
            if n in last and n + 1 < len(self.steps):
                steps.append(_forgetting(last[n]))
        return steps

    def form(self, value: Any) -> Any:
        """`value` with places for tensors."""
        if isinstance(value, Tensor):
            if id(value) not in self.places:
                raise RuntimeError("a launcher read a tensor that is neither an operand nor made by its operations")
            return self.places[id(value)]
        return type(value)([self.form(part) for part in value]) if type(value) in (tuple, list) else value

    def launch(self, launch: Launch) -> None:
        self.launching = True  # in the interpreter a launch is made of torch operations
        launch.execute()
        self.launching = False
        arguments = {name: self.form(value) for name, value in launch.arguments.items()}
        self.read.append(_places(list(arguments.values())))
        self.steps.append(_launching(launch, replace(launch, arguments=arguments)))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self.launching:
            outputs = list(result) if isinstance(result, NESTED) else [result]
            if not all(isinstance(x, Tensor) for x in outputs):
                raise RuntimeError(f"a launcher may not look at values, got {func}")
            new = [x for x in outputs if id(x) not in self.places]  # an operation in place gives its operand
            form = self.form(args), {name: self.form(value) for name, value in kwargs.items()}
            self.read.append(_places([form[0], list(form[1].values())]))
            picked = [n for n, x in enumerate(outputs) if id(x) not in self.places]
            for x in new:
                self.places[id(x)] = _Place(len(self.operands) + len(self.made))
                self.made.append(x)
            self.steps.append(_allocating(result) if func in ALLOCATIONS else _operating(func, form, picked))
        return result


def _places(form: Any) -> "set[_Place]":
    if type(form) is _Place:
        return {form}
    return set().union(*map(_places, form)) if isinstance(form, NESTED) else set()


def _forgetting(places: "list[_Place]") -> Step:
    def step(values: Values) -> None:
        for place in places:
            values[place] = _GONE

    return step


def _replaced(value: Any, tensors: Any) -> Any:
    """`value` with the next of `tensors` in the place of each tensor."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, NESTED):
        parts = [_replaced(part, tensors) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _allocating(like: Tensor) -> Step:
    size, stride, dtype, device = like.shape, like.stride(), like.dtype, like.device

    def step(values: Values) -> None:
        values.append(torch.empty_strided(size, stride, dtype=dtype, device=device))

    return step


def _operating(func: Any, form: tuple[Any, dict[str, Any]], picked: list[int]) -> Step:
    """The step of an operation whose outputs `picked` are new tensors."""
    arguments, options = form

    def step(values: Values) -> None:
        given = {name: _filled(value, values) for name, value in options.items()} if options else {}
        result = func(*_filled(arguments, values), **given)
        if isinstance(result, NESTED):
            values.extend([result[n] for n in picked])
        elif picked:
            values.append(result)

    return step


def _launching(launch: Launch, pattern: Launch) -> Step:
    """The step of a launch that ran; `pattern` is the same with places for tensors."""

    def anew(values: Values) -> None:
        arguments = {name: _filled(value, values) for name, value in pattern.arguments.items()}
        replace(pattern, arguments=arguments).execute()

    if INTERPRETED.value:
        return anew
    device, axes = launch.device, launch.axes
    with on_device(device):
        code, in_order = launch.code(device.index)
    template: list[Any] = list(in_order({**pattern.arguments, **pattern.constants}))
    tensors = in_order({**launch.arguments, **launch.constants})
    places = [
        (i, number, tensors[i].data_ptr() % ALIGNMENT == 0)
        for i, number in enumerate(template)
        if type(number) is _Place
    ]  # fmt: skip
    elsewhere = device.type == "cuda"

    def step(values: Values) -> None:
        given = template.copy()
        for i, number, aligned in places:
            address = values[number].data_ptr()
            if (address % ALIGNMENT == 0) is not aligned:  # of memory that an allocator gave
                return anew(values)
            given[i] = address
        if elsewhere:
            with on_device(device):
                start(code, axes, given)
        else:
            start(code, axes, given)

    return step
