"""`compile_ahead`: the kernels of a model, compiled before its first step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rnam import _checks
from rnam.backends import choice
from rnam.gru import Cell
from rnam.linear import Linear
from rnam.models.nam import NAM
from rnam.models.rnam import RNAM

__all__ = ["Compiled", "compile_ahead"]

States = list[tuple[dict[Any, Any], dict[Any, Any]]]  # dictionaries of modules, and what they held before


class Compiled(NamedTuple):
    """The names of the kernels that the model launches, once for each code of them; and the reason why there is nothing
    to compile, or an empty string."""

    kernels: tuple[str, ...]
    reason: str


def compile_ahead(
    model: nn.Module,
    batch: int,
    seq: int = 1,
    *,
    mask: bool = False,
    training: bool = True,
    inference: bool = True,
    threads: int | None = None,
    progress: bool = True,
    **options: Any,
) -> Compiled:
    """Compile the kernels that a model will launch, so that its first step does not wait for the compiler.

    A kernel is compiled when it is first launched, which takes a second or two, and is kept on disk for later
    processes. Here the model is called with zeros, its launches are written down and not made, and their kernels are
    compiled at once, in threads. Call it inside `rnam.set_backend` and `torch.autocast` where the steps will be.

    The model is as before: its parameters, their gradients, its buffers, and the states of random number generators. No
    hook of its modules is called. Another thread may not use it meanwhile. The call takes the memory of one step.

    Other kernels are compiled later for sizes that do not divide alike, for inputs that are not contiguous, and for
    masks that come or go. Compile for the sizes of the last batch too where it is shorter.

    Args:
        model: an RNAM, NAM, minGRU, minLSTM or Linear, on the device of its steps. In another module, compile each
            of these.
        batch, seq: the sizes of its input; a NAM has no steps.
        mask: whether a mask is given. A Linear takes none.
        training: compile a call with gradients and its backward.
        inference: compile a call without gradients.
        threads: how many kernels are compiled at once; None is the number of cores, 8 at most.
        progress: show a progress bar in a terminal, where tqdm is installed.
        options: further arguments of the model's call, such as return_sequence=True. Tensors are not changed.

    Returns:
        kernels: the name of each kernel that the calls launch, once for each code of it.
        reason: why there is nothing to compile, as for a model on a CPU; else empty.

    Raises:
        TypeError: model is none of these, a size is no int, a flag no bool.
        ValueError: a size is less than 1, neither training nor inference is asked for, or a Linear is given a mask.
        RuntimeError: the backend that is set can't run the model.

    Example:
        >>> model = rnam.RNAM(terms=3, hidden_dim=8, out_dim=1, blocks=2)
        >>> rnam.compile_ahead(model, 64, 200, mask=True)
        Compiled(kernels=(), reason="backend 'auto' takes 'torch' for CPU tensors")
    """
    batch, seq = _checks.positive_int("batch", batch), _checks.positive_int("seq", seq)
    for name, flag in (("mask", mask), ("training", training), ("inference", inference), ("progress", progress)):
        _checks.boolean_flag(name, flag)
    if not (training or inference):
        raise ValueError("training or inference must be True, got False for both")
    threads = min(8, os.cpu_count() or 1) if threads is None else _checks.positive_int("threads", threads)
    with torch.inference_mode(False):  # a tensor of that mode learns nothing
        arguments, given = _zeros(model, batch, seq, mask)
    x = arguments[0]
    if choice.path(x.device, x.dtype) != "triton":
        return Compiled((), choice.explain(x.device, x.dtype)[1])
    from rnam.kernels.common import ahead
    from rnam.kernels.common.arithmetic import INTERPRETED

    if INTERPRETED.value:
        return Compiled((), "Triton's interpreter compiles nothing")
    calls = [_step] * training + [_evaluation] * inference
    with _set_apart(model):
        codes = ahead.needed(lambda: [call(model, arguments, given | options) for call in calls])
    with _bar(progress) as bar:
        ahead.compile_codes(codes, threads=threads, started=bar.reset, finished=bar.update)
    return Compiled(tuple(code.launch.kernel.__name__ for code in codes), "")


def _zeros(model: nn.Module, batch: int, seq: int, mask: bool) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The input of a model and its mask, and what else a call of it must have."""
    like: Tensor
    if isinstance(model, RNAM | NAM):
        like, columns = model.gam.bias, model.columns
        sizes = (batch,) if isinstance(model, NAM) else (batch, seq)
        # the mask has the sizes of the input, but for terms that are no columns
        others = getattr(model, "memoryless_columns", None)
        least = 0 if columns is None else max(columns.least, 0 if others is None else others.least)
        shape = (model.terms, *sizes, model.in_dim) if columns is None else (*sizes, least)
        observed = shape[:3] if columns is None else shape
    elif isinstance(model, Cell | Linear):
        like = (model.to_hidden_and_gate if isinstance(model, Cell) else model).weight
        shape = (like.shape[0], batch, seq, like.shape[1])
        observed = shape[:3]
    else:
        expected = "an RNAM, NAM, minGRU, minLSTM or Linear"
        raise TypeError(
            f"model must be {expected}, got {type(model).__name__}; in another module, compile each of these"
        )
    if mask and isinstance(model, Linear):
        raise ValueError("mask must be False for a Linear, which takes none, got True")
    arguments = [like.new_zeros(shape)]
    given = {"mask": like.new_ones(observed, dtype=torch.bool)} if mask else {}
    if isinstance(model, RNAM) and model.reads_times:
        given["times"] = like.new_zeros(batch, seq)
    if isinstance(model, RNAM) and model.static_columns is not None:
        given["static"] = like.new_zeros(batch, model.static_columns.least)
    return arguments, given


