"""`overhead`: the host's CPU time of one step of a layer, beside the bare torch operations that the step needs.

A sample is HOST_CALLS calls in a row, after one that is not timed; the suite's own work around a call is outside of it.
The providers take turns through many such samples, so that ratios of one round are of the same moment. Each row says
how many times its own work it takes, and how many times as long the published step takes: the median of the rounds, the
quartiles, and the ratio of the best samples. What the device computes is not in it, on a GPU.
"""

import argparse
import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.commands.session import Result, Unit
from benchmarks.protocol import compare, work
from benchmarks.protocol.measure import HOST_CALLS, Timer, host_timer, measure
from benchmarks.protocol.provider import Bound, Provider, plain
from benchmarks.protocol.row import compare_with
from benchmarks.protocol.shapes import SHAPES, Shape
from benchmarks.providers import registry
from benchmarks.reports.run import load

# One number in and out, where nothing is left but the host's work; and a step of a layer for one person and for 64.
STEPS = (Shape("tiny", 1, 1, 1, 1, 1, state=True), SHAPES["stream-1"], SHAPES["stream-64"])
# For each of --rounds.
SAMPLES = 15
OWN, PUBLISHED = "own-work", "published-step"


def own_work(x: Tensor, weight: Tensor, h0: Tensor) -> Tensor:
    """One step in the fewest torch operations with RNAM's rounding: 1 - z is sigmoid(-k), g(u) the larger of two."""
    rows = x[:, :, 0]
    if torch.is_grad_enabled():  # one product is cheaper to differentiate, and two give contiguous halves
        u, k = torch.bmm(rows, weight).chunk(2, -1)
    else:
        u, k = (torch.bmm(rows, part) for part in weight.chunk(2, -1))
    values = torch.maximum(u + 0.5, u.sigmoid()) * k.sigmoid()
    return torch.addcmul(values, k.neg().sigmoid(), h0[:, :, 0])[:, :, None]


_LAYERS = registry.REGISTRY["min_gru"]
PROVIDERS = (
    Provider("rnam", registry.layer),
    Provider("rnam-functional", _LAYERS["rnam"].bind),
    _LAYERS["rnam-reference"],
    Provider(OWN, plain(own_work)),
    _LAYERS[PUBLISHED],
)


def units(options: argparse.Namespace) -> dict[str, Unit]:
    before = {row.key: row.detail for row in load(options.before).rows} if options.before else {}
    return {f"overhead/{shape.name}": functools.partial(_overhead, shape, options, before) for shape in STEPS}


def _overhead(shape: Shape, options: argparse.Namespace, before: dict[str, dict[str, Any]]) -> Result:
    job = work.make("min_gru", shape, "float32", options.device)
    settings = compare.Settings(("forward", "both"), options.rounds)
    candidates = [compare.candidate(job, p, functools.partial(work.expected, job), settings) for p in PROVIDERS]
    rows = []
    for pass_ in settings.passes:
        found = compare.rows_of(job, candidates, pass_, op="overhead")
        bounds = {c.provider.name: c.bound for c in candidates}
        timers = {row.provider: timer(bounds[row.provider], pass_) for row in found if "reason" not in row.detail}
        samples = measure(timers, SAMPLES * options.rounds, dict.fromkeys(timers, f"{HOST_CALLS} calls"))
        for row in found:
            if row.provider in samples:
                row.add(samples[row.provider])
                row.detail |= _ratios(row.provider, {name: s.cpu for name, s in samples.items()})
                row.detail["note"] = _note(row.detail, before.get(row.key, {}))
        compare_with(PUBLISHED, found)
        rows += found
    return rows, {}


def timer(bound: Bound, pass_: str) -> Timer:
    """Of the bare calls; a training step is one with its gradients."""
    call, leaves, device = bound.call, bound.leaves, bound.incoming.device

    def both() -> None:
        torch.autograd.grad(call(*leaves), leaves, bound.incoming)

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        with bound.context(), torch.set_grad_enabled(pass_ == "both"):
            yield

    return host_timer(both if pass_ == "both" else lambda: call(*leaves), device, context)


def _ratios(name: str, cpu: dict[str, list[float]]) -> dict[str, Any]:
    """How many times its own work a provider takes, and how many times as long the published step takes."""
    pairs = {"over_own_work": (name, OWN), "published_over_it": (PUBLISHED, name)}
    found: dict[str, Any] = {"cpu_best_ms": min(cpu[name])}
    for key, (over, under) in pairs.items():
        if over != under and over in cpu and under in cpu:
            p25, median, p75 = np.percentile([a / b for a, b in zip(cpu[over], cpu[under], strict=False)], (25, 50, 75))
            found[key] = {"median": median, "p25": p25, "p75": p75, "best": min(cpu[over]) / min(cpu[under])}
    return found


def _note(detail: dict[str, Any], before: dict[str, Any]) -> str:
    parts = [f"best {1e3 * detail['cpu_best_ms']:.1f} µs"]
    for key, what in (("over_own_work", "its own work"), ("published_over_it", "published over it")):
        if key in detail:
            parts.append("{}: {median:.2f} ({p25:.2f} to {p75:.2f}, best {best:.2f})".format(what, **detail[key]))
            if key in before:
                parts[-1] += " before {median:.2f} (best {best:.2f})".format(**before[key])
    return "; ".join(parts)
