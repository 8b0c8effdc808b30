"""`layer`, `linear`, `scan`, `model` and `memory`: one kind of work by its providers, on the named shapes."""

import argparse
import functools
import os
from pathlib import Path

import torch

from benchmarks.commands.session import Result, Unit
from benchmarks.protocol import compare, shapes, work
from benchmarks.protocol.provider import PASSES
from benchmarks.protocol.shapes import Shape
from benchmarks.providers import registry
from benchmarks.reports.run import UsageError

OPS = {
    "layer": ("min_gru",),
    "linear": ("linear",),
    "scan": ("linear_scan", "log_scan"),
    "model": ("model",),
    "memory": ("min_gru",),
}

# torch.compile takes 10 to 30 s for each shape and pass, and is compared with at these alone.
COMPILED = {("min_gru", "notebook"), ("min_gru", "p12")}
COMPILER = "published-compiled"

# torch's scans over an outer dimension walk it with one thread for each number of a step: about a microsecond a step
# and scan on a GPU, and the form has two, its gradient six. The base alone is timed beyond so many steps.
MOST_LOG_SUM_STEPS = 65_536


def units(command: str, options: argparse.Namespace) -> dict[str, Unit]:
    known = shapes.BY_COMMAND[command]
    usual = shapes.QUICK[options.device.type][command] if options.quick else known
    names = [name for name in known if name in options.shape] if options.shape else usual
    prefix = "memory/" if command == "memory" else ""
    return {
        f"{prefix}{op}/{name}/{kind}": functools.partial(_unit, command, op, name, kind, options)
        for op in OPS[command]
        for name in names
        for kind in _kinds(op, options)
    }


def check(options: argparse.Namespace) -> None:
    """That one command's choice leaves something to do; an op without the providers asked for would time a copy."""
    command = options.command
    known = {name for op in OPS[command] for name in registry.REGISTRY[op]}
    if options.provider and not known & set(options.provider):
        raise UsageError(f"{command} has none of --provider {', '.join(options.provider)}")
    if not units(command, options):
        raise UsageError(f"{command} has no shape among {', '.join(options.shape)}")


def _kinds(op: str, options: argparse.Namespace) -> list[str]:
    if options.device.type == "cpu" and "tf32" in options.dtype:
        raise UsageError("--dtype: tf32 products are a GPU's")
    if options.dtype or options.device.type == "cpu":
        return options.dtype or ["float32"]
    return [*(() if op.endswith("scan") else ("tf32",)), "float32", "bfloat16"]  # a scan has no products


def _unit(command: str, op: str, name: str, kind: str, options: argparse.Namespace) -> Result:
    device, is_quick = options.device, options.quick
    most = shapes.QUICK_ELEMENTS[device.type] if is_quick else None
    shape = shapes.fit(shapes.SHAPES[name], _memory(device) // (2 * shapes.TENSOR_BYTES * shapes.TENSORS[op]), most)
    first = kind == _kinds(op, options)[0]
    settings = compare.Settings(
        passes=("both",) if command == "memory" else tuple(options.passes) or usual_passes(op, device, is_quick),
        rounds=options.rounds,
        timed=command != "memory",
        left_out=left_out(op, shape, device, first) if is_quick and not options.provider else {},
        quick=is_quick,
    )
    with work.precision(kind):
        job = work.make(op, shape, kind, device, work.QUICK_TERMS if is_quick else work.MOST_TERMS)
        rows = registry.compare_all(job, settings, options.provider)
    for row in rows:
        row.op = f"memory/{row.op}" if command == "memory" else row.op
    return rows, work.describe(job)


def usual_passes(op: str, device: torch.device, quick: bool) -> tuple[str, ...]:
    """A quick run measures the backward by itself for the layer on a GPU alone."""
    by_itself = op == "min_gru" and device.type == "cuda" if quick else op != "model"
    return PASSES if by_itself else ("forward", "both")


def left_out(op: str, shape: Shape, device: torch.device, first: bool) -> dict[str, str]:
    """Providers that a quick run leaves out, and why.

    `first` says that the type is the first of those that run. The others are for RNAM and its base, which is enough to
    see what a type costs.
    """
    base, found = registry.base(op, shape.state), {}
    for name, provider in registry.REGISTRY[op].items():
        compiles = device.type == "cuda" and first and name == COMPILER and (op, shape.name) in COMPILED
        if provider.compiled and not compiles:
            found[name] = "not compiled in a quick run"
        elif name == base or (name.startswith("rnam") and name != "rnam-reference"):
            continue
        elif provider.log_sums and shape.steps > MOST_LOG_SUM_STEPS:
            found[name] = f"{shape.steps} steps are not run in a quick run"
        elif not first and device.type == "cuda":
            found[name] = "not run in this type in a quick run"
    return found


def _memory(device: torch.device) -> int:
    """Bytes that are free."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what torch keeps for later counts as taken
        return torch.cuda.mem_get_info(device)[0]
    information = Path("/proc/meminfo")
    if information.exists():
        fields = dict(line.split(":", 1) for line in information.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) << 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