def _step(model: nn.Module, arguments: list[Tensor], given: dict[str, Any]) -> None:
    """A call with gradients, and its backwards: of the first output, and of all. A layer is called twice, since the
    input of the first layer wants no gradient and that of a later one does."""
    _backwards(model, arguments, given)
    if isinstance(model, Cell | Linear):
        _backwards(model, [x.detach().requires_grad_() for x in arguments], given)


def _backwards(model: nn.Module, arguments: list[Tensor], given: dict[str, Any]) -> None:
    wanted = [x for x in (*model.parameters(), *arguments) if x.requires_grad]
    with torch.enable_grad():
        output = model(*arguments, **given)
    outputs = [output] if isinstance(output, Tensor) else list(output)
    for some in (outputs[:1], outputs):
        learned = [x for x in some if x.requires_grad]
        if learned:
            torch.autograd.grad(
                learned, wanted, [torch.zeros_like(x) for x in learned], retain_graph=True, allow_unused=True
            )


def _evaluation(model: nn.Module, arguments: list[Tensor], given: dict[str, Any]) -> None:
    with torch.no_grad():
        model(*arguments, **given)


@contextlib.contextmanager
def _set_apart(model: nn.Module) -> Iterator[None]:
    """While it is open, calls of the model and backwards in this thread leave nothing behind.

    Its parameters are others in the same memory, which have no gradients and no hooks; its buffers are copies. The
    hooks of its modules are there and do nothing: a module that has some goes another way.
    """
    states: States = []
    others: dict[nn.Parameter, nn.Parameter] = {}

    def other(p: nn.Parameter) -> nn.Parameter:
        return others.setdefault(p, nn.Parameter(p.detach(), requires_grad=p.requires_grad))

    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    try:
        with (
            torch.inference_mode(False),
            torch.random.fork_rng(devices),
            torch.autograd.set_detect_anomaly(False),  # what kernels would fill may hold NaN
            torch.autograd.set_multithreading_enabled(False),  # launches are seen in this thread
        ):
            for module in model.modules():
                own = module.__dict__
                _swap(states, own["_parameters"], other)
                _swap(states, own["_buffers"], torch.clone)
                for hooks in _HOOKS:
                    _swap(states, own[hooks], lambda _: _silent)
            yield
    finally:
        for values, before in states:
            values.update(before)


_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def _silent(*arguments: Any, **options: Any) -> None:
    """In the place of a hook."""


def _swap(states: States, values: dict[Any, Any], other: Callable[[Any], Any]) -> None:
    """Puts another value in the place of each that is not None, and writes down what was there."""
    states.append((values, dict(values)))
    values.update({key: other(value) for key, value in values.items() if value is not None})


class _NoBar:
    """In the place of a progress bar."""

    def reset(self, total: int) -> None:
        pass

    def update(self) -> None:
        pass


def _bar(progress: bool) -> contextlib.AbstractContextManager[Any]:
    try:
        from tqdm import tqdm
    except ImportError:
        return contextlib.nullcontext(_NoBar())
    bar: contextlib.AbstractContextManager[Any] = tqdm(
        desc="Compiling", unit="kernel", disable=None if progress else True, dynamic_ncols=True
    )
    return bar
