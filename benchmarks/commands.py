"""The subcommands: which work, on which shapes, and what is printed and written."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks import compare, ensemble, extra, publish, quick, report, shapes, wide, work
from benchmarks.provider import PASSES
from benchmarks.results_file import Mismatch, Row, Run, about, resume

OPS = {"layer": ("min_gru",), "linear": ("linear",), "scan": ("linear_scan", "log_scan"), "model": ("model",)}
NAMES = (*OPS, "ensemble", "wide", "overhead", "memory", "accuracy", "static", "tune", "all")
QUICK_ROUNDS = 3

# A unit of work has a name, by which a file knows that it is through, and gives rows, details and the shape's notes.
Result = tuple[list[Row], dict, dict]
Units = dict[str, Callable[[], Result]]


class Impossible(Exception):  # noqa: N818  it is the user's choice of options
    """What was asked for can't be done, and why."""


def run_command(options: argparse.Namespace) -> int:
    device = _device(options.device)
    units = _units(options.command, options, device)
    if not units:
        raise Impossible(f"{options.command} has no shape among {', '.join(options.shape)}")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise Impossible(f"--json: {options.json.parent} is no directory")
    try:
        file = resume(options.json, about(device, options.quick, _rounds(options)))
    except (Mismatch, json.JSONDecodeError, KeyError, TypeError) as error:
        raise Impossible(f"--json: {error}") from error
    _print_all(units, file, _asked(options))
    if options.command == "all":
        _static(options)
    return 0


def _asked(options: argparse.Namespace) -> dict[str, list[str]]:
    """What of a shape is run; another choice runs it again, since ratios are those of one run."""
    return {"passes": sorted(options.passes), "providers": sorted(options.provider)}


def _print_all(units: Units, file: Run, asked: dict[str, list[str]]) -> None:
    """Each unit that the file does not have, its table as soon as it is there."""
    left = [name for name in units if not file.has(name, asked)]
    if len(left) < len(units):
        print(f"{len(units) - len(left)} of {len(units)} are in {file.path} already")
    bar = tqdm(left, disable=None)
    for name in bar:
        bar.set_description(name)
        rows, details, shape = units[name]()
        file.add(name, rows, details, shape | {"asked": asked})
        note = shape.get("note")
        bar.write(f"\n{name}: {shape.get('sizes', '')}{f' ({note})' if note else ''}")
        bar.write(report.terminal(rows, details))


def run_static(options: argparse.Namespace) -> int:
    if options.json is not None and options.json.exists():
        raise Impossible(f"--json: {options.json} exists, and static writes a file of its own kind")
    _static(options, options.json)
    return 0


def _static(options: argparse.Namespace, path: Path | None = None) -> None:
    """Compiles and counts; `all` prints what is committed instead, since it takes a quarter of an hour."""
    from rnam._dispatch import interpreted, triton_installed

    if not triton_installed():
        raise Impossible("static compiles the kernels, and triton is not installed")
    if interpreted():
        raise Impossible("nothing can be compiled while TRITON_INTERPRET=1 is set")
    from benchmarks import static

    if options.command == "all":
        print("\nstatic, as committed:")
        print(static.text(json.loads(static.FIGURES.read_text())["rows"]))
        return
    names = ("D=16 H=16 tf32",) if options.quick else None
    rows = static.run(names, lambda pairs: tqdm(pairs, disable=None))
    print(static.text(rows))
    for limit in static.limits(rows):
        if limit["copy_limit"] is not None and limit["cc"] == 90:
            what = f"{limit['shape']:12s} {limit['dtype']:9s} {limit['what']:9s}"
            print(f"{what} at most {100 * limit['copy_limit']:.0f}% of copy bandwidth on sm_90")
    if path is not None:
        static.write(path, rows)


def run_tune(options: argparse.Namespace) -> int:
    if _device(options.device).type != "cuda":
        raise Impossible("tune times kernels on a CUDA device; give --device cuda where there is one")
    from benchmarks import tune

    rows = []
    device = _device(options.device)
    for key in tqdm(tune.keys(options.shape or (["notebook"] if options.quick else [])), disable=None):
        rows += tune.tune(key, device)
        if options.json is not None:
            options.json.write_text(json.dumps({**about(device, options.quick, tune.ROUNDS), "tune": rows}, indent=1))
    print(tune.text(rows))
    return 0


