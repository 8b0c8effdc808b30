"""`python -m benchmarks`: rnam.functional.min_gru against the published eager form.

Both do the same work in the same run; a result that does not match a float64 reference gets no time.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import rnam
from benchmarks import published
from rnam import reference

# terms, batch, seq, dim = hidden
SHAPES = {"notebook": (8, 128, 1024, 8), "mid": (64, 128, 48, 32), "p12": (37, 512, 48, 16)}
QUICK = {"notebook": (8, 16, 256, 8), "mid": (64, 16, 48, 32), "p12": (37, 64, 48, 16)}

# Relative to the largest |h|: a sum of 1024 logarithms of size 1 to 20 errs by up to 1024 * 20 * 2^-24 in
# float32, which is what the published form may lose and still counts as right. A gradient multiplies up to
# three exponentials of such sums; its error is relative to its norm.
TOLERANCE = {"forward": 1.2e-3, "training": 3.6e-3}

PROVIDERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rnam": lambda x, w: rnam.functional.min_gru(x, w)[0],
    "published": published.min_gru,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, action="append", help="default: all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="smaller batches and lengths")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    sizes = QUICK if options.quick else SHAPES
    names = options.shape or list(SHAPES)
    rows = []
    for name in tqdm(names, disable=None):
        rows += _rows(name, sizes[name], options.repeats)
    for row in rows:
        time_ = "wrong" if row["median_ms"] is None else f"{row['median_ms']:9.2f} ms"
        ratio = "" if row["speedup"] is None else f"{row['speedup']:6.2f}x"
        what = f"{row['shape']:10s} {row['pass']:9s} {row['provider']:10s}"
        print(f"{what} {time_} {ratio} error {row['max_error']:.1e}")
    if options.json:
        machine = {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "cpu": platform.processor(),
        }
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


def _rows(name: str, shape: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    x, weight = torch.randn(shape), torch.randn(shape[0], shape[3], 2 * shape[3]) / shape[3] ** 0.5
    grad = torch.randn(shape)
    exact = _results(lambda x, w: reference.min_gru(x, w, None, None, None, "linear")[0], x, weight, grad, True)
    rows = []
    for step in ("forward", "training"):
        for provider, function in PROVIDERS.items():
            run = _forward(function, x, weight) if step == "forward" else _training(function, x, weight, grad)
            h, *gradients = _results(function, x, weight, grad, False)
            error = float((h - exact[0]).abs().max() / exact[0].abs().max())
            if step == "training":
                pairs = zip(gradients, exact[1:], strict=True)
                error = max(error, *(float((a - b).norm() / b.norm()) for a, b in pairs))
            times = sorted(_time(run) for _ in range(repeats)) if error <= TOLERANCE[step] else []
            rows.append(
                {
                    "op": "min_gru",
                    "shape": name,
                    "sizes": shape,
                    "pass": step,
                    "provider": provider,
                    "median_ms": statistics.median(times) if times else None,
                    "max_error": error,
                }
            )
    for row in rows:
        base = next(r for r in rows if r["provider"] == "published" and r["pass"] == row["pass"])["median_ms"]
        row["speedup"] = base / row["median_ms"] if base and row["median_ms"] else None
    return rows


def _results(
    function: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor, grad: Tensor, double: bool
) -> list[Tensor]:
    """h and the gradients of x and weight, in float64."""
    dtype = torch.float64 if double else torch.float32
    arguments = [t.to(dtype).clone().requires_grad_() for t in (x, weight)]
    h = function(*arguments)
    return [t.detach().double() for t in (h, *torch.autograd.grad(h, arguments, grad.to(dtype)))]


def _forward(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            function(x, weight)

    return run


def _training(
    function: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor, grad: Tensor
) -> Callable[[], None]:
    def run() -> None:
        arguments = x.clone().requires_grad_(), weight.clone().requires_grad_()
        torch.autograd.grad(function(*arguments), arguments, grad)

    return run


def _time(run: Callable[[], None]) -> float:
    """Milliseconds of one call, after one that warms up."""
    run()
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
