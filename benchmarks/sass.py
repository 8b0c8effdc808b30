"""Compiles a Launch ahead of time, for a GPU that need not be there, and reads back what the code costs.

`benchmarks.static` and the tests of compiled kernels share it.
"""

import collections
import functools
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from rnam.kernels.common.launch import Launch

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
POINTER = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.uint8: "*u8"}
TRITON = tuple(map(int, triton.__version__.split(".")[:2]))
ALIGNMENT = 16

# Compute capabilities whose code is read back. Before triton 3.7 nothing runs on 10.0 (`rnam._dispatch` says why), and
# there the ptxas of triton 3.6 left 2 spills in a forward (SEQ, 32 x 32, tf32, 72 registers).
ARCHITECTURES = (80, 90, 100, 120) if TRITON >= (3, 7) else (80, 90, 120)
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,5})\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_\.]+)([^;]*);")


def signature(launch: Launch) -> tuple[dict[str, str], dict[str, Any], dict]:
    """(types, constants, attributes) of the kernel's parameters as the launcher of triton derives them from values.

    Pointers specialise on 16-byte alignment. The kernels exclude every number from specialisation.
    """
    values = launch.arguments | launch.constants
    types, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(launch.kernel.params):
        name, value = parameter.name, values[parameter.name]
        if parameter.is_constexpr or value is None:
            types[name], constants[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            types[name] = POINTER[value.dtype]
            if value.data_ptr() % ALIGNMENT == 0:
                attributes[(i,)] = [["tt.divisibility", ALIGNMENT]]
        else:
            if not parameter.do_not_specialize:
                raise ValueError(f"{launch.kernel.__name__}: {name} would be compiled per value")
            types[name] = "i64" if parameter.annotation_type == "i64" else "i32"
    return types, constants, attributes


def compile_launch(launch: Launch, cc: int) -> Any:
    """The kernel of a launch, compiled for compute capability cc (80, 90, 100, 120)."""
    types, constants, attributes = signature(launch)
    return _compile(
        launch.kernel,
        tuple(types.items()),
        tuple(constants.items()),
        tuple((k, v[0][1]) for k, v in attributes.items()),
        cc,
        tuple(launch.options.items()),
    )


@functools.cache
def _compile(kernel: Any, types: tuple, constants: tuple, alignments: tuple, cc: int, options: tuple) -> Any:
    attributes = {k: [["tt.divisibility", v]] for k, v in alignments}
    source = ASTSource(kernel, dict(types), dict(constants), attributes)
    return triton.compile(source, target=GPUTarget("cuda", cc, 32), options=dict(options))


@dataclass(frozen=True)
class Usage:
    """What the disassembly of a kernel says. Loops are innermost bodies, straight code counts once.

    The steady loop is the longest one; where it has a copy with masks for a tail, it is the one without.
    """

    registers: int
    spills: int  # instructions that touch local memory, in the whole kernel
    loop_spills: int  # those in the steady loop
    stack: int  # bytes per thread
    shared: int  # bytes
    mufu: int  # in the steady loop
    loads: tuple[str, ...]  # global loads in the steady loop, as cuobjdump writes them
    mix: tuple[tuple[str, int], ...]  # instructions of the steady loop
    wavefronts: int  # of shared memory, shuffles and global accesses in the steady loop


def usage(compiled: Any) -> Usage:
    """Reads a compiled kernel back with cuobjdump."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        sass, resources = (_cuobjdump(flag, file.name) for flag in ("--dump-sass", "-res-usage"))
    instructions = [(int(m[1], 16), m[2], m[3].strip()) for m in INSTRUCTION.finditer(sass)]
    loop = steady_loop(instructions)
    mix = collections.Counter(op.split(".")[0] for _, op, _ in loop)
    found = {k: int(v) for k, v in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", resources)}
    return Usage(
        registers=found["REG"],
        spills=sum(op.split(".")[0] in ("LDL", "STL") for _, op, _ in instructions),
        loop_spills=mix["LDL"] + mix["STL"],
        stack=found["STACK"],
        shared=compiled.metadata.shared,
        mufu=mix["MUFU"],
        loads=tuple(op for _, op, _ in loop if op.split(".")[0] in ("LDG", "LDGSTS")),
        mix=tuple(sorted(mix.items())),
        wavefronts=sum(wavefronts(op) for _, op, _ in loop),
    )


def wavefronts(op: str) -> int:
    """How often one instruction of a warp occupies the pipe of shared memory, global accesses and shuffles.

    32 lanes of 4 bytes are one wavefront of 128 bytes; an asynchronous copy passes twice, in and out.
    """
    base, width = op.split(".")[0], 4 if ".128" in op else 2 if ".64" in op else 1
    if base == "SHFL":
        return 1
    if base in ("LDS", "STS", "LDG", "STG"):
        return width
    if base in ("LDSM", "STSM"):
        return 4 if ".4" in op else 2 if ".2" in op else 1
    return 2 * width if base == "LDGSTS" else 0


def _cuobjdump(flag: str, path: str) -> str:
    return subprocess.run([CUOBJDUMP, flag, path], capture_output=True, text=True, check=True).stdout


def steady_loop(instructions: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    """The body of the longest innermost loop, by backward branches; all of it if there is none.

    Of loops that do the same work (as many products, MUFU within a tenth) it is the shortest: the others have masks.
    """
    loops = []
    for address, op, operands in instructions:
        target = re.search(r"0x([0-9a-f]+)", operands) if op.startswith("BRA") else None
        if target and int(target[1], 16) < address:
            loops.append((int(target[1], 16), address))
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    if not inner:
        return instructions
    bodies = [[i for i in instructions if low <= i[0] <= high] for low, high in inner]
    longest = max(bodies, key=len)
    products, mufu = work(longest)
    twins = [b for b in bodies if work(b)[0] == products and abs(work(b)[1] - mufu) <= mufu // 10]
    return min((b for b in twins if 4 * len(b) >= 3 * len(longest)), key=len)


def work(body: list[tuple[int, str, str]]) -> tuple[int, int]:
    """(matrix instructions, MUFU instructions) of a loop."""
    return sum("MMA" in op for _, op, _ in body), sum(op.split(".")[0] == "MUFU" for _, op, _ in body)
