"""PTX instructions as functions of numpy arrays, one entry for each thread.

numpy computes the approximate instructions (ex2, lg2, rcp, sqrt, tanh), and its results are at least as accurate as
those of a GPU. A bound that is met here is met there up to the 1 to 2 ulp that the manual documents for them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Function = Callable[..., Array]

UNSIGNED = {n: np.dtype(f"u{n}") for n in (1, 2, 4, 8)}
DTYPES = {
    "pred": np.dtype(np.bool_),
    **{f"{kind}{8 * n}": np.dtype(f"{'i' if kind == 's' else 'u'}{n}") for kind in "bus" for n in (1, 2, 4, 8)},
    **{f"f{8 * n}": np.dtype(f"f{n}") for n in (2, 4, 8)},
    **{name: np.dtype(np.uint32) for name in ("bf16x2", "f16x2", "tf32")},
    "bf16": np.dtype(np.uint16),
}
SMALLEST_NORMAL = np.float32(2.0**-126)
PREDICATE: dict[str, Function] = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}
COMPARE: dict[str, Function] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
COMPARE |= {unsigned: COMPARE[name] for unsigned, name in (("lo", "lt"), ("ls", "le"), ("hi", "gt"), ("hs", "ge"))}
UNARY: dict[str, Function] = {
    "abs": np.abs,
    "ex2": np.exp2,
    "lg2": np.log2,
    "neg": np.negative,
    "rcp": np.reciprocal,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sqrt": np.sqrt,
    "tanh": np.tanh,
}
BITWISE: dict[str, Function] = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


def width(type_: str) -> int:
    """Bits of a PTX type."""
    return 8 * DTYPES[type_].itemsize


def operation(parts: list[str], statement: str) -> tuple[Function, list[str]]:
    """The function of an instruction and the types of its operands."""
    name, type_ = parts[0], parts[-1]
    if name == "cvt":
        if parts[-2].endswith("x2"):
            return convert_pair(parts[-2]), [type_] * 2
        return convert(parts[-2], type_, "sat" in parts), [type_]
    if name in ("and", "or", "xor"):
        return (PREDICATE if type_ == "pred" else BITWISE)[name], [type_] * 2
    if name == "not":
        return np.invert, [type_]
    if name == "selp":
        return select, [type_, type_, "pred"]
    if name in ("shl", "shr"):
        return shift(name == "shl", DTYPES[type_]), [type_, "u32"]
    if name == "bfe":
        return lambda a, start, length: extract_bits(a, start, length, type_[0] == "s"), [type_, "u32", "u32"]
    if name == "bfi":
        return insert_bits, ["u32"] * 4
    if name == "prmt":
        return permute_bytes, ["u32"] * 3
    if name in UNARY and (DTYPES[type_].kind != "u" or name in ("neg", "abs")):
        return lambda a: flush(UNARY[name](a).astype(a.dtype), "ftz" in parts), [type_]
    if name in ("mul", "mad") and parts[1] in ("lo", "hi", "wide"):
        return integer_multiply(name, parts[1], type_)
    if (
        name in ("add", "sub", "mul", "min", "max", "div", "rem", "fma", "mad")
        and type_ in DTYPES
        and not type_.startswith("b")
        and "x2" not in type_
    ):
        return binary(name, "NaN" in parts, "ftz" in parts), [type_] * (3 if name in ("fma", "mad") else 2)
    if name in ("add", "sub", "mul", "fma") and type_ == "bf16":
        return bfloat16(binary(name, False, False)), [type_] * (3 if name == "fma" else 2)
    raise NotImplementedError(statement)


def select(a: Array, b: Array, where: Array) -> Array:
    """selp."""
    return np.where(where, a, b)


def bfloat16(function: Function) -> Function:
    """A function of float32 on the bits of bfloat16; rounded twice, which is once where float32 holds the result."""
    return lambda *args: to_bfloat16(function(*(from_bfloat16(x) for x in args)))


def flush(x: Array, ftz: bool) -> Array:
    """Subnormal float32 to zero, where the instruction says .ftz."""
    return (
        np.where(np.abs(x) < SMALLEST_NORMAL, np.copysign(np.float32(0), x), x) if ftz and x.dtype == np.float32 else x
    )


def binary(name: str, propagate_nan: bool, ftz: bool) -> Function:
    """add, sub, mul, min, max, div, rem, fma. fma of float32 is rounded once: its product is exact in float64."""

    def function(*args: Array) -> Array:
        args = tuple(flush(x, ftz) for x in args)
        a, b = args[:2]
        if name in ("fma", "mad"):
            result = (a.astype(np.float64) * b + args[2]).astype(a.dtype)
        elif name == "div" and a.dtype.kind == "f":
            result = a / b
        elif name in ("div", "rem"):  # towards zero; by zero is undefined
            safe = np.where(b == 0, b.dtype.type(1), b)
            remainder = np.fmod(a, safe)
            result = remainder if name == "rem" else (a - remainder) // safe
        elif name in ("min", "max"):
            result = {
                ("min", True): np.minimum,
                ("max", True): np.maximum,
                ("min", False): np.fmin,
                ("max", False): np.fmax,
            }[name, propagate_nan](a, b)
        else:
            result = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[name](a, b)
        return flush(result.astype(a.dtype, copy=False), ftz)

    return function


def integer_multiply(name: str, part: str, type_: str) -> tuple[Function, list[str]]:
    """mul and mad with .lo, .hi or .wide."""
    bits = width(type_)
    double = type_[0] + str(2 * bits)

    def product(a: Array, b: Array) -> Array:
        if part == "lo":
            low: Array = a * b
            return low
        if bits == 64:
            raise NotImplementedError("high half of a 64-bit product")
        whole: Array = a.astype(DTYPES[double]) * b.astype(DTYPES[double])
        return whole if part == "wide" else (whole >> whole.dtype.type(bits)).astype(a.dtype)

    if name == "mul":
        return product, [type_, type_]
    return lambda a, b, c: product(a, b) + c, [type_, type_, double if part == "wide" else type_]


def shift(left: bool, dtype: np.dtype) -> Callable[[Array, Array], Array]:
    """shl and shr: a shift by the width or more gives zero, or the sign of a signed number."""
    bits = 8 * dtype.itemsize

    def function(a: Array, by: Array) -> Array:
        amount = np.minimum(by, bits - 1).astype(dtype)
        beyond = a >> dtype.type(bits - 1) if dtype.kind == "i" and not left else np.zeros_like(a)
        return np.where(by >= bits, beyond, a << amount if left else a >> amount).astype(dtype)

    return function


def extract_bits(a: Array, start: Array, length: Array, signed: bool) -> Array:
    """bfe."""
    start, length = start.astype(np.uint64), length.astype(np.uint64)
    bits = (a.astype(np.int64).view(np.uint64) >> start) & ((np.uint64(1) << length) - np.uint64(1))
    if signed:
        sign = np.where(length > 0, (bits >> (np.maximum(length, 1) - np.uint64(1))) & np.uint64(1), np.uint64(0))
        bits = bits - (sign << length)
    return bits.astype(a.dtype)


def insert_bits(a: Array, into: Array, start: Array, length: Array) -> Array:
    """bfi."""
    start, length = start.astype(np.uint64), length.astype(np.uint64)
    field = ((np.uint64(1) << length) - np.uint64(1)) << start
    return ((into.astype(np.uint64) & ~field) | ((a.astype(np.uint64) << start) & field)).astype(np.uint32)


def permute_bytes(a: Array, b: Array, selector: Array) -> Array:
    """prmt in its default mode: byte i is byte selector[4 i : 4 i + 3] of (a, b), its sign replicated if bit 3 is
    set."""
    data = np.concatenate([np.ascontiguousarray(x).view(np.uint8).reshape(-1, 4) for x in (a, b)], 1)
    out = np.empty((len(a), 4), np.uint8)
    for i in range(4):
        choice = (selector >> np.uint32(4 * i)) & np.uint32(15)
        byte = data[np.arange(len(a)), choice & 7]
        out[:, i] = np.where(choice & 8, np.where(byte & 0x80, 0xFF, 0), byte)
    return out.view(np.uint32)[:, 0]


def to_bfloat16(x: Array) -> Array:
    """Bits of float32 rounded to nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(x).view(np.uint32).astype(np.uint64)
    rounded = (bits + np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    return np.where(np.isnan(x), 0x7FFF, rounded).astype(np.uint16)


def to_tf32(x: Array) -> Array:
    """Bits of float32 rounded to nearest, ties away from zero (cvt.rna)."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    return np.where(np.isfinite(x), (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000), bits)


def from_bfloat16(bits: Array) -> Array:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def convert(to: str, source: str, saturate: bool) -> Function:
    """cvt; packed targets take (high, low)."""
    if saturate:
        raise NotImplementedError("cvt.sat")
    if to == "tf32":
        return to_tf32
    if to == "bf16":
        return to_bfloat16
    if source == "bf16":
        return lambda x: from_bfloat16(x).astype(DTYPES[to])
    dtype = DTYPES[to]
    return lambda x: x.astype(dtype)


def convert_pair(to: str) -> Callable[[Array, Array], Array]:
    """cvt.rn.bf16x2.f32 and cvt.rn.f16x2.f32: the first operand is the high half."""
    half = to_bfloat16 if to == "bf16x2" else (lambda x: x.astype(np.float16).view(np.uint16))
    return lambda high, low: (half(high).astype(np.uint32) << np.uint32(16)) | half(low)


def compare_parts(name: str, type_: str, a: Array, b: Array) -> list[Array]:
    """setp of a type, with a packed one for the low and the high half."""
    if type_ in ("f16x2", "bf16x2"):
        pairs = zip(_unpack(a, type_[:-2]), _unpack(b, type_[:-2]), strict=True)
        return [compare(name, x, y) for x, y in pairs]
    if type_ == "bf16":
        a, b = from_bfloat16(a), from_bfloat16(b)
    return [compare(name, a, b)]


def compare(name: str, a: Array, b: Array) -> Array:
    """An ordered comparison is false if either side is NaN, one that ends in u is true."""
    if a.dtype.kind != "f":
        return COMPARE[name](a, b)
    unordered = np.isnan(a) | np.isnan(b)
    if name in ("nan", "num"):
        return unordered if name == "nan" else ~unordered
    if name.endswith("u"):
        return COMPARE[name[:-1]](a, b) | unordered
    return COMPARE[name](a, b) & ~unordered


def shuffle_partner(mode: str, tid: Array, by: Array, clamp: Array) -> tuple[Array, Array]:
    """The thread whose value each thread gets from shfl.sync, and whether it lies in range (else it is the thread
    itself)."""
    lane, warp = (tid % 32).astype(np.int64), (tid // 32 * 32).astype(np.int64)
    segment, limit = (clamp >> 8) & 31, clamp & 31
    low = lane & segment
    high = low | (limit & ~segment & 31)
    partner = {"up": lane - by, "down": lane + by, "bfly": lane ^ by, "idx": low | (by & ~segment & 31)}[mode]
    valid = partner >= high if mode == "up" else partner <= high
    return warp + np.where(valid, partner, lane), valid


def matrix_fragment(matrix: Array, lane: Array, transpose: bool) -> Array:
    """What ldmatrix gives each thread of an 8 x 8 matrix [threads, 8, 8] of 16-bit values: two of row lane // 4."""
    thread, row, column = np.arange(len(lane)), lane // 4, lane % 4 * 2
    first, second = (matrix[thread, column + i, row] if transpose else matrix[thread, row, column + i] for i in (0, 1))
    pair: Array = first.astype(np.uint32) | (second.astype(np.uint32) << np.uint32(16))
    return pair


def mma(parts: list[str], a: list[Array], b: list[Array], c: list[Array]) -> list[Array]:
    """mma.sync.m16n8kK.row.col of tf32, bf16 or fp16 into float32; products and their sum are exact, one rounding.

    Fragments are as the PTX manual draws them: g = lane // 4 and t = lane % 4 give the row and column.
    """
    k = int(next(p for p in parts if p.startswith("m16n8k")).removeprefix("m16n8k"))
    kind = parts[parts.index("row") + 3]
    warps, lane = len(c[0]) // 32, np.arange(32)
    g, t = lane // 4, lane % 4
    left, right = np.zeros((warps, 16, k)), np.zeros((warps, k, 8))
    for i, register in enumerate(a):
        for j, value in enumerate(_unpack(register, kind)):
            column = t + 4 * (i // 2) if kind == "tf32" else 2 * t + j + 8 * (i // 2)
            left[:, g + 8 * (i % 2), column] = value.reshape(warps, 32)
    for i, register in enumerate(b):
        for j, value in enumerate(_unpack(register, kind)):
            row = t + 4 * i if kind == "tf32" else 2 * t + j + 8 * i
            right[:, row, g] = value.reshape(warps, 32)
    product = left @ right
    return [(product[:, g + 8 * (i // 2), 2 * t + i % 2].reshape(-1) + x).astype(np.float32) for i, x in enumerate(c)]


def _unpack(register: Array, kind: str) -> list[Array]:
    if kind == "tf32":  # the hardware ignores the low 13 bits
        return [(register & np.uint32(0xFFFFE000)).view(np.float32)]
    halves = np.ascontiguousarray(register).view(np.uint16).reshape(-1, 2)
    pair = [np.ascontiguousarray(halves[:, j]) for j in (0, 1)]
    return [from_bfloat16(x) if kind == "bf16" else x.view(np.float16).astype(np.float32) for x in pair]
