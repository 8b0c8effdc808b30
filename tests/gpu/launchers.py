"""The kernels as the stages name them. Of the modules that time and compile, this alone imports `rnam.kernels`."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import rnam
from rnam.backends import choice
from rnam.backends.calls import Recurrence
from rnam.kernels import MIN_GRU, recurrence_backward, recurrence_forward
from rnam.kernels.common.config import LaunchConfig
from rnam.kernels.common.launch import Launch
from rnam.kernels.min_gru.config import is_fused, select_config, table_config
from tests.gpu.occupancy import programs_per_sm

TIME_ROWS, BATCH_ROWS = "rows of time", "batch rows"

# Launch numbers by the name that a variant gives them.
_FIELDS = {"steps": "STEPS", "warps": "num_warps", "stages": "STAGES"}


def config(pass_: str, x: Tensor, weight: Tensor, form: str | None = None, **changes: int) -> LaunchConfig:
    """The table's entry of a pass ("forward", "backward") for these tensors, in its own form or in `form`, with changed
    steps, warps or stages."""
    terms, batch, steps, dim = x.shape
    widths = dim, weight.shape[2] // 2, x.dtype
    if not is_fused(*widths, pass_):
        raise ValueError(f"no kernel has a {pass_} of these widths")
    chosen = select_config(*widths, terms, batch, steps, pass_)
    if form is not None:
        chosen = table_config(pass_, form == BATCH_ROWS, *widths)
    return dataclasses.replace(chosen, **{_FIELDS[name]: value for name, value in changes.items()})


class _MinGRU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, forward: LaunchConfig | None, backward: LaunchConfig | None
    ) -> Tensor:
        h, _ = recurrence_forward(Recurrence(x, weight), MIN_GRU, config=forward)
        ctx.save_for_backward(x, weight, h)
        ctx.backward_config = backward
        return h

    @staticmethod
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, h = ctx.saved_tensors
        call, config = Recurrence(x, weight), ctx.backward_config
        dx, dweight, *_ = recurrence_backward(call, MIN_GRU, h, dh, None, config=config)
        return dx, dweight, None, None


def min_gru(x: Tensor, weight: Tensor, forward: LaunchConfig | None, backward: LaunchConfig | None) -> Tensor:
    """h of a minGRU by its fused kernels, with these launch numbers; None is the table's."""
    return _MinGRU.apply(x, weight, forward, backward)


@contextlib.contextmanager
def _each_launch(run: Callable[[Launch], None]) -> Iterator[None]:
    before = Launch.run
    Launch.run = run
    try:
        yield
    finally:
        Launch.run = before


def registers(most: int) -> contextlib.AbstractContextManager[None]:
    """While it is open, kernels are compiled with at most so many registers a thread."""
    before = Launch.run
    return _each_launch(lambda launch: before(dataclasses.replace(launch, max_registers=most)))


def kernels_of(call: Callable[[], Any]) -> list[dict[str, Any]]:
    """The kernels that a call launches, each with its programs, warps, registers, spills and shared memory, and the
    programs that an SM holds at once. None in the interpreter, which compiles nothing."""
    found: list[dict[str, Any]] = []
    device = torch.cuda.get_device_properties() if torch.cuda.is_available() else None

    def run(launch: Launch) -> None:
        tensor = next(x for x in launch.arguments.values() if isinstance(x, torch.Tensor))
        with torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext():
            compiled = launch.kernel[launch.grid](**launch.arguments, **launch.constants, **launch.options)
        if compiled is None:
            return
        used = {"registers": compiled.n_regs, "shared": compiled.metadata.shared, "warps": launch.num_warps}
        programs = 1
        for axis in launch.grid:
            programs *= axis
        row = {"kernel": launch.kernel.__name__, "programs": programs, **used, "spills": compiled.n_spills}
        if device is not None:
            row["programs_per_sm"] = programs_per_sm(device, **used)
        found.append(row)

    with _each_launch(run):
        call()
    return found


@contextlib.contextmanager
def on_cpu_tensors() -> Iterator[None]:
    """While it is open the kernels take CPU tensors, as in the interpreter: for a driver that launches nothing."""
    before = choice._INTERPRETED
    choice._INTERPRETED = True
    try:
        with rnam.set_backend("triton"):
            yield
    finally:
        choice._INTERPRETED = before
