"""The copy bandwidth of a run: one figure, which every "% of copy" of the run is a share of.

It is that of the fastest streaming copy measured in the run. Some sizes are copied in three ways: by `copy_`, by
`copy_` with the size rounded up to 2 MiB, and on a GPU by a Triton kernel. The reason for more than one way: on an H200
`copy_` had two speeds, 2.3 to 2.7 and 3.4 to 4.1 TB/s, and every size that was no multiple of 4096 bytes had the lower
one. So a copy of the bytes that a piece of work moves is no anchor for it.

A copy is timed as the providers are: from a CUDA graph with cold L2 on a GPU, with warm caches on a CPU.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.protocol import measure
from benchmarks.protocol.compare import last_line
from benchmarks.protocol.machine import device_name
from benchmarks.protocol.row import Row
from benchmarks.protocol.shapes import SHAPES, Shape

# GB/s of the memory, by the name that torch gives the device.
DATA_SHEET = {"NVIDIA H200": 4800.0}

PAGE = 2 << 20
# Samples of each copy, at least: the fastest of medians that are noisy would be above what any copy reaches.
LEAST_ROUNDS = 7
# A copy of fewer bytes says more of caches and launches than of memory.
LEAST = 24_000_000


def _forward(shape: Shape) -> int:
    """Bytes of a minGRU's forward in float32: x, W and h."""
    rows = shape.terms * shape.batch * shape.steps
    return 4 * (rows * (shape.dim + shape.hidden) + 2 * shape.terms * shape.dim * shape.hidden)


# Bytes that a copy reads and writes, by the type of the device. A CPU takes some ten milliseconds for each.
SIZES = {
    "cuda": (
        LEAST,
        *(_forward(SHAPES[name]) for name in ("notebook", "mid", "p12", "electricity", "eeg-long", "eeg-wide")),
        1_000_000_000,
    ),
    "cpu": (LEAST, *(_forward(SHAPES[name]) for name in ("notebook", "p12"))),
}
AS_IT_IS, ROUNDED, TRITON = "copy_", "copy_, rounded up to 2 MiB", "Triton, rounded up to 2 MiB"


@dataclass(frozen=True)
class Anchor:
    """The figure of a run, and why it is this one.

    data_sheet  GB/s of the device's memory by its data sheet; None where the table does not have the device.
    copies      all copies that were measured for it, each with its way, bytes, times and GB/s; of a run from before
                there was an anchor, none: its copies stand among its rows.
    """

    gbps: float
    reason: str
    data_sheet: float | None = None
    copies: tuple[dict[str, Any], ...] = ()

    @property
    def share(self) -> float | None:
        """The share of the data sheet's bandwidth."""
        return None if self.data_sheet is None else self.gbps / self.data_sheet

    def as_json(self) -> dict[str, Any]:
        found = {"gbps": self.gbps, "reason": self.reason, "data_sheet_gbps": self.data_sheet}
        return found | {"share_of_data_sheet": self.share, "copies": list(self.copies)}

    def rate(self, rows: Iterable[Row]) -> None:
        """Fills in the share of the anchor that each row reaches."""
        for row in rows:
            row.copy_fraction = None if row.gbps is None else row.gbps / self.gbps

    def __str__(self) -> str:
        sheet = "the data sheet's bandwidth of this device is unknown"
        if self.share is not None:
            sheet = f"{100 * self.share:.0f}% of the data sheet's {self.data_sheet:.0f} GB/s"
        return f"copy bandwidth {self.gbps:.4g} GB/s ({self.reason}); {sheet}"


def from_json(body: Mapping[str, Any]) -> Anchor:
    return Anchor(body["gbps"], body["reason"], body["data_sheet_gbps"], tuple(body["copies"]))


def of_run(
    rows: Iterable[Row],
    shapes: Mapping[str, Mapping[str, Any]],
    device: str,
    known: Anchor | None,
    given: tuple[float, str] | None,
) -> Anchor | None:
    """The anchor of a run that is through: a figure that is `given` with its reason, else the one that it measured,
    else the fastest copy among its rows; None where it has none."""
    if given is not None:
        return Anchor(*given, DATA_SHEET.get(device), known.copies if known else ())
    return known or _among(rows, shapes, device)


def take(device: torch.device, rounds: int) -> Anchor:
    """Measures the copies on a device and gives the anchor.

    Raises:
        RuntimeError: no copy could be timed.
    """
    makers: dict[str, measure.Maker] = {}
    sizes: dict[str, tuple[str, int]] = {}
    for count in SIZES[device.type]:
        for way in (AS_IT_IS, ROUNDED, TRITON) if device.type == "cuda" else (AS_IT_IS, ROUNDED):
            half = count // 2 if way == AS_IT_IS else -(-count // (2 * PAGE)) * PAGE
            sizes[f"{way} {count}"] = way, 2 * half
            makers[f"{way} {count}"] = functools.partial(measure.copy_timer, half, device, _by(way))
    samples, failures = measure.each(makers, max(rounds, LEAST_ROUNDS), device)
    copies = [
        {"way": way, "bytes": count} | (_times(samples[name], count) if name in samples else _failed(failures[name]))
        for name, (way, count) in sizes.items()
    ]
    timed = [found for found in copies if "gbps" in found]
    if not timed:
        raise RuntimeError(f"no copy could be timed: {copies[0]['failed']}")
    best = max(timed, key=lambda found: found["gbps"])
    reason = f"the fastest of {len(timed)} copies: {best['way']}, {_megabytes(best['bytes'])}"
    return Anchor(best["gbps"], reason, DATA_SHEET.get(device_name(device)), tuple(copies))


def _times(samples: measure.Samples, count: int) -> dict[str, Any]:
    median = samples.percentile(50)
    times = {"median_ms": median, "p20_ms": samples.percentile(20), "p80_ms": samples.percentile(80)}
    return times | {"gbps": count / median / 1e6, "method": samples.method}


def _failed(error: Exception) -> dict[str, Any]:
    return {"failed": last_line(error)}


def _by(way: str) -> measure.Copy:
    if way != TRITON:
        return lambda source, target: target.copy_(source)

    def copy(source: Tensor, target: Tensor) -> Tensor:
        from benchmarks.protocol import copy_kernel  # a CPU needs no Triton

        return copy_kernel.copy(source, target)

    return copy


def _among(rows: Iterable[Row], shapes: Mapping[str, Mapping[str, Any]], device: str) -> Anchor | None:
    """The anchor of a run from before they were measured, whose rows have a copy for each piece of work."""
    found = []
    for row in rows:
        moved = shapes.get(f"{row.op}/{row.shape}/{row.dtype}", {}).get("bytes", {}).get(row.pass_)
        if row.provider == "copy" and row.gbps is not None and moved is not None and moved >= LEAST:
            found.append((row.gbps, moved))
    if not found:
        return None
    gbps, moved = max(found)
    reason = f"the fastest of the run's {len(found)} copies of {_megabytes(LEAST)} and more: {_megabytes(moved)}"
    return Anchor(gbps, reason, DATA_SHEET.get(device))


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
