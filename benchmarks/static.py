"""`python -m benchmarks static`: what the kernels cost as compiled, which takes no GPU. No figure here is a timing.

A bound is optimistic: issue slots, special functions, shared memory and tensor cores overlap perfectly, and nothing
waits. Its unit is cycles of an SM sub-partition per element of output, times 32 (one element per lane of a warp). A
warp's instruction takes one issue slot, a special function 8 (MUFU makes 4 lanes per cycle), a wavefront of shared
memory or global access 4 (the pipe of an SM serves four sub-partitions), and an HMMA about 5. Products by wgmma and
tcgen05 are counted and not weighed, and neither are spills.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.kernels import BF16, FLOAT32, Entry, entries, min_gru_name
from benchmarks.protocol.shapes import BY_COMMAND, SHAPES
from rnam.kernels.min_gru.config import is_fused, select_config
from tools.ptx.compile import compile_launch
from tools.ptx.sass import Usage, load_bits, usage

FIGURES = Path(__file__).parent / "results" / "static" / "figures.json"
MUFU, WAVEFRONT, HMMA = 8, 4, 5


@dataclass(frozen=True)
class Device:
    """The data sheet of the card an architecture stands for; `bandwidth` is 0.9 of its memory's, as a copy gets."""

    card: str
    processors: int
    clock: float
    bandwidth: float

    @property
    def cycles_per_byte(self) -> float:
        """Lane-cycles in the time one byte takes."""
        return self.processors * 4 * 32 * self.clock / self.bandwidth


DEVICES = {
    80: Device("A100 80 GB", 108, 1.41e9, 1.83e12),
    90: Device("H100 SXM", 132, 1.755e9, 3.0e12),
    100: Device("B200", 148, 1.85e9, 7.2e12),
}

# The rows that a quick run compiles, in half a minute: the forms of one width with one precision.
QUICK = tuple(
    f"min_gru {pass_} {form} D=16 H=16 tf32"
    for pass_ in ("forward", "log", "backward")
    for form in ("time_rows", "batch_rows")
)

# Per element, twice what the formula needs is work done twice.
DUPLICATED = 2


def figures(entry: Entry, cc: int) -> dict[str, Any]:
    """The row of one kernel on one architecture. Counts are those of the steady loop, for one warp."""
    return _row(entry, cc, usage(compile_launch(entry.build(), cc)))


def _row(entry: Entry, cc: int, used: Usage) -> dict[str, Any]:
    mix = dict(used.mix)
    instructions = sum(n for op, n in mix.items() if op != "NOP")
    products = {op: n for op, n in mix.items() if "MMA" in op}
    cycles_of = {
        "issue": instructions,
        "mufu": MUFU * used.mufu,
        "memory": WAVEFRONT * used.wavefronts,
        "tensor": HMMA * mix.get("HMMA", 0),
    }
    bound = max(cycles_of.values()) / entry.lanes
    cycles = DEVICES[cc].cycles_per_byte
    budget = cycles * entry.moved
    row = {
        "kernel": entry.name,
        "cc": cc,
        "registers": used.registers,
        "spills": used.spills,
        "loop_spills": mix.get("LDL", 0) + mix.get("STL", 0),
        "shared": used.shared,
        "lanes": entry.lanes,
        "instructions": instructions,
        "mufu": used.mufu,
        "shuffles": mix.get("SHFL", 0),
        "wavefronts": used.wavefronts,
        "ffma": mix.get("FFMA", 0),
        "products": products,
        "loads": _widths(used.loads),
        "bound": round(bound, 1),
        "bound_by": max(cycles_of, key=lambda cause: cycles_of[cause]),
        "budget": round(budget, 1),
        "copy_limit": round(cycles * entry.ideal / max(bound, budget), 3),
    }
    return row | {"flags": _flags(entry, row)}


def _widths(loads: Iterable[str]) -> dict[str, int]:
    """Global loads by their width in bits."""
    counts: dict[str, int] = {}
    for op in loads:
        width = str(load_bits(op))
        counts[width] = counts.get(width, 0) + 1
    return dict(sorted(counts.items()))


def _flags(entry: Entry, row: dict[str, Any]) -> list[str]:
    flags = []
    if entry.mufu and row["mufu"] >= DUPLICATED * entry.mufu * entry.lanes:
        flags.append("duplicated work")
    if entry.wide and set(row["loads"]) & {"32", "16", "8"}:
        flags.append("scalar loads")
    if row["spills"]:
        flags.append("spills")
    if row["bound"] > row["budget"]:
        flags.append("over budget")
    if set(row["products"]) - {"HMMA"}:
        flags.append("products not weighed")
    return flags


