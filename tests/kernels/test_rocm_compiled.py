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

from benchmarks.kernels import entries
from tools.ptx.compile import compile_for

part, parts = map(int, sys.argv[1:])
chosen = list(entries())[part::parts]
for entry in chosen:
    code = compile_for(entry.build(), GPUTarget("hip", "gfx942", 64)).asm["amdgcn"]
    print(entry.name, ".amdgcn_target" in code and "gfx942" in code)
"""

PARTS = 12


@pytest.mark.parametrize("part", range(PARTS))
def test_every_kernel_compiles(part: int) -> None:
    """A process of its own: LLVM ends that in which it meets assembly of another machine."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(part), str(PARTS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    lines = run.stdout.splitlines()
    assert lines
    assert [line for line in lines if not line.endswith(" True")] == []
