"""`python -m tests.gpu.timings FILE`: each kernel against the PyTorch path and a copy of the bytes it must move.

A time is the median of REPETITIONS calls by CUDA events, after WARM_UP calls; a call that is
shorter than what the host takes to launch it shows the host's time. The tensors are larger than the L2 cache.
A result that differs from PyTorch's by more than rounding gets no time.
"""

import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rnam
from rnam import functional
from tests.gpu import shapes
from tests.gpu.parity import on_kernels
from tests.gpu.shapes import BF16, DEVICE, FLOAT32

WARM_UP, REPETITIONS = shapes.size((5, 20), (1, 2))

# (terms, batch, steps, width = dim = hidden): 2^26 elements, 256 MiB in float32 and 128 MiB in bfloat16
SHAPE = shapes.size((32, 64, 2048, 16), (2, 2, 17, 4))

# Relative to the norm. The slope of g jumps at u = 0, and some of 2^26 numbers round to the other side of it: one of
# 2^24 is worth 2.5e-4 of a gradient. Halves are rounded at 2^-8 some times over.
DIFFERENCE = {FLOAT32: 2e-3, BF16: 3e-2}


@dataclass(frozen=True)
class Line:
    """A function of two tensors, and the tensors of the size of the first that it must read and write."""

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    moves: int
    backward: bool
    scan: bool = False


def _min_gru(x: Tensor, weight: Tensor) -> Tensor:
    return functional.min_gru(x, weight)[0]


LINES = (
    # x, h; and in the backward x, dh, dx (the rows of h that it reads are a quarter, and not counted)
    Line("min_gru forward", _min_gru, 2, False),
    Line("min_gru forward + backward", _min_gru, 5, True),
    # a, b, h; and in the backward a, dh, da, db, in logs b too (the rows of h as above)
    Line("linear_scan forward + backward", functional.linear_scan, 7, True, scan=True),
    Line("log_scan forward + backward", functional.log_scan, 8, True, scan=True),
    Line("grouped_linear forward + backward", lambda x, w: functional.grouped_linear(x, w, None, "relu"), 5, True),
)


def _inputs(line: Line, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    terms, width = SHAPE[0], SHAPE[3]
    torch.manual_seed(0)
    first = torch.randn(SHAPE, device=DEVICE, dtype=dtype)
    if line.scan:
        second = torch.randn(SHAPE, device=DEVICE, dtype=dtype)
        first = -first.abs() if line.function is functional.log_scan else torch.sigmoid(first)
    else:
        columns = width if line.function is not _min_gru else 2 * width
        second = (torch.randn(terms, width, columns, device=DEVICE) / width**0.5).to(dtype)
    return first, second


def _call(line: Line, first: Tensor, second: Tensor, incoming: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    def forward() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (line.function(first, second),)

    def both() -> tuple[Tensor, ...]:
        leaves = first.detach().requires_grad_(), second.detach().requires_grad_()
        h = line.function(*leaves)
        return h.detach(), *torch.autograd.grad(h, leaves, incoming)

    return both if line.backward else forward


def median_ms(run: Callable[[], Any]) -> float:
    """Milliseconds of a call on the current stream."""
    for _ in range(WARM_UP):
        run()
    times = []
    for _ in range(REPETITIONS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def _difference(got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> float:
    """The largest difference of two results, relative to the norm."""
    pairs = zip(got, want, strict=True)
    return max(float((a.float() - b.float()).norm() / b.float().norm()) for a, b in pairs)


def measure(line: Line, dtype: torch.dtype, timer: Callable[[Callable[[], Any]], float] = median_ms) -> dict[str, Any]:
    """A row of the report; its times are None where the result is wrong."""
    first, second = _inputs(line, dtype)
    incoming = torch.randn(SHAPE, device=DEVICE, dtype=dtype)
    run = _call(line, first, second, incoming)
    count = line.moves * first.numel() * first.element_size()
    source, target = (torch.empty(count // 2, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    with on_kernels():
        ours = run()
    with rnam.set_backend("reference"):
        difference = _difference(ours, run())
    del ours
    row = {"name": line.name, "dtype": str(dtype).removeprefix("torch."), "shape": SHAPE, "bytes": count}
    row |= {"difference": difference, "warm_up": WARM_UP, "repetitions": REPETITIONS}
    if not difference <= DIFFERENCE[dtype]:
        return row | {"kernel_ms": None, "torch_ms": None, "copy_ms": None}
    with on_kernels():
        kernel = timer(run)
    with rnam.set_backend("reference"):
        plain = timer(run)
    return row | {"kernel_ms": kernel, "torch_ms": plain, "copy_ms": timer(lambda: target.copy_(source))}


def main() -> int:
    rows: list[dict[str, Any]] = []
    for dtype in (FLOAT32, BF16):
        for line in LINES:
            rows.append(measure(line, dtype))
            Path(sys.argv[1]).write_text(json.dumps(rows, indent=1))  # what there is, if time runs out
    return int(any(row["kernel_ms"] is None for row in rows))


if __name__ == "__main__":
    sys.exit(main())