def run(names: Iterable[str] | None = None, progress: Any = iter) -> list[dict[str, Any]]:
    """Rows of all kernels, or of those with these names."""
    wanted = None if names is None else set(names)
    chosen = [e for e in entries() if wanted is None or e.name in wanted]
    return [figures(entry, cc) for entry, cc in progress([(e, cc) for e in chosen for cc in DEVICES])]


def limits(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per named shape, type and pass: the most of copy bandwidth that the selected kernel can reach.

    Padding to whole tiles counts as work; the second reading of a T that is cut does not. A width that has no fused
    kernel takes products of cuBLAS, of whose time nothing is known but the bytes: `kernel` is None then.
    """
    found = {(row["kernel"], row["cc"]): row for row in rows}
    table = []
    for name in BY_COMMAND["layer"]:
        shape = SHAPES[name]
        for dtype, precision in ((FLOAT32, "tf32"), (FLOAT32, "tf32x3"), (BF16, "ieee")):
            for pass_ in ("forward", "log", "backward"):
                kernel, waste = _selected(shape.dim, shape.hidden, dtype, precision, pass_, shape)
                for cc in DEVICES:
                    figure = found.get((kernel, cc)) if kernel else None
                    limit = _apart(shape.dim, shape.hidden, pass_) if kernel is None else None
                    limit = round(_limit(figure, cc, waste), 3) if figure is not None else limit
                    kind = "bfloat16" if dtype == BF16 else precision
                    row = {"shape": name, "dtype": kind, "pass": pass_, "cc": cc, "kernel": kernel}
                    table.append(row | {"copy_limit": limit})
    return table


def _limit(row: dict[str, Any], cc: int, waste: float) -> float:
    """copy_limit with the work, but not the bytes, times `waste`."""
    ideal: float = row["copy_limit"] * max(row["bound"], row["budget"])
    return ideal / max(row["bound"] * waste, row["budget"])


def _apart(dim: int, hidden: int, pass_: str) -> float:
    """Ideal bytes over those of products and gates apart, per element of h, with r = dim / hidden.

    The forward writes p, two numbers, and reads it: r + 2, then 2 + 1. The backward makes p again, r + 2, and its gates
    read p and dh and write dp, 2 + 1 + 2; dx takes dp and writes r, dW takes x and dp, r + 2.
    """
    ratio = dim / hidden
    if pass_ == "backward":
        return round((2 * ratio + 1) / (3 * ratio + 11), 3)
    return round((ratio + 1) / (ratio + 5), 3)


def _selected(
    dim: int, hidden: int, dtype: torch.dtype, precision: str, pass_: str, shape: Any
) -> tuple[str | None, float]:
    if not is_fused(dim, hidden, dtype, pass_, precision):
        return None, 1.0
    sizes = shape.terms, shape.batch, shape.steps
    config = select_config(dim, hidden, dtype, *sizes, pass_, precision)
    return min_gru_name(pass_, config.batch_rows, dim, hidden, dtype, precision), config.waste(*sizes[1:])


def text(rows: list[dict[str, Any]]) -> str:
    """The rows as lines."""
    head = f"{'sm':>4s} {'reg':>4s} {'spill':>5s} {'in loop':>7s} {'bound':>7s} {'budget':>7s} {'% copy':>6s}"
    lines = [f"{'kernel':58s} {head}  flags"]
    for row in rows:
        numbers = f"{row['cc']:4d} {row['registers']:4d} {row['spills']:5d} {row['loop_spills']:7d}"
        numbers += f" {row['bound']:7.1f} {row['budget']:7.1f}"
        lines.append(f"{row['kernel']:58s} {numbers} {100 * row['copy_limit']:6.0f}  {', '.join(row['flags'])}")
    return "\n".join(lines)


def document(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The committed file: the versions that compiled it, the rows, and the limits of the named shapes."""
    import triton

    cards = {str(cc): f"{d.card}, {d.cycles_per_byte:.2f} cycles per byte" for cc, d in DEVICES.items()}
    return {"triton": triton.__version__, "cards": cards, "rows": rows, "limits": limits(rows)}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    body = document(rows)
    lines = {key: ",\n  ".join(json.dumps(row) for row in body[key]) for key in ("rows", "limits")}
    head = f'"triton": {json.dumps(body["triton"])},\n"cards": {json.dumps(body["cards"])}'
    path.write_text(f'{{{head},\n"rows": [\n  {lines["rows"]}\n],\n"limits": [\n  {lines["limits"]}\n]}}\n')
