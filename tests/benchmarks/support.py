"""Small work and small runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.protocol import work
from benchmarks.protocol.compare import Settings
from benchmarks.protocol.provider import Provider, plain
from benchmarks.protocol.row import Row
from benchmarks.protocol.shapes import Shape
from benchmarks.protocol.work import Work
from benchmarks.providers import registry
from benchmarks.reports.run import Run

CPU = torch.device("cpu")
QUICK = ["--device", "cpu", "--quick", "--rounds", "1"]
SMALL = Shape("p12", 3, 4, 20, 4, 5)
COMPILED = {name: "not compiled here" for op in registry.REGISTRY.values() for name, p in op.items() if p.compiled}
BOTH = Settings(passes=("forward", "both"), rounds=1, left_out=COMPILED)
ABOUT = {
    "device": "CPU of a test, 1 threads",
    "versions": {"torch": "2"},
    "threads": 1,
    "commit": "0123456789abcdef",
    "quick": True,
    "rounds": 1,
    "clocks": "",
}


def job(op: str = "min_gru", shape: Shape = SMALL) -> Work:
    return work.make(op, shape, "float32", CPU)


def use(monkeypatch: pytest.MonkeyPatch, op: str, **calls: Callable[..., Any]) -> None:
    """Leaves these providers alone in the registry of an op, functions of the common layout or providers."""
    found = {n: c if isinstance(c, Provider) else Provider(n, plain(c)) for n, c in calls.items()}
    monkeypatch.setitem(registry.REGISTRY, op, found)


def a_run() -> Run:
    """Two providers that are right, one that is wrong and one that is missing."""
    run = Run(dict(ABOUT))
    values = dict(p20_ms=1.0, p80_ms=3.0, gbps=4.0, copy_fraction=0.5, peak_mb=10.0, max_error=1e-7)
    rows = [
        Row("min_gru", "p12", "float32", "forward", "rnam", median_ms=2.0, speedup=5.0, **values),
        Row("min_gru", "p12", "float32", "forward", "published", median_ms=10.0, speedup=1.0, **values),
        Row("min_gru", "p12", "float32", "forward", "vmap", median_ms=1.0, speedup=10.0, **values),
        Row("min_gru", "p12", "float32", "forward", "broken", max_error=0.5),
        Row("min_gru", "p12", "float32", "forward", "peer"),
        Row("accuracy", "T=100 k~N(0,1)", "float32", "forward", "rnam", max_error=1e-7),
        Row("linear_scan", "scan-128", "float32", "forward", "rnam", median_ms=2.0, **values),
    ]
    rows[3].detail["reason"], rows[4].detail["reason"] = "wrong", "peer is not installed"
    layer = {"sizes": "37 x 32 x 48 x 16", "steps": 48, "note": "scaled down: batch 512 -> 32"}
    run.add("min_gru/p12/float32", rows[:-1], layer)
    scan = {"sizes": "1 x 8 x 128 x 1536", "steps": 128, "note": ""}
    run.add("linear_scan/scan-128/float32", rows[-1:], scan)
    return run


def watch(monkeypatch: pytest.MonkeyPatch, before: Callable[[str], None]) -> list[str]:
    """The ops of work as it is made, each after `before`, which may raise."""
    made: list[str] = []
    work_make = work.make

    def make(op, *arguments, **options):
        made.append(op)
        before(op)
        return work_make(op, *arguments, **options)

    monkeypatch.setattr(work, "make", make)
    return made
