"""What `--quick` leaves out, so that it ends in minutes and still fills in what the kernels are held to."""

from __future__ import annotations

import torch

from benchmarks.protocol.provider import PASSES
from benchmarks.protocol.shapes import Shape
from benchmarks.providers import registry

# torch.compile takes 10 to 30 s for each shape and pass, and is compared with at these alone.
COMPILED = {("min_gru", "notebook"), ("min_gru", "p12")}
COMPILER = "published-compiled"

# torch's scans over an outer dimension walk it with one thread for each number of a step: about a microsecond a step
# and scan on a GPU, and the form has two, its gradient six. The base alone is timed beyond so many steps.
MOST_LOG_SUM_STEPS = 65_536


def passes(op: str, device: torch.device) -> tuple[str, ...]:
    """On a GPU the layer's backward is measured by itself too."""
    return PASSES if device.type == "cuda" and op == "min_gru" else ("forward", "both")


def left_out(op: str, shape: Shape, device: torch.device, first: bool) -> dict[str, str]:
    """Providers that don't run, and why. `first` says that the type is the first of those that run: the others are for
    RNAM and its base, which is enough to see what a type costs."""
    base = registry.base(op, shape.state)
    found = {}
    for name, provider in registry.REGISTRY[op].items():
        if provider.compiled and not _compiles(op, shape.name, device, name, first):
            found[name] = "not compiled in a quick run"
        elif name == base or (name.startswith("rnam") and name != "rnam-reference"):
            continue
        elif provider.log_sums and shape.steps > MOST_LOG_SUM_STEPS:
            found[name] = f"{shape.steps} steps are not run in a quick run"
        elif not first and device.type == "cuda":
            found[name] = "not run in this type in a quick run"
    return found


def _compiles(op: str, shape: str, device: torch.device, name: str, first: bool) -> bool:
    return device.type == "cuda" and first and name == COMPILER and (op, shape) in COMPILED
