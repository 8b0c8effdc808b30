"""`python -m benchmarks tune`: every launch configuration that the table could have, timed on the GPU at hand.

It prints and writes measurements, the table's own row among them; `kernels/min_gru/config.py` is edited by hand, with
the measurement that chose the row. Nothing is tuned at run time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.kernels import DTYPES, form_name
from benchmarks.protocol import measure
from benchmarks.protocol.shapes import SHAPES
from benchmarks.protocol.work import GRADIENT
from rnam.kernels import MIN_GRU, recurrence_backward, recurrence_forward
from rnam.kernels.common.config import LaunchConfig, padded_state
from rnam.kernels.min_gru.config import TABLE, is_fused, select_config, table_config
from tests.support.calls import Call

STEPS, WARPS, STAGES = (1, 2, 4, 8), (1, 2, 4), (1, 2, 3)
ROUNDS = 7
# float32 products have this one.
PRECISION = "tf32"

# 2^25 numbers: 128 MiB in float32, more than twice any L2 cache, and 5e5 rows of work at any width.
ELEMENTS = 1 << 25
LONG = 1024  # steps of a sequence, as in the notebook


@dataclass(frozen=True)
class Key:
    """A row of the table."""

    pass_: str
    batch_rows: bool
    width: int
    itemsize: int

    @property
    def name(self) -> str:
        kind = "float32" if self.itemsize == 4 else "bfloat16"
        return f"{self.pass_} {form_name(self.batch_rows)} {self.width} {kind}"


def keys(shapes: list[str]) -> list[Key]:
    """The rows of the table, or those that the named shapes select."""
    if not shapes:
        return [Key(*key) for key in TABLE]
    found = []
    for name in shapes:
        shape = SHAPES[name]
        for pass_ in ("forward", "log", "backward"):
            for size, dtype in DTYPES.items():
                if is_fused(shape.dim, shape.hidden, dtype, pass_, PRECISION):
                    sizes = shape.terms, shape.batch, shape.steps
                    batch_rows = select_config(shape.dim, shape.hidden, dtype, *sizes, pass_, PRECISION).batch_rows
                    width = max(16, 1 << (max(shape.dim, shape.hidden) - 1).bit_length())
                    found.append(Key(pass_, batch_rows, width, size))
    return list(dict.fromkeys(found))


def candidates(key: Key) -> Iterator[LaunchConfig]:
    """The entries that the table could have, its own first. A warp takes at least 8 columns."""
    table = table_config(key.pass_, key.batch_rows, key.width, key.width, DTYPES[key.itemsize], PRECISION)
    yield table
    for steps in STEPS:
        for warps in WARPS:
            for stages in STAGES:
                other = dataclasses.replace(table, STEPS=steps, num_warps=warps, STAGES=stages)
                if other != table and warps <= padded_state(key.width) // 8:
                    yield other


def tune(key: Key, device: torch.device) -> list[dict[str, Any]]:
    """Each candidate's median, p20 and p80 in ms, fastest first; one that fails, or differs from the table's own by
    more than rounding, has the reason instead."""
    steps = 64 if key.batch_rows else LONG
    terms = 64
    batch = ELEMENTS // key.width // steps // terms
    dtype = DTYPES[key.itemsize]
    x = torch.randn(terms, batch, steps, key.width, device=device).to(dtype)
    weight = torch.randn(terms, key.width, 2 * key.width, device=device) / key.width**0.5
    h, dh = recurrence_forward(Call(x, weight), MIN_GRU)[0], torch.randn_like(x)
    timers: dict[str, measure.Timer] = {}
    found: dict[str, dict[str, Any]] = {}
    want: tuple[torch.Tensor | None, ...] = ()
    for i, config in enumerate(candidates(key)):
        name = f"{config.STEPS} steps, {config.num_warps} warps, {config.STAGES} stages"
        found[name] = {"key": key.name, "config": name, "table": i == 0}
        try:
            call = _call(key, config, x, weight, h, dh)
            result = call()
            want = want or result  # of the table, unless that fails
            if _difference(result, want) > GRADIENT["bfloat16"]:
                found[name]["reason"] = "wrong"
                continue
            timers[name] = _timer(call)
        except Exception as error:  # a compiler's or a launch's, which is the result
            found[name]["reason"] = str(error).splitlines()[0][:200]
    for name, samples in measure.measure(timers, ROUNDS, dict.fromkeys(timers, "events")).items():
        found[name] |= {f"{part}_ms": samples.percentile(p) for part, p in (("median", 50), ("p20", 20), ("p80", 80))}
    return sorted(found.values(), key=lambda row: row.get("median_ms", float("inf")))


def _call(
    key: Key, config: LaunchConfig, x: torch.Tensor, weight: torch.Tensor, h: torch.Tensor, dh: torch.Tensor
) -> Callable[[], tuple[torch.Tensor | None, ...]]:
    call = Call(x, weight, space="log" if key.pass_ == "log" else "linear")
    if key.pass_ == "backward":
        return lambda: recurrence_backward(call, MIN_GRU, h, dh, None, config=config)
    return lambda: recurrence_forward(call, MIN_GRU, config=config)


def _difference(got: tuple[torch.Tensor | None, ...], want: tuple[torch.Tensor | None, ...]) -> float:
    """The largest, relative to the norm; infinite where it is NaN."""
    pairs = [(a.float(), b.float()) for a, b in zip(got, want, strict=True) if a is not None and b is not None]
    sizes = [float((a - b).norm() / b.norm()) for a, b in pairs]
    return max(size if math.isfinite(size) else math.inf for size in sizes)


def _timer(call: Callable[[], Any]) -> measure.Timer:
    def sample() -> tuple[float, None]:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3, None

    sample()
    return sample


def text(rows: list[dict[str, Any]]) -> str:
    """The fastest three of each row of the table, and the table's own."""
    lines = []
    for name in dict.fromkeys(row["key"] for row in rows):
        of = [row for row in rows if row["key"] == name]
        for row in of[:3] + [row for row in of[3:] if row["table"]]:
            result = f"{row['median_ms']:8.3f} ms" if "median_ms" in row else row["reason"]
            lines.append(f"{name:28s} {row['config']:30s} {result}{'  (the table)' if row['table'] else ''}")
    return "\n".join(lines)
