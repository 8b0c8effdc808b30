"""Compiling the code of launches that are not made: they are collected, then compiled in threads."""

import contextvars
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, NamedTuple

import torch
import triton
from triton.runtime.jit import JITFunction

from .arithmetic import INTERPRETED
from .launch import ALIGNMENT, Launch, on_device, watched

__all__ = ["Code", "compile_codes", "needed"]


@dataclass(frozen=True)
class _Address:
    """Stands for a tensor: Triton asks it for these to choose the code."""

    dtype: torch.dtype
    offset: int  # 0 where the address is a multiple of ALIGNMENT

    def data_ptr(self) -> int:
        return self.offset


class Code(NamedTuple):
    """A launch without memory, and the device that it is for."""

    device: torch.device
    launch: Launch


def needed(call: Callable[[], object]) -> list[Code]:
    """The codes that a call launches in this thread, each once and in order. Nothing is launched: what the kernels
    would fill stays as it was."""
    found: dict[Hashable, Code] = {}

    def take(launch: Launch) -> None:
        key = launch.device, launch.specialisation
        if key not in found:
            arguments = {
                name: _Address(x.dtype, x.data_ptr() % ALIGNMENT) if isinstance(x, torch.Tensor) else x
                for name, x in launch.arguments.items()
            }
            found[key] = Code(launch.device, replace(launch, arguments=arguments))

    with watched(take):
        call()
    return list(found.values())


@contextmanager
def _sources_in_turn() -> Iterator[None]:
    """One thread at a time parses the source of a kernel. CPython before 3.11.8 and 3.12.2 counts the depth of all the
    syntax trees that are being built in one number, and raises SystemError where threads build two
    (https://github.com/python/cpython/issues/106905)."""
    parse, turn = JITFunction.parse, Lock()

    def in_turn(function: Any) -> Any:
        with turn:
            return parse(function)

    JITFunction.parse = in_turn
    try:
        yield
    finally:
        JITFunction.parse = parse


def compile_codes(
    codes: list[Code], *, threads: int, started: Callable[[int], None], finished: Callable[[], None]
) -> None:
    """Compiles for the devices of the codes, so many at once. Triton keeps them where a launch looks.

    started   is told how many there are that this process has not compiled yet.
    finished  is called after each of them.

    Raises RuntimeError in Triton's interpreter, which compiles nothing, and what Triton raises for code that it cannot
    compile.
    """
    if INTERPRETED.value:
        raise RuntimeError("Triton's interpreter compiles nothing")

    def work() -> None:
        with (
            _sources_in_turn(),
            ThreadPoolExecutor(threads) as executor,
            triton.AsyncCompileMode(executor) as mode,
        ):
            for device, launch in codes:
                values: dict[str, Any] = {**launch.arguments, **launch.constants, **launch.options}
                with on_device(device):
                    launch.kernel.warmup(grid=launch.grid, **values)
            started(len(mode.raw_futures))
            for _ in as_completed(mode.raw_futures):
                finished()

    # Triton's mode is a context variable, which an error leaves set
    contextvars.copy_context().run(work)
