"""One kernel launch as data, so that the launchers, ahead-of-time compilation and the tests share one set of
arguments."""

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from triton import knobs
from triton.runtime import driver

from .arithmetic import INTERPRETED, ROCM

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

# Compiled kernels that are kept by what they were compiled for. A model has a few dozen; past the bound all are looked
# up again in Triton's own cache, which has none.
MOST_KEPT = 4096
Kept = tuple[Any, Callable[[dict[str, Any]], tuple[Any, ...]]]
_kept: dict[Hashable, Kept] = {}

ALIGNMENT = 16  # bytes; Triton compiles a pointer that is a multiple of it apart
INT32 = -(2**31), 2**31 - 1


class _Watcher(threading.local):
    """Who is given the launches of this thread; None is nobody, and they run."""

    take: "Callable[[Launch], None] | None" = None


_watcher = _Watcher()


@contextlib.contextmanager
def watched(take: "Callable[[Launch], None]") -> Iterator[None]:
    """While it is open, `take` is given each launch of this thread in the place of running it."""
    before, _watcher.take = _watcher.take, take
    try:
        yield
    finally:
        _watcher.take = before


def is_watched() -> bool:
    """True inside `watched`, in the same thread."""
    return _watcher.take is not None


@dataclass(frozen=True)
class Launch:
    """`kernel[grid](**arguments, **constants, **options)` on the device and current stream of its tensors."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, Any]
    num_warps: int
    # how many the assembler may take per thread; left to itself it spills to have more warps resident. CUDA's alone
    max_registers: int | None = None

    @property
    def options(self) -> dict[str, int]:
        """Options of the compiler, beside the arguments."""
        limit = {} if self.max_registers is None or ROCM.value else {"maxnreg": self.max_registers}
        return {"num_warps": self.num_warps, **limit}

    @property
    def device(self) -> torch.device:
        """The device of its tensors."""
        return next(x.device for x in self.arguments.values() if isinstance(x, torch.Tensor))

    @property
    def specialisation(self) -> tuple[Hashable, ...]:
        """Decides which code is compiled: the dtype of a tensor and the alignment of its address; the bits of a whole
        number, since no kernel specialises on the number itself; and the constants."""
        specialised = [
            INT32[0] <= value <= INT32[1] if type(value) is int
            else value if value is None
            else (value.dtype, value.data_ptr() % ALIGNMENT == 0)
            for value in self.arguments.values()
        ]  # fmt: skip
        return (self.kernel.fn, self.num_warps, self.max_registers, *specialised, *self.constants.values())

    def run(self) -> None:
        """Launches it, or gives it to who watches this thread."""
        if _watcher.take is None:
            self.execute()
        else:
            _watcher.take(self)

    def execute(self) -> None:
        """Launches it."""
        device = self.device
        with on_device(device):
            if INTERPRETED.value:
                self.kernel[self.grid](**self.arguments, **self.constants, **self.options)
            else:
                self._launch(device.index)

    def _launch(self, device: int | None) -> None:
        code, in_order = self.code(device)
        start(code, self.axes, in_order({**self.arguments, **self.constants}))

    def code(self, device: int | None) -> Kept:
        """The code of this launch for the current device, `device`, and a function that puts the arguments in order.

        Triton's own road to it reads the signature and takes three times as long as the one that is kept.
        """
        key = device, self.specialisation
        kept = _kept.get(key)
        if kept is None:
            if len(_kept) >= MOST_KEPT:
                _kept.clear()
            code = self.kernel.warmup(grid=self.grid, **self.arguments, **self.constants, **self.options)
            kept = _kept[key] = code, itemgetter(*self.kernel.arg_names)
        return kept

    @property
    def axes(self) -> tuple[int, ...]:
        """The grid as three numbers."""
        return (*self.grid, 1, 1)[:3]


def start(code: Any, axes: tuple[int, ...], given: Sequence[Any]) -> None:
    """Launches compiled code on the current device. A pointer is a tensor, or an address."""
    hooks = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
    for hook in hooks:
        if getattr(hook, "calls", hook):  # a profiler's: Triton describes the launch to it
            code[axes](*given)
            return
    active = driver.active
    stream = active.get_current_stream(active.get_current_device())
    code.run(*axes, stream, code.function, code.packed_metadata, None, None, None, *given)


def on_device(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Triton launches on torch's current device, which need not be the one that holds the tensors."""
    elsewhere = device.type == "cuda" and device.index != torch.cuda.current_device()
    return torch.cuda.device(device) if elsewhere else contextlib.nullcontext()


def check_dtypes(**tensors: torch.Tensor | None) -> None:
    """Raises TypeError for a tensor that no kernel reads."""
    for name, x in tensors.items():
        if x is not None and x.dtype not in DTYPES:
            raise TypeError(f"{name}: expected float32, bfloat16 or float16, got {x.dtype}")
