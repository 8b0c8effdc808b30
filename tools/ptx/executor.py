"""Executes launches as compiled code on a CPU: launchers stay as they are, and the machine takes the place of a GPU."""

import contextlib
from collections.abc import Iterator
from typing import TypeVar
from unittest import mock

import torch

from tools.ptx.compile import ALIGNMENT, compile_launch
from tools.ptx.launch import Launch, memory_of
from tools.ptx.machine import Machine
from tools.ptx.programs import Accesses, order

EXECUTED_CC = 80
SCRATCH_POINTERS = 2  # Triton appends pointers to global and profiling scratch memory, which no kernel here uses

AnyLaunch = TypeVar("AnyLaunch", bound=Launch)


def execute(launch: Launch, *, seed: int | None = None, check: bool = True) -> None:
    """Compiles a launch for sm_80 and executes its whole grid. Its tensors then hold what the kernel wrote.

    Programs run in turn, or with a seed in the order that `programs.order` draws. With `check`, RaceError says that one
    of them touches what another one writes.
    """
    compiled = compile_launch(launch, EXECUTED_CC)
    machine = Machine(compiled.asm["ptx"], 32 * launch.options["num_warps"], compiled.metadata.shared)
    values: list[int | float] = []
    buffers = {}
    for parameter in launch.kernel.params:
        value = None if parameter.is_constexpr else launch.arguments[parameter.name]
        if value is None:
            continue
        if isinstance(value, torch.Tensor):
            memory = memory_of(value)
            value = machine.memory.alloc(memory.numpy(), value.data_ptr() % ALIGNMENT)
            buffers[parameter.name] = value, memory
        values.append(value)
    accesses = machine.memory.accesses = Accesses() if check else None
    width, height, depth = (*launch.grid, 1, 1)[:3]
    for program in order(launch.grid, seed):
        machine.run(values + [0] * SCRATCH_POINTERS, program, (width, height, depth))
    if accesses is not None:
        accesses.check(launch.kernel.__name__, {k: (address, len(x)) for k, (address, x) in buffers.items()})
    for address, memory in buffers.values():
        memory.copy_(torch.from_numpy(machine.memory.read(address, "u1", (memory.numel(),))))


@contextlib.contextmanager
def executed(launch_type: type[AnyLaunch], *, seed: int | None = None, check: bool = True) -> Iterator[list[AnyLaunch]]:
    """While it is open, `run` of every launch of this class is `execute`. Gives the list of those launches."""
    launches: list[AnyLaunch] = []

    def run(launch: AnyLaunch) -> None:
        launches.append(launch)
        execute(launch, seed=seed, check=check)

    with mock.patch.object(launch_type, "run", run):
        yield launches
