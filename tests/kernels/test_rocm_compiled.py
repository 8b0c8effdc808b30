"""Every kernel of the table compiles ahead of time for AMD's gfx942; nothing here ran on such a device."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton.backends

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.skipif("amd" not in triton.backends.backends, reason="this triton has no AMD backend"),
]

ROOT = Path(__file__).parents[2]

# torch says at import for which devices it was built, and the kernels read it then
PROGRAM = """
import sys

import torch

torch.version.hip = "6.4"

from triton.backends.compiler import GPUTarget

from tools.ptx.compile import compile_for

{chosen}
for name, launch in chosen:
    code = compile_for(launch, GPUTarget("hip", "gfx942", 64)).asm["amdgcn"]
    print(name, ".amdgcn_target" in code and "gfx942" in code)
"""

TABLE = """
from benchmarks.kernels import entries

part, parts = map(int, sys.argv[1:])
chosen = ((entry.name, entry.build()) for entry in list(entries())[part::parts])
"""

TIMED = """
from tests.support.timed_launches import timed_launches

dtype, precision = sys.argv[1:]
chosen = timed_launches(getattr(torch, dtype), precision)
"""

PARTS = 12


def check(chosen: str, *arguments: str) -> None:
    """A process of its own: LLVM ends that in which it meets assembly of another machine."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(chosen=chosen), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    lines = run.stdout.splitlines()
    assert lines
    assert [line for line in lines if not line.endswith(" True")] == []


@pytest.mark.parametrize("part", range(PARTS))
def test_every_kernel_compiles(part: int) -> None:
    check(TABLE, str(part), str(PARTS))


@pytest.mark.parametrize(("dtype", "precision"), [("float32", "tf32"), ("bfloat16", "ieee")])
def test_every_kernel_over_times_compiles(dtype: str, precision: str) -> None:
    check(TIMED, dtype, precision)
