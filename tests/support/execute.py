"""Runs launches as compiled code on a CPU: the launchers as they are, with the PTX executor in the place of the GPU."""

import contextlib
import math
from collections.abc import Iterator

import torch

from rnam.kernels.common.launch import Launch
from tests.support.compile import ALIGNMENT, compile_launch
from tests.support.ptx_sim import Machine

EXECUTED_CC = 80
SCRATCH_POINTERS = 2  # triton appends pointers to global and profiling scratch memory, which these kernels do not use


def memory_of(x: torch.Tensor) -> torch.Tensor:
    """The bytes from the first to the last element of a tensor, as a view. Nothing outside them may be touched."""
    span = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
    return x.as_strided((span,), (1,)).view(torch.uint8)


def execute(launch: Launch) -> Machine:
    """Compiles a launch for sm_80 and executes its whole grid; the tensors hold what the kernel wrote."""
    compiled = compile_launch(launch, EXECUTED_CC)
    machine = Machine(compiled.asm["ptx"], 32 * launch.num_warps, compiled.metadata.shared)
    values, buffers = [], []
    for parameter in launch.kernel.params:
        value = (launch.arguments | launch.constants)[parameter.name]
        if parameter.is_constexpr or value is None:
            continue
        if isinstance(value, torch.Tensor):
            memory = memory_of(value)
            address = machine.alloc(memory.numpy(), value.data_ptr() % ALIGNMENT)
            buffers.append((memory, address))
            value = address
        values.append(value)
    grid = (*launch.grid, 1, 1)[:3]
    for i in range(math.prod(grid)):
        program = (i % grid[0], i // grid[0] % grid[1], i // (grid[0] * grid[1]))
        machine.run(values + [0] * SCRATCH_POINTERS, program, grid)
    for memory, address in buffers:
        memory.copy_(torch.from_numpy(machine.read(address, "u1", (memory.numel(),))))
    return machine


@contextlib.contextmanager
def compiled_code() -> Iterator[list[Launch]]:
    """While it is open every launch runs in the executor; gives the list of them."""
    launches: list[Launch] = []
    original = Launch.run

    def run(self: Launch) -> None:
        launches.append(self)
        execute(self)

    Launch.run = run
    try:
        yield launches
    finally:
        Launch.run = original
