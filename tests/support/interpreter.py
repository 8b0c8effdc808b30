"""Settings of the Triton interpreter: fast scans, and programs in any order that touch no address of one another.

The interpreter calls the combine function of a scan once for each element, in Python, and it runs the programs of a
grid in turn.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder

from tools.ptx.launch import memory_of
from tools.ptx.programs import Accesses, Program, order


def _scan(self, inputs):
    """`ScanOps.generic_scan` with one call per index of the axis, on slices: the same operations in the same order."""
    arrays = [x.handle.data for x in inputs]
    out = [np.empty_like(a) for a in arrays]
    last = None
    for i in range(arrays[0].shape[self.axis]):
        at = (slice(None),) * self.axis + (slice(i, i + 1),)
        here = tuple(self.to_tensor(a[at], x.dtype) for a, x in zip(arrays, inputs, strict=True))
        if last is not None:
            here = self.combine_fn.fn(*last, *here)
            here = here if isinstance(here, tuple) else (here,)
        last = here
        for o, x in zip(out, here, strict=True):
            o[at] = x.handle.data
    return [self.to_tensor(o, x.dtype) for o, x in zip(out, inputs, strict=True)]


@contextlib.contextmanager
def vectorised_scans() -> Iterator[None]:
    """Replaces the interpreter's scan while it is open."""
    with mock.patch.object(interpreter.ScanOps, "generic_scan", _scan):
        yield


_LAUNCH = GridExecutor.__call__
_SET_GRID = InterpreterBuilder.set_grid_dim
_SET_PROGRAM = InterpreterBuilder.set_grid_idx
_LOAD = InterpreterBuilder.create_masked_load
_STORE = InterpreterBuilder.create_masked_store


@contextlib.contextmanager
def programs(seed: int | None = None, *, check: bool = True) -> Iterator[None]:
    """While it is open, programs run in turn, or with a seed in the order that `tools.ptx.programs.order` draws.

    With `check`, RaceError says that one program of a launch touches what another one writes. Inside another such
    context this one holds.
    """
    accesses = Accesses()
    turns: Iterator[Program] = iter(())

    def launch(self: GridExecutor, *args: Any, **kwargs: Any) -> None:
        nonlocal accesses
        accesses = Accesses()
        _LAUNCH(self, *args, **kwargs)
        if check:
            values = dict(zip(self.arg_names, args, strict=False)) | kwargs
            tensors = {name: x for name, x in values.items() if isinstance(x, torch.Tensor)}
            accesses.check(self.fn.__name__, {k: (x.data_ptr(), memory_of(x).numel()) for k, x in tensors.items()})

    def set_grid(self: InterpreterBuilder, *grid: int) -> None:
        nonlocal turns
        turns = iter(order(grid, seed))
        _SET_GRID(self, *grid)

    def set_program(self: InterpreterBuilder, *in_turn: int) -> None:
        program = next(turns)
        accesses.start(program)
        _SET_PROGRAM(self, *program)

    def load(self: InterpreterBuilder, pointers: Any, mask: Any, *others: Any) -> Any:
        accesses.read(pointers.data[mask.data.astype(bool)], pointers.get_element_ty().primitive_bitwidth // 8)
        return _LOAD(self, pointers, mask, *others)

    def store(self: InterpreterBuilder, pointers: Any, value: Any, mask: Any, *others: Any) -> Any:
        accesses.write(pointers.data[mask.data.astype(bool)], pointers.get_element_ty().primitive_bitwidth // 8)
        return _STORE(self, pointers, value, mask, *others)

    noted = dict(create_masked_load=load, create_masked_store=store) if check else {}
    with (
        mock.patch.object(GridExecutor, "__call__", launch),
        mock.patch.multiple(InterpreterBuilder, set_grid_dim=set_grid, set_grid_idx=set_program, **noted),
    ):
        yield
