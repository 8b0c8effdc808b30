"""`accuracy`: the error of h against the length."""

import argparse
import functools

import torch

from benchmarks.commands.session import Result, Unit
from benchmarks.protocol.row import Row
from benchmarks.protocol.shapes import Shape
from benchmarks.protocol.work import Work
from benchmarks.providers.registry import REGISTRY
from tests.support import oracle

LENGTHS = (100, 1000, 10_000, 100_000, 1_000_000)
QUICK_LENGTH = 10_000
GATE_MEANS = (0, 6)
WIDTH = 8
PROVIDERS = ("rnam", "rnam-log", "published")


def units(options: argparse.Namespace) -> dict[str, Unit]:
    lengths = [n for n in LENGTHS if not options.quick or n <= QUICK_LENGTH]
    return {f"accuracy/{n}": functools.partial(_accuracy, options.device, n) for n in lengths}


def _accuracy(device: torch.device, steps: int) -> Result:
    """The largest relative error of an element of h in float32, for gates of mean 0 and 6 (k ~ N(mean, 1))."""
    rows = []
    for mean in GATE_MEANS:
        generator = torch.Generator(device).manual_seed(0)
        # x is (u, k) and W picks them out, so that k has the mean that is asked for
        p = torch.randn(1, 1, steps, 2 * WIDTH, generator=generator, device=device)
        p[..., WIDTH:] += mean
        weight = torch.eye(2 * WIDTH, device=device)[None]
        exact, _ = oracle.min_gru(p, weight, long=True)
        shape = Shape(f"T={steps} k~N({mean},1)", 1, 1, steps, 2 * WIDTH, WIDTH)
        job = Work("min_gru", shape, "float32", device, (p, weight), p[..., :WIDTH])
        for name in PROVIDERS:
            h = REGISTRY["min_gru"][name].bind(job).forward().double()
            error = float(((h - exact).abs() / exact.abs()).max())
            rows.append(Row("accuracy", shape.name, "float32", "forward", name, max_error=error))
    return rows, {}
