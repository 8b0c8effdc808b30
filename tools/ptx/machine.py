"""Executes the PTX that Triton emits for sm_80 on a CPU: one program at a time, its threads in lock-step.

A register is a numpy array with one entry for each thread. Covered is what elementwise code, reductions, scans,
cp.async, ldmatrix and mma.sync (tf32, bf16, fp16) compile to. These raise: an access outside the buffers or the shared
memory, one that is not aligned to its size, a register that was never written, a branch on which threads disagree, and
a store of different values at one address. Other races, a missing wait or barrier, wgmma and TMA are not seen.

    machine = Machine(compiled.asm["ptx"], threads=32 * num_warps, shared=compiled.metadata.shared)
    a = machine.memory.alloc(array)
    machine.run([a, ..., 0, 0], program=(i, 0, 0), grid=(n, 1, 1))
    out = machine.memory.read(a, np.float32, shape)
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tools.ptx import arithmetic
from tools.ptx.arithmetic import DTYPES, UNSIGNED, Array, width
from tools.ptx.memory import Memory
from tools.ptx.programs import Program

MAX_STEPS = 2_000_000
END = 1 << 60
NO_EFFECT = ("bar", "barrier", "fence", "membar", "prefetch", "griddepcontrol", "discard")
STATEMENT = re.compile(r"(\$?[\w\$]+:|[^;:{}]+(?:\{[^}]*\}[^;]*)*;|[{}])")
PARAMETER = re.compile(r"\.param\s+\.\w+(?:\s+\.ptr)?(?:\s+\.global)?(?:\s+\.align\s+\d+)?\s+(\w+)")
NUMBER = re.compile(r"(-?(?:0x[0-9a-fA-F]+|\d+))U?$")  # U says that it is unsigned
SHARED_MEMORY = "global_smem"  # the name that Triton gives it

Mask = Array | None  # of the threads that execute an instruction; None for all
Action = Callable[[Mask], int | None]  # executes an instruction; returns where to go on if that is not the next one


class Instruction(NamedTuple):
    """One decoded statement."""

    guard: str | None  # the predicate that says which threads execute it
    negated: bool  # whether they are those for which it is false
    action: Action


def _nothing(mask: Mask) -> None:
    """The action of an instruction that has no effect here."""


def split_operands(text: str) -> list[str]:
    """Splits at commas outside braces and brackets."""
    return [part.strip() for part in re.split(r",(?![^{\[]*[}\]])", text) if part.strip()]


def _parse(ptx: str) -> tuple[list[str], list[str]]:
    """(names of the parameters, statements and labels) of the kernel in a module."""
    entry = ptx[ptx.index(".entry") :]
    header, _, body = entry.partition("{")
    body = body.split(".section")[0]
    body = re.sub(r"//[^\n]*|/\*.*?\*/", "", body, flags=re.S)
    body = re.sub(r"^\s*\.(loc|reg|file|pragma|shared|reqntid|maxntid)[^\n]*$", "", body, flags=re.M)
    body = body.replace("\t", " ").replace("shared::cta", "shared")
    statements = []
    for text in STATEMENT.findall(body):
        text = text.strip()
        if text and text not in "{}":
            text = text if text.endswith(":") else text[:-1].strip()
            if text and not text.startswith((".reg", ".loc", ".pragma", ".file", ".shared", ".local")):
                statements.append(text)
    return PARAMETER.findall(header), statements


class Machine:
    """One kernel: its decoded code, its memory, and the registers of the program that runs."""

    def __init__(self, ptx: str, threads: int, shared: int):
        self.memory = Memory(shared)
        self.threads = threads
        self.tid = np.arange(threads, dtype=np.uint32)
        self.registers: dict[str, Array] = {}
        self.special: dict[str, Array] = {"%tid.x": self.tid, "%laneid": self.tid % 32}
        self.arguments: dict[str, int | float] = {}
        self.labels: dict[str, int] = {}
        self.parameters, statements = _parse(ptx)
        self.code: list[Instruction] = []
        for statement in statements:
            if statement.endswith(":"):
                self.labels[statement[:-1]] = len(self.code)
            else:
                self.code.append(self._decode(statement))

    def run(self, arguments: Sequence[int | float], program: Program = (0, 0, 0), grid: Program = (1, 1, 1)) -> None:
        """Executes one program of a grid. The arguments are addresses and numbers in the order of the parameters."""
        if len(arguments) != len(self.parameters):
            raise TypeError(f"expected {len(self.parameters)} arguments, got {len(arguments)}")
        self.arguments = dict(zip(self.parameters, arguments, strict=True))
        self.registers.clear()
        self.memory.start(program)
        for axis, i, n in zip("xyz", program, grid, strict=True):
            self.special[f"%ctaid.{axis}"] = np.full(self.threads, i, np.uint32)
            self.special[f"%nctaid.{axis}"] = np.full(self.threads, n, np.uint32)
        position = 0
        for _ in range(MAX_STEPS):
            if position >= len(self.code):
                return
            instruction = self.code[position]
            position += 1
            mask = None
            if instruction.guard is not None:
                mask = self.registers[instruction.guard]
                mask = ~mask if instruction.negated else mask
                if mask.all():
                    mask = None
            target = instruction.action(mask)
            if target is not None:
                position = target
        raise RuntimeError(f"no end after {MAX_STEPS} instructions")

    # ---- decoding: a method _op_<name> for each instruction that is no plain function of its operands ----

    def _decode(self, statement: str) -> Instruction:
        guard, negated = None, False
        if statement.startswith("@"):
            guard, statement = statement[1:].split(None, 1)
            negated = guard.startswith("!")
            guard = guard.lstrip("!")
        opcode, _, rest = statement.partition(" ")
        parts = opcode.strip().split(".")
        operands = split_operands(rest)
        handler = getattr(self, "_op_" + parts[0], None)
        action: Action
        if parts[0] in NO_EFFECT or opcode.startswith(("cp.async.commit", "cp.async.wait")):
            action = _nothing
        elif handler is not None:
            action = handler(parts, operands)
        else:
            action = self._arithmetic(parts, operands, statement)
        return Instruction(guard, negated, action)

    # ---- operands: decoded once, read at every execution ----

    def source(self, text: str, type_: str) -> Callable[[], Array]:
        """Reads an operand as an array of the dtype of a PTX type; bf16 and packed types come as raw bits."""
        dtype = DTYPES[type_]
        if text in ("%tid.x", "%laneid") or text.startswith(("%ctaid", "%nctaid")):
            return lambda: self.special[text].astype(dtype, copy=False)
        if text.startswith("%"):
            registers = self.registers

            def register() -> Array:
                value = registers[text]
                if value.dtype == np.bool_:
                    return value
                return (
                    value.view(dtype)
                    if value.itemsize == dtype.itemsize
                    else value.astype(UNSIGNED[dtype.itemsize]).view(dtype)
                )

            return register
        if text.startswith(("0f", "0d")):
            bits = np.uint32 if text[1] == "f" else np.uint64
            constant = np.full(self.threads, int(text[2:], 16), bits).view(dtype)
        elif number := NUMBER.match(text):
            value = int(number[1], 0) & ((1 << 8 * dtype.itemsize) - 1)
            constant = (
                np.full(self.threads, bool(value))
                if dtype == np.bool_
                else np.full(self.threads, value, UNSIGNED[dtype.itemsize]).view(dtype)
            )
        elif text == SHARED_MEMORY:  # its first address
            constant = np.zeros(self.threads, dtype)
        else:
            raise NotImplementedError(f"operand {text}")
        return lambda: constant

    def sink(self, text: str) -> Callable[[Array, Mask], None]:
        """Writes a register for the threads of a mask. The name _ discards the value."""

        def write(value: Array, mask: Mask) -> None:
            value = np.ascontiguousarray(value)
            if value.dtype != np.bool_:
                value = value.view(UNSIGNED[value.itemsize])
            if mask is not None:
                old = self.registers.get(text, np.zeros_like(value))
                value = np.where(mask, value, old)
            self.registers[text] = value

        def discard(value: Array, mask: Mask) -> None:
            pass

        return discard if text == "_" else write

    def address(self, text: str) -> Callable[[], Array]:
        """Reads [register + offset] as int64."""
        match = re.match(r"\[\s*([%\$\w]+)\s*(?:\+\s*(-?\w+))?\s*\]$", text)
        if match is None:
            raise NotImplementedError(f"address {text}")
        base, offset = self.source(match[1], "u64"), int(match[2], 0) if match[2] else 0
        return lambda: base().astype(np.int64) + offset

    def vector(self, text: str) -> list[str]:
        return split_operands(text[1:-1]) if text.startswith("{") else [text]

    # ---- control, memory, exchange between threads ----

    def _op_ret(self, parts: list[str], operands: list[str]) -> Action:
        return self._branch(END)

    _op_exit = _op_ret

    def _op_bra(self, parts: list[str], operands: list[str]) -> Action:
        return self._branch(operands[0])

    def _branch(self, target: str | int) -> Action:
        def action(mask: Mask) -> int | None:
            if mask is None:
                return self.labels[target] if isinstance(target, str) else target
            if mask.any():
                raise RuntimeError(f"threads disagree on the branch to {target}")
            return None

        return action

    def _op_ld(self, parts: list[str], operands: list[str]) -> Action:
        size = width(parts[-1]) // 8
        targets = [self.sink(t) for t in self.vector(operands[0])]
        if "param" in parts:
            name = operands[1].strip("[]").split("+")[0].strip()
            dtype = DTYPES["f32"] if parts[-1] == "f32" else UNSIGNED[size]
            return lambda mask: targets[0](
                np.full(self.threads, self.arguments[name], np.int64 if dtype.kind == "u" else dtype).astype(dtype),
                mask,
            )
        space, address = "shared" if "shared" in parts else "global", self.address(operands[1])

        def action(mask: Mask) -> None:
            data = self.memory.load(space, address(), size * len(targets), mask)
            for i, write in enumerate(targets):
                write(np.ascontiguousarray(data[:, i * size : (i + 1) * size]).view(UNSIGNED[size])[:, 0], mask)

        return action

    def _op_st(self, parts: list[str], operands: list[str]) -> Action:
        size = width(parts[-1]) // 8
        space, address = "shared" if "shared" in parts else "global", self.address(operands[0])
        sources = [self.source(s, f"u{8 * size}") for s in self.vector(operands[1])]

        def action(mask: Mask) -> None:
            values = [np.ascontiguousarray(read()).view(np.uint8).reshape(self.threads, size) for read in sources]
            self.memory.store(space, address(), np.concatenate(values, 1), mask)

        return action

    def _op_cp(self, parts: list[str], operands: list[str]) -> Action:
        to, source, size = self.address(operands[0]), self.address(operands[1]), int(operands[2], 0)
        given = self.source(operands[3], "u32") if len(operands) > 3 else None

        def action(mask: Mask) -> None:
            read = np.ones(self.threads, bool) if mask is None else mask
            if given is not None:
                n = given()
                if not np.isin(n, (0, size)).all():
                    raise NotImplementedError("cp.async of a part of its bytes")
                read = read & (n > 0)
            self.memory.store("shared", to(), self.memory.load("global", source(), size, read), mask)

        return action

    def _op_ldmatrix(self, parts: list[str], operands: list[str]) -> Action:
        count = int(next(p for p in parts if p in ("x1", "x2", "x4"))[1:])
        targets, address = [self.sink(t) for t in self.vector(operands[0])], self.address(operands[1])
        lane, warp = self.tid % 32, self.tid // 32 * 32

        def action(mask: Mask) -> None:
            if mask is not None:
                raise NotImplementedError("ldmatrix by some of the threads")
            at = address()
            for i, write in enumerate(targets[:count]):
                starts = at[warp[:, None].astype(np.int64) + 8 * i + np.arange(8)]
                if starts.min() < 0 or starts.max() + 16 > len(self.memory.shared):
                    raise IndexError("ldmatrix outside the shared memory")
                matrix = self.memory.shared[starts[:, :, None] + np.arange(16)].view(np.uint16)
                write(arithmetic.matrix_fragment(matrix, lane, "trans" in parts), None)

        return action

    def _op_mma(self, parts: list[str], operands: list[str]) -> Action:
        to, a, b, c = (self.vector(x) for x in operands[:4])
        targets = [self.sink(t) for t in to]
        reads = [[self.source(x, "u32") for x in xs] for xs in (a, b)] + [[self.source(x, "f32") for x in c]]

        def action(mask: Mask) -> None:
            if mask is not None:
                raise NotImplementedError("mma by some of the threads")
            values = arithmetic.mma(parts, *([read() for read in xs] for xs in reads))
            for write, value in zip(targets, values, strict=True):
                write(value, None)

        return action

    def _op_shfl(self, parts: list[str], operands: list[str]) -> Action:
        targets = [self.sink(t) for t in operands[0].split("|")]
        value, by, clamp = (self.source(x, "u32") for x in operands[1:4])

        def action(mask: Mask) -> None:
            partner, valid = arithmetic.shuffle_partner(
                parts[2], self.tid, by().astype(np.int64), clamp().astype(np.int64)
            )
            for write, result in zip(targets, (value()[partner], valid), strict=False):
                write(result, mask)

        return action

    def _op_mov(self, parts: list[str], operands: list[str]) -> Action:
        to, source = operands
        if to.startswith("{"):
            targets, read = [self.sink(t) for t in self.vector(to)], self.source(source, f"u{width(parts[-1])}")
            part = UNSIGNED[width(parts[-1]) // 8 // len(targets)]

            def unpack(mask: Mask) -> None:
                values = np.ascontiguousarray(read()).view(part).reshape(self.threads, len(targets))
                for i, write in enumerate(targets):
                    write(values[:, i], mask)

            return unpack
        write = self.sink(to)
        if source.startswith("{"):
            pieces = self.vector(source)
            reads = [self.source(x, f"u{width(parts[-1]) // len(pieces)}") for x in pieces]
            whole = UNSIGNED[width(parts[-1]) // 8]
            return lambda mask: write(
                np.ascontiguousarray(np.stack([read() for read in reads], 1)).view(whole)[:, 0], mask
            )
        read = self.source(source, parts[-1])
        return lambda mask: write(read(), mask)

    def _op_cvta(self, parts: list[str], operands: list[str]) -> Action:
        write, read = self.sink(operands[0]), self.source(operands[1], "u64")
        return lambda mask: write(read(), mask)

    # ---- values to a predicate, and values to one value: everything else ----

    def _op_setp(self, parts: list[str], operands: list[str]) -> Action:
        targets = [self.sink(t) for t in operands[0].split("|")]
        a, b = (self.source(x, parts[-1]) for x in operands[1:3])
        combine = next((arithmetic.PREDICATE[p] for p in parts[2:-1] if p in arithmetic.PREDICATE), None)
        negated = combine is not None and operands[3].startswith("!")
        other = self.source(operands[3].lstrip("!"), "pred") if combine else None

        def action(mask: Mask) -> None:
            for write, result in zip(targets, arithmetic.compare_parts(parts[1], parts[-1], a(), b()), strict=False):
                if combine is not None and other is not None:
                    result = combine(result, ~other() if negated else other())
                write(result, mask)

        return action

    def _arithmetic(self, parts: list[str], operands: list[str], statement: str) -> Action:
        function, types = arithmetic.operation(parts, statement)
        write, reads = self.sink(operands[0]), [self.source(x, t) for x, t in zip(operands[1:], types, strict=True)]
        return lambda mask: write(function(*(read() for read in reads)), mask)
