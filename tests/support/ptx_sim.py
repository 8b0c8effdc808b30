"""Executes the PTX that Triton emits for sm_80 on a CPU: one program at a time, in lock-step over its threads.

Registers are numpy arrays with one entry per thread. It covers what elementwise code, reductions, scans, cp.async,
ldmatrix and mma.sync (tf32, bf16, fp16) compile to; `ptx_ops.py` has the arithmetic. A read or write of global memory
that is not inside one buffer raises, as does one outside the shared memory, one that is not aligned to its size, a
register that was never written, a branch that differs between threads, and a store of different values at one address.
It does not see other races, a missing wait or barrier, wgmma, TMA, or time.

    machine = Machine(compiled.asm["ptx"], threads=32 * num_warps, shared=compiled.metadata.shared)
    a = machine.alloc(array) machine.run([a, ..., 0, 0], program=(i, 0, 0), programs=(n, 1, 1)) out = machine.read(a,
    np.float32, shape)
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.support import ptx_ops
from tests.support.ptx_ops import DTYPES, UNSIGNED, width

PAGE = 4096
MAX_STEPS = 2_000_000
END = 1 << 60
NO_EFFECT = ("bar", "barrier", "fence", "membar", "prefetch", "griddepcontrol", "discard")
STATEMENT = re.compile(r"(\$?[\w\$]+:|[^;:{}]+(?:\{[^}]*\}[^;]*)*;|[{}])")
PARAMETER = re.compile(r"\.param\s+\.(\w+)(?:\s+\.ptr)?(?:\s+\.global)?(?:\s+\.align\s+\d+)?\s+(\w+)")
NUMBER = re.compile(r"(-?(?:0x[0-9a-fA-F]+|\d+))U?$")  # U says that it is unsigned
SHARED_MEMORY = "global_smem"  # the name that Triton gives it

Array = np.ndarray
Mask = Array | None  # of the threads that execute an instruction; None for all


def split_operands(text: str) -> list[str]:
    """Splits at commas outside braces and brackets."""
    return [part.strip() for part in re.split(r",(?![^{\[]*[}\]])", text) if part.strip()]


class Machine:
    """The state of one kernel: its decoded code, global buffers, and the registers and shared memory of a program."""

    def __init__(self, ptx: str, threads: int, shared: int):
        self.threads = threads
        self.tid = np.arange(threads, dtype=np.uint32)
        self.shared = np.zeros(shared, np.uint8)
        self.buffers: list[tuple[int, Array]] = []
        self.heap = 1 << 20
        self.registers: dict[str, Array] = {}
        self.special: dict[str, Array] = {"%tid.x": self.tid, "%laneid": self.tid % 32}
        self.labels: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.parameters, statements = self._parse(ptx)
        self.code: list[tuple[str, str | None, bool, Callable]] = []
        for statement in statements:
            if statement.endswith(":"):
                self.labels[statement[:-1]] = len(self.code)
            else:
                self.code.append(self._decode(statement))

    # ---- global memory ----

    def alloc(self, array: Array, offset: int = 0) -> int:
        """Copies an array into a buffer of its own, `offset` bytes into a page; returns its address. Pages between
        belong to none."""
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8).copy()
        address = self.heap + offset
        self.heap += (len(data) + PAGE - 1) // PAGE * PAGE + PAGE
        self.buffers.append((address, data))
        return address

    def read(self, address: int, dtype: Any, shape: Sequence[int]) -> Array:
        """The contents of the buffer at an address that `alloc` returned."""
        data = next(data for start, data in self.buffers if start == address)
        return data.view(dtype).reshape(shape).copy()

    def load(self, space: str, address: Array, size: int, mask: Mask) -> Array:
        """[threads, size] bytes, zero for threads that do not execute."""
        out = np.zeros((self.threads, size), np.uint8)
        for threads, data, offset in self._locate(space, address, size, mask):
            out[threads] = data[offset[:, None] + np.arange(size)]
        return out

    def store(self, space: str, address: Array, values: Array, mask: Mask) -> None:
        size = values.shape[1]
        for threads, data, offset in self._locate(space, address, size, mask):
            at = offset[:, None] + np.arange(size)
            data[at] = values[threads]
            if (data[at] != values[threads]).any():
                raise ValueError(f"{space} store of different values at one address")

    def _locate(self, space: str, address: Array, size: int, mask: Mask) -> list[tuple[Array, Array, Array]]:
        threads = np.arange(self.threads) if mask is None else np.nonzero(mask)[0]
        if (address[threads] % size).any():
            raise IndexError(f"{space} access of {size} bytes that is not aligned to them")
        found = []
        for start, data in [(0, self.shared)] if space == "shared" else self.buffers:
            offset = address[threads] - start
            inside = (offset >= 0) & (offset + size <= len(data))
            if inside.any():
                found.append((threads[inside], data, offset[inside]))
                threads = threads[~inside]
            if not len(threads):
                return found
        if len(threads):
            raise IndexError(
                f"{space} access of {size} bytes at {hex(int(address[threads[0]]))} "
                f"by thread {threads[0]} is in no buffer"
            )
        return found

    # ---- code ----

    def run(
        self,
        arguments: Sequence[int | float],
        program: tuple[int, int, int] = (0, 0, 0),
        programs: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        """Executes one program of a grid; the arguments are addresses and numbers in the order of the parameters."""
        if len(arguments) != len(self.parameters):
            raise TypeError(f"expected {len(self.parameters)} arguments, got {len(arguments)}")
        self.arguments = {name: value for (_, name), value in zip(self.parameters, arguments, strict=True)}
        self.registers.clear()
        for axis, i, n in zip("xyz", program, programs, strict=True):
            self.special[f"%ctaid.{axis}"] = np.full(self.threads, i, np.uint32)
            self.special[f"%nctaid.{axis}"] = np.full(self.threads, n, np.uint32)
        position = 0
        for _ in range(MAX_STEPS):
            if position >= len(self.code):
                return
            name, guard, negated, action = self.code[position]
            position += 1
            mask = None
            if guard is not None:
                mask = ~self.registers[guard] if negated else self.registers[guard]
                if mask.all():
                    mask = None
            self.counts[name] = self.counts.get(name, 0) + 1
            target = action(mask)
            if target is not None:
                position = target
        raise RuntimeError(f"no end after {MAX_STEPS} instructions")

    def _parse(self, ptx: str) -> tuple[list[tuple[str, str]], list[str]]:
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

    def _decode(self, statement: str) -> tuple[str, str | None, bool, Callable]:
        guard, negated = None, False
        if statement.startswith("@"):
            guard, statement = statement[1:].split(None, 1)
            negated = guard.startswith("!")
            guard = guard.lstrip("!")
        opcode, _, rest = statement.partition(" ")
        parts = opcode.strip().split(".")
        operands = split_operands(rest)
        name = parts[0]
        handler = getattr(self, "_op_" + name, None)
        if name in NO_EFFECT or opcode.startswith(("cp.async.commit", "cp.async.wait")):
            action: Callable = lambda mask: None
        elif handler is not None:
            action = handler(parts, operands)
        else:
            action = self._arithmetic(parts, operands, statement)
        return name, guard, negated, action

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
            bits = np.full(self.threads, int(text[2:], 16), np.uint32 if text[1] == "f" else np.uint64)
            constant = bits.view(dtype)
        elif number := NUMBER.match(text):
            bits = int(number[1], 0) & ((1 << 8 * dtype.itemsize) - 1)
            constant = (
                np.full(self.threads, bits, UNSIGNED[dtype.itemsize]).view(dtype)
                if dtype != np.bool_
                else np.full(self.threads, bool(bits))
            )
        elif text == SHARED_MEMORY:  # its address
            constant = np.zeros(self.threads, dtype)
        else:
            raise NotImplementedError(f"operand {text}")
        return lambda: constant

    def sink(self, text: str) -> Callable[[Array, Mask], None]:
        """Writes a register, for the threads of a mask."""

        def write(value: Array, mask: Mask) -> None:
            value = np.ascontiguousarray(value)
            if value.dtype != np.bool_:
                value = value.view(UNSIGNED[value.itemsize])
            if mask is not None:
                old = self.registers.get(text, np.zeros_like(value))
                value = np.where(mask, value, old)
            self.registers[text] = value

        return (lambda value, mask: None) if text == "_" else write

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

    def _op_ret(self, parts: list[str], operands: list[str]) -> Callable:
        return self._branch(END)

    _op_exit = _op_ret

    def _op_bra(self, parts: list[str], operands: list[str]) -> Callable:
        return self._branch(operands[0])

    def _branch(self, target: str | int) -> Callable:
        def action(mask: Mask) -> int | None:
            if mask is None:
                return self.labels[target] if isinstance(target, str) else target
            if mask.any():
                raise RuntimeError(f"threads disagree on the branch to {target}")
            return None

        return action

    def _op_ld(self, parts: list[str], operands: list[str]) -> Callable:
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
            data = self.load(space, address(), size * len(targets), mask)
            for i, write in enumerate(targets):
                write(np.ascontiguousarray(data[:, i * size : (i + 1) * size]).view(UNSIGNED[size])[:, 0], mask)

        return action

    def _op_st(self, parts: list[str], operands: list[str]) -> Callable:
        size = width(parts[-1]) // 8
        space, address = "shared" if "shared" in parts else "global", self.address(operands[0])
        sources = [self.source(s, f"u{8 * size}") for s in self.vector(operands[1])]

        def action(mask: Mask) -> None:
            values = [np.ascontiguousarray(read()).view(np.uint8).reshape(self.threads, size) for read in sources]
            self.store(space, address(), np.concatenate(values, 1), mask)

        return action

    def _op_cp(self, parts: list[str], operands: list[str]) -> Callable:
        to, source, size = self.address(operands[0]), self.address(operands[1]), int(operands[2], 0)
        given = self.source(operands[3], "u32") if len(operands) > 3 else None

        def action(mask: Mask) -> None:
            read = np.ones(self.threads, bool) if mask is None else mask
            if given is not None:
                n = given()
                if not np.isin(n, (0, size)).all():
                    raise NotImplementedError("cp.async of a part of its bytes")
                read = read & (n > 0)
            self.store("shared", to(), self.load("global", source(), size, read), mask)

        return action

    def _op_ldmatrix(self, parts: list[str], operands: list[str]) -> Callable:
        count = int(next(p for p in parts if p in ("x1", "x2", "x4"))[1:])
        targets, address = [self.sink(t) for t in self.vector(operands[0])], self.address(operands[1])
        lane, warp = self.tid % 32, self.tid // 32 * 32

        def action(mask: Mask) -> None:
            if mask is not None:
                raise NotImplementedError("ldmatrix by some of the threads")
            at = address()
            for i, write in enumerate(targets[:count]):
                starts = at[warp[:, None].astype(np.int64) + 8 * i + np.arange(8)]
                if starts.min() < 0 or starts.max() + 16 > len(self.shared):
                    raise IndexError("ldmatrix outside the shared memory")
                matrix = self.shared[starts[:, :, None] + np.arange(16)].view(np.uint16)
                write(ptx_ops.matrix_fragment(matrix, lane, "trans" in parts), None)

        return action

    def _op_mma(self, parts: list[str], operands: list[str]) -> Callable:
        to, a, b, c = (self.vector(x) for x in operands[:4])
        targets = [self.sink(t) for t in to]
        reads = [[self.source(x, "u32") for x in xs] for xs in (a, b)] + [[self.source(x, "f32") for x in c]]

        def action(mask: Mask) -> None:
            if mask is not None:
                raise NotImplementedError("mma by some of the threads")
            values = ptx_ops.mma(parts, *([read() for read in xs] for xs in reads))
            for write, value in zip(targets, values, strict=True):
                write(value, None)

        return action

    def _op_shfl(self, parts: list[str], operands: list[str]) -> Callable:
        targets = [self.sink(t) for t in operands[0].split("|")]
        value, by, clamp = (self.source(x, "u32") for x in operands[1:4])

        def action(mask: Mask) -> None:
            partner, valid = ptx_ops.shuffle_partner(
                parts[2], self.tid, by().astype(np.int64), clamp().astype(np.int64)
            )
            for write, result in zip(targets, (value()[partner], valid), strict=False):
                write(result, mask)

        return action

    def _op_mov(self, parts: list[str], operands: list[str]) -> Callable:
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

    def _op_cvta(self, parts: list[str], operands: list[str]) -> Callable:
        write, read = self.sink(operands[0]), self.source(operands[1], "u64")
        return lambda mask: write(read(), mask)

    # ---- everything else maps values to one value ----

    def _op_setp(self, parts: list[str], operands: list[str]) -> Callable:
        targets = [self.sink(t) for t in operands[0].split("|")]
        a, b = (self.source(x, parts[-1]) for x in operands[1:3])
        combine = next((p for p in parts[2:-1] if p in ("and", "or", "xor")), None)
        negated = combine is not None and operands[3].startswith("!")
        other = self.source(operands[3].lstrip("!"), "pred") if combine else None

        def action(mask: Mask) -> None:
            for write, result in zip(targets, ptx_ops.compare_parts(parts[1], parts[-1], a(), b()), strict=False):
                if other is not None:
                    result = ptx_ops.PREDICATE[combine](result, ~other() if negated else other())
                write(result, mask)

        return action

    def _arithmetic(self, parts: list[str], operands: list[str], statement: str) -> Callable:
        function, types = ptx_ops.operation(parts, statement)
        write, reads = self.sink(operands[0]), [self.source(x, t) for x, t in zip(operands[1:], types, strict=True)]
        return lambda mask: write(function(*(read() for read in reads)), mask)