def run_publish(options: argparse.Namespace) -> int:
    if not options.json.is_file():
        raise Impossible(f"{options.json} is no file")
    try:
        for path in publish.publish(options.json):
            print(path)
    except (publish.NoMarkers, json.JSONDecodeError, KeyError, TypeError) as error:
        raise Impossible(f"{options.json} can't be published: {error!r}") from error
    return 0


def run(options: argparse.Namespace) -> int:
    """Does what the options say; the exit status."""
    special = {"static": run_static, "tune": run_tune, "publish": run_publish}
    return special.get(options.command, run_command)(options)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise Impossible(f"--device: {name!r} is no device") from error
    if device.type not in ("cpu", "cuda"):
        raise Impossible(f"--device: cpu or cuda, got {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise Impossible("--device: there is no CUDA device")
    return device


def _rounds(options: argparse.Namespace) -> int:
    return min(options.rounds, QUICK_ROUNDS) if options.quick else options.rounds


def _kinds(options: argparse.Namespace, device: torch.device, op: str) -> list[str]:
    if device.type == "cpu" and "tf32" in options.dtype:
        raise Impossible("--dtype: tf32 products are a GPU's")
    if options.dtype or device.type == "cpu":
        return options.dtype or ["float32"]
    return [*(() if op.endswith("scan") else ("tf32",)), "float32", "bfloat16"]  # a scan has no products


def _units(command: str, options: argparse.Namespace, device: torch.device) -> Units:
    """The work of a subcommand by name, in order."""
    if command == "all":
        every = ("layer", "linear", "scan", "model", "ensemble", "wide", "overhead", "accuracy")
        found: Units = {}
        for name in every:
            found |= _units(name, options, device)
        return found
    if command == "ensemble":
        return {"ensemble": lambda: (*ensemble.ensemble(device, _rounds(options), options.quick), {})}
    if command == "wide":
        parts = {"wide/growth": wide.growth, "wide/networks": wide.networks}
        return {name: functools.partial(_wide, part, device, options) for name, part in parts.items()}
    if command == "overhead":
        return {"overhead": lambda: (extra.overhead(device, _rounds(options)), {}, {})}
    if command == "accuracy":
        lengths = [n for n in extra.LENGTHS if not options.quick or n <= extra.QUICK_LENGTH]
        return {f"accuracy/{n}": functools.partial(_accuracy, device, n) for n in lengths}
    names = quick.names(command, device) if options.quick else shapes.BY_COMMAND[command]
    names = [name for name in shapes.BY_COMMAND[command] if name in options.shape] if options.shape else names
    return {
        f"{'memory/' if command == 'memory' else ''}{op}/{name}/{kind}": functools.partial(
            _work, command, op, name, kind, options, device
        )
        for op in OPS.get(command, ("min_gru",))
        for name in names
        for kind in _kinds(options, device, op)
    }


def _wide(part: Callable[..., tuple[list[Row], dict]], device: torch.device, options: argparse.Namespace) -> Result:
    return (*part(device, _rounds(options), options.quick), {})


def _accuracy(device: torch.device, steps: int) -> Result:
    return extra.accuracy(device, steps), {}, {}


def _work(command: str, op: str, name: str, kind: str, options: argparse.Namespace, device: torch.device) -> Result:
    most = shapes.QUICK_ELEMENTS[device.type] if options.quick else None
    needed = shapes.TENSORS[op] * work.DTYPES[kind].itemsize
    shape = shapes.fit(shapes.SHAPES[name], _memory(device) // (2 * needed), most)
    usual = quick.passes(op, device) if options.quick else ("forward", "both") if op == "model" else PASSES
    passes = tuple(options.passes) or usual
    first = kind == _kinds(options, device, op)[0]
    settings = compare.Settings(
        passes=("both",) if command == "memory" else passes,
        rounds=_rounds(options),
        timed=command != "memory",
        only=tuple(options.provider),
        next_length=not options.quick,
        left_out=quick.left_out(op, shape, device, first) if options.quick and not options.provider else {},
        quick=options.quick,
    )
    with _precision(kind):
        job = work.make(op, shape, kind, device, work.QUICK_TERMS if options.quick else work.MOST_TERMS)
        rows, details = compare.run(job, settings)
    if command == "memory":
        for row in rows:
            details[f"memory/{row.key}"] = details.pop(row.key)
            row.op = f"memory/{row.op}"
    return rows, details, work.describe(job)


@contextlib.contextmanager
def _precision(kind: str) -> Iterator[None]:
    """The precision of float32 products that a type names."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32" if kind == "tf32" else "ieee"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


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
