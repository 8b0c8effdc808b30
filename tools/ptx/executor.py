"""Executes launches as compiled code on a CPU: launchers stay as they are, and the machine takes the place of a GPU."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import TypeVar
from unittest import mock

import torch

from tools.ptx.compile import ALIGNMENT, compile_launch
from tools.ptx.launch import Launch
from tools.ptx.machine import Machine

EXECUTED_CC = 80
SCRATCH_POINTERS = 2  # Triton appends pointers to global and profiling scratch memory, which no kernel here uses

AnyLaunch = TypeVar("AnyLaunch", bound=Launch)


def execute(launch: Launch) -> None:
    """Compiles a launch for sm_80 and executes its whole grid. Its tensors then hold what the kernel wrote."""
    compiled = compile_launch(launch, EXECUTED_CC)
    machine = Machine(compiled.asm["ptx"], 32 * launch.options["num_warps"], compiled.metadata.shared)
    values, buffers = [], []
    for parameter in launch.kernel.params:
        value = None if parameter.is_constexpr else launch.arguments[parameter.name]
        if value is None:
            continue
        if isinstance(value, torch.Tensor):
            memory = memory_of(value)
            address = machine.memory.alloc(memory.numpy(), value.data_ptr() % ALIGNMENT)
            buffers.append((memory, address))
            value = address
        values.append(value)
    width, height, depth = (*launch.grid, 1, 1)[:3]
    for z, y, x in itertools.product(range(depth), range(height), range(width)):
        machine.run(values + [0] * SCRATCH_POINTERS, (x, y, z), (width, height, depth))
    for memory, address in buffers:
        memory.copy_(torch.from_numpy(machine.memory.read(address, "u1", (memory.numel(),))))


def memory_of(x: torch.Tensor) -> torch.Tensor:
    """The bytes from the first to the last element of a tensor, as a view. A kernel may touch nothing else."""
    span = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
    return x.as_strided((span,), (1,)).view(torch.uint8)


@contextlib.contextmanager
def executed(launch_type: type[AnyLaunch]) -> Iterator[list[AnyLaunch]]:
    """While it is open, `run` of every launch of this class executes it here. Gives the list of those launches."""
    launches: list[AnyLaunch] = []

    def run(launch: AnyLaunch) -> None:
        launches.append(launch)
        execute(launch)

    with mock.patch.object(launch_type, "run", run):
        yield launches
