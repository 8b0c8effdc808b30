"""The stages of a run, as data: two parts of at most seven minutes, the most valuable first.

A stage has its own limit, and the limits of a part add up to less than PART_SECONDS. On an H200 with 16 cores the
parity tests took 102 s in seven processes with nothing compiled.
"""

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.gpu import sanitizer
from tests.gpu.stages import ROOT, Stage

# Of seven minutes, with what starting takes.
PART_SECONDS = 415.0
PARTS = (1, 2)

# Where compiled kernels are found, and what they are unpacked from. Both are ignored by git.
COMPILED = ROOT / "build" / "gpu-cache"
CACHE = ROOT / "build" / "gpu-cache.tar.xz"

ROWS = "rows.json"
TESTS = "tests.jsonl"
FAR = "tests/gpu/test_far.py"  # tensors of 4 GiB and more, one test at a time

# The command of a stage in a folder of results; None where its program is missing.
Command = Callable[[Path], tuple[str, ...] | None]


def _measured(name: str) -> Command:
    return lambda out: (sys.executable, "-m", "tests.gpu.measured", name, str(out / ROWS))


def _tests(*arguments: str, shared: bool) -> Command:
    """pytest on paths, which come first: where conftest.py is, which knows --results."""

    def command(out: Path) -> tuple[str, ...]:
        workers = processes()
        many = shared and workers > 1 and importlib.util.find_spec("xdist") is not None
        options = ("--confcutdir", "tests/gpu", "-p", "no:cacheprovider", "-p", "no:benchmark")
        options = (*options, "--results", str(out / TESTS), *(("-n", str(workers)) if many else ()))
        return sys.executable, "-m", "pytest", *arguments, *options

    return command


SHORT_RUN = (sys.executable, "-m", "tests.gpu.short_run")


def _short_run(out: Path) -> tuple[str, ...]:
    """Compiles what the cache does not have, so that the sanitizer need not watch that."""
    return (*SHORT_RUN, "--processes", str(processes()))


def _sanitizer(tool: str) -> Command:
    def command(out: Path) -> tuple[str, ...] | None:
        program = sanitizer.find()
        return sanitizer.command(program, tool, list(SHORT_RUN)) if program else None

    return command


# each allocation is then one of the driver's, and an access past its end shows
SEPARATE = (("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),)


@dataclass(frozen=True)
class Planned:
    """`answers` is the question that a stage is there for."""

    name: str
    part: int
    limit: float
    command: Command
    answers: str
    environment: tuple[tuple[str, str], ...] = ()

    def stage(self, out: Path) -> Stage:
        cache = ("TRITON_CACHE_DIR", str(COMPILED))
        return Stage(self.name, self.command(out), self.limit, (*self.environment, cache))


PLAN = (
    Planned("anchor", 1, 40, _measured("anchor"), "the bandwidth of a copy, by copy_ and by Triton, 24 MB to 1 GB"),
    Planned("backward", 1, 150, _measured("backward"), "the backward with two and with three stages of loads"),
    Planned("forms", 1, 60, _measured("forms"), "rows of time or of the batch; p12 with 224 registers"),
    Planned("flags", 1, 60, _measured("flags"), "the cost of a mask"),
    Planned("short_run", 1, 25, _short_run, "every kernel runs"),
    Planned("memcheck", 1, 75, _sanitizer("memcheck"), "no access outside a tensor", SEPARATE),
    Planned("parity", 2, 70, _tests("tests/gpu", "--ignore", FAR, shared=True), "right results of every kernel"),
    Planned("racecheck", 2, 50, _sanitizer("racecheck"), "no race in shared memory of any kernel", SEPARATE),
    Planned("host", 2, 60, _measured("host"), "the host's time of a call, a layer and a model, without graphs"),
    Planned("long", 2, 60, _measured("long"), "a million steps; products of three terms"),
    Planned("masks", 2, 60, _measured("masks"), "masks at further shapes; the gate of continuous time"),
    Planned("others", 2, 50, _measured("others"), "the scans and the linear layer"),
    Planned("far", 2, 60, _tests(FAR, shared=False), "tensors past 2^31 elements"),
)


def of_part(part: int | None) -> list[Planned]:
    """The stages of a part, or all."""
    return [planned for planned in PLAN if part in (None, planned.part)]


def processes() -> int:
    """How many share the compiling: on one GPU each holds about 0.5 GiB of its memory."""
    return max(1, min(8, (os.cpu_count() or 1) // 2))
