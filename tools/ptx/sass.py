"""Reads back what a compiled kernel costs: registers, spills, and the instructions of its inner loop."""

import collections
import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import triton

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,5})\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_\.]+)([^;]*);")


class Instruction(NamedTuple):
    """One line of the disassembly, without its predicate."""

    address: int
    op: str  # with its suffixes: LDG.E.128
    operands: str

    @property
    def name(self) -> str:
        """The operation without suffixes: LDG."""
        return self.op.split(".")[0]


@dataclass(frozen=True)
class Usage:
    """The cost of a kernel. An instruction of a loop counts once, however often the loop runs."""

    registers: int  # per thread
    spills: int  # instructions that touch local memory, in the whole kernel
    loop_spills: int  # those in the steady loop
    stack: int  # bytes per thread
    shared: int  # bytes per program
    mufu: int  # instructions of the special function unit in the steady loop
    loads: tuple[str, ...]  # global loads in the steady loop, as cuobjdump writes them
    mix: tuple[tuple[str, int], ...]  # how many instructions of each name the steady loop has
    wavefronts: int  # of shared memory, shuffles and global accesses in the steady loop


def usage(compiled: Any) -> Usage:
    """Disassembles what `compile_launch` returned."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        sass, resources = (_cuobjdump(flag, file.name) for flag in ("--dump-sass", "-res-usage"))
    instructions = parse(sass)
    loop = steady_loop(instructions)
    mix = collections.Counter(i.name for i in loop)
    found = {k: int(v) for k, v in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", resources)}
    return Usage(
        registers=found["REG"],
        spills=sum(i.name in ("LDL", "STL") for i in instructions),
        loop_spills=mix["LDL"] + mix["STL"],
        stack=found["STACK"],
        shared=compiled.metadata.shared,
        mufu=mix["MUFU"],
        loads=tuple(i.op for i in loop if i.name in ("LDG", "LDGSTS")),
        mix=tuple(sorted(mix.items())),
        wavefronts=sum(wavefronts(i.op) for i in loop),
    )


def _cuobjdump(flag: str, path: str) -> str:
    return subprocess.run([CUOBJDUMP, flag, path], capture_output=True, text=True, check=True).stdout


def parse(sass: str) -> list[Instruction]:
    """The instructions of what cuobjdump prints."""
    return [Instruction(int(m[1], 16), m[2], m[3].strip()) for m in INSTRUCTION.finditer(sass)]


def load_bits(op: str) -> int:
    """Bits per thread of a global load: LDG.E.128 has 128, LDG.E has 32, LDG.E.U8 has 8."""
    suffixes = op.split(".")
    return next((bits for bits, name in ((128, "128"), (64, "64"), (16, "U16"), (8, "U8")) if name in suffixes), 32)


def wavefronts(op: str) -> int:
    """How often one instruction of a warp occupies the pipe of shared memory, global accesses and shuffles.

    32 lanes of 4 bytes are one wavefront of 128 bytes. An asynchronous copy passes twice, in and out.
    """
    name, width = op.split(".")[0], 4 if ".128" in op else 2 if ".64" in op else 1
    if name == "SHFL":
        return 1
    if name in ("LDS", "STS", "LDG", "STG"):
        return width
    if name in ("LDSM", "STSM"):
        return 4 if ".4" in op else 2 if ".2" in op else 1
    return 2 * width if name == "LDGSTS" else 0


def steady_loop(instructions: list[Instruction]) -> list[Instruction]:
    """The body of the longest innermost loop, or all instructions if there is no loop.

    A loop ends in a backward branch. Some kernels have two copies of one loop, of which one has masks for a tail. So
    among loops that do the same work (as many products, special functions within a tenth) the shortest is taken.
    """
    loops = []
    for i in instructions:
        target = re.search(r"0x([0-9a-f]+)", i.operands) if i.op.startswith("BRA") else None
        if target and int(target[1], 16) < i.address:
            loops.append((int(target[1], 16), i.address))
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    if not inner:
        return instructions
    bodies = [[i for i in instructions if low <= i.address <= high] for low, high in inner]
    longest = max(bodies, key=len)
    products, mufu = _work(longest)
    copies = [b for b in bodies if _work(b)[0] == products and abs(_work(b)[1] - mufu) <= mufu // 10]
    return min((b for b in copies if 4 * len(b) >= 3 * len(longest)), key=len)


def _work(body: Iterable[Instruction]) -> tuple[int, int]:
    """(matrix instructions, special functions) of a loop."""
    names = [i.name for i in body]
    return sum("MMA" in name for name in names), names.count("MUFU")
