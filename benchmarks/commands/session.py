"""The subcommands: which work, on which shapes, and what is printed and written."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.commands import ensemble, overhead, quick, wide
from benchmarks.protocol import compare, shapes, work
from benchmarks.protocol.provider import PASSES
from benchmarks.providers import registry
from benchmarks.reports import publish, tables
from benchmarks.reports.run import Mismatch, Row, Run, about, check_same, resume, write

OPS = {"layer": ("min_gru",), "linear": ("linear",), "scan": ("linear_scan", "log_scan"), "model": ("model",)}
NAMES = (*OPS, "ensemble", "wide", "overhead", "memory", "accuracy", "static", "tune", "all")
QUICK_ROUNDS = 3

# The choices that a subcommand takes, where not all of them.
CHOICES = ("shape", "dtype", "provider", "pass")
TAKEN: dict[str, tuple[str, ...]] = {
    "memory": ("shape", "dtype", "provider"), "tune": ("shape",),
    **dict.fromkeys(("ensemble", "wide", "overhead", "accuracy", "static", "publish"), ()),
}  # fmt: skip

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
    _check_providers(options)
    _check_folder(options.json)
    try:
        file = resume(options.json, about(device, options.quick, _rounds(options)))
    except (Mismatch, json.JSONDecodeError, KeyError, TypeError) as error:
        raise Impossible(f"--json: {error}") from error
    most = quick.SECONDS if options.quick and device.type == "cuda" else math.inf
    broken, left = _print_all(units, file, _asked(options), device, most)
    if options.command == "all":
        _committed()
    for name in broken:
        print(f"{name} broke off: {file.failed[name]}", file=sys.stderr)
    if left:
        print(
            f"{most:.0f} s are over and {', '.join(left)} left: with --json another run goes on there", file=sys.stderr
        )
    return 1 if broken or left else 0


def _check_providers(options: argparse.Namespace) -> None:
    """An op without any of the providers asked for would time a copy and nothing else."""
    ops = OPS.get(options.command, ("min_gru",) if options.command == "memory" else ())
    known = {name for op in ops for name in registry.REGISTRY[op]}
    if ops and options.provider and not known & set(options.provider):
        raise Impossible(f"{options.command} has none of --provider {', '.join(options.provider)}")


def _check_choices(options: argparse.Namespace) -> None:
    taken = TAKEN.get(options.command, CHOICES)
    for name in CHOICES:
        given = getattr(options, "passes" if name == "pass" else name, None)
        if given and name not in taken:
            raise Impossible(f"{options.command} takes no --{name}")


def _check_folder(path: Path | None) -> None:
    """Before anything is measured, not after."""
    if path is not None and not path.absolute().parent.is_dir():
        raise Impossible(f"--json: {path.parent} is no directory")
    if path is not None and path.is_dir():
        raise Impossible(f"--json: {path} is a directory")


def _asked(options: argparse.Namespace) -> dict[str, list[str]]:
    """What of a shape is run; another choice runs it again, since ratios are those of one run."""
    return {"passes": sorted(options.passes), "providers": sorted(options.provider)}


def _print_all(
    units: Units, file: Run, asked: dict[str, list[str]], device: torch.device, most: float
) -> tuple[list[str], list[str]]:
    """Each unit that the file does not have, its table as soon as it is there; the names of those that broke off, and
    of those that were not begun because `most` seconds were over.

    What broke off before comes last, so that a run goes on past it.
    """
    start = time.monotonic()
    left = sorted((name for name in units if not file.has(name, asked)), key=file.failed.__contains__)
    broken = []
    if len(left) < len(units):
        print(f"{len(units) - len(left)} of {len(units)} are in {file.path} already")
    bar = tqdm(left, disable=None)
    for i, name in enumerate(bar):
        if time.monotonic() - start > most:
            bar.close()
            return broken, left[i:]
        bar.set_description(name)
        try:
            rows, details, shape = units[name]()
            _wait(device)
        except Exception as error:
            file.fail(name, compare.last_line(error))
            broken.append(name)
            bar.write(f"\n{name} broke off:\n{traceback.format_exc()}")
            if not _answers(device):
                bar.close()
                left_over = "with --json the next run goes on behind it" if file.path else "the rest was not run"
                raise Impossible(f"{name}: {device} does not answer any more; {left_over}") from error
            continue
        file.add(name, rows, details, shape | {"asked": asked})
        note = shape.get("note")
        bar.write(f"\n{name}: {shape.get('sizes', '')}{f' ({note})' if note else ''}")
        bar.write(tables.terminal(rows, details))
    return broken, []


def _wait(device: torch.device) -> None:
    """After an illegal access every later call fails, and what providers gave is none of their results."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _answers(device: torch.device) -> bool:
    try:
        _wait(device)
    except RuntimeError:
        return False
    return True


def run_static(options: argparse.Namespace) -> int:
    if options.json is not None and options.json.exists():
        raise Impossible(f"--json: {options.json} exists, and static writes a file of its own kind")
    from rnam._dispatch import interpreted, triton_installed

    if not triton_installed():
        raise Impossible("static compiles the kernels, and triton is not installed")
    if interpreted():
        raise Impossible("nothing can be compiled while TRITON_INTERPRET=1 is set")
    from benchmarks import static

    names = static.QUICK if options.quick else None
    rows = static.run(names, lambda pairs: tqdm(pairs, disable=None))
    print(static.text(rows))
    for limit in static.limits(rows):
        if limit["copy_limit"] is not None and limit["cc"] == 90:
            what = f"{limit['shape']:12s} {limit['dtype']:9s} {limit['what']:9s}"
            print(f"{what} at most {100 * limit['copy_limit']:.0f}% of copy bandwidth on sm_90")
    if options.json is not None:
        static.write(options.json, rows)
    return 0


def _committed() -> None:
    """What is committed of `static`, which `all` does not compile: that takes a quarter of an hour."""
    from rnam._dispatch import triton_installed

    if not triton_installed():
        print("\nstatic: triton is not installed")
        return
    from benchmarks import static

    print("\nstatic, as committed:")
    print(static.text(json.loads(static.FIGURES.read_text())["rows"]))


def run_tune(options: argparse.Namespace) -> int:
    if _device(options.device).type != "cuda":
        raise Impossible("tune times kernels on a CUDA device; give --device cuda where there is one")
    _check_folder(options.json)
    from benchmarks import tune

    device = _device(options.device)
    here = about(device, options.quick, tune.ROUNDS)
    rows = _tuned(options.json, here)
    done = {row["key"] for row in rows}
    keys = tune.keys(options.shape or (["notebook"] if options.quick else []))
    for key in tqdm([key for key in keys if key.name not in done], disable=None):
        with _precision(tune.PRECISION):
            rows += tune.tune(key, device)
        if options.json is not None:
            write(options.json, {**here, "tune": rows})
    print(tune.text(rows))
    return 0


def _tuned(path: Path | None, here: dict) -> list[dict]:
    """The rows of a file that tune wrote, to go on with."""
    if path is None or not path.exists():
        return []
    try:
        body = json.loads(path.read_text())
        check_same(path, body, here)
        return body["tune"]
    except (Mismatch, json.JSONDecodeError, KeyError, AttributeError) as error:
        raise Impossible(f"--json: {path} is none that tune can go on in: {error}") from error


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
    _check_choices(options)
    special = {"static": run_static, "tune": run_tune, "publish": run_publish}
    return special.get(options.command, run_command)(options)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise Impossible(f"--device: {name!r} is no device") from error
    if device.type not in ("cpu", "cuda"):
        raise Impossible(f"--device: cpu or cuda, got {name!r}")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise Impossible("--device: there is no CUDA device")
        if (device.index or 0) >= torch.cuda.device_count():
            raise Impossible(f"--device: there are {torch.cuda.device_count()} CUDA devices, got {name!r}")
        torch.cuda.set_device(device.index or 0)  # streams, events and graphs are those of the current device
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
        return {"overhead": lambda: (overhead.overhead(device, _rounds(options)), {}, {})}
    if command == "accuracy":
        lengths = [n for n in overhead.LENGTHS if not options.quick or n <= overhead.QUICK_LENGTH]
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
    return overhead.accuracy(device, steps), {}, {}


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
    """The precision of float32 products that a type names, in matrix products, convolutions and torch.nn.GRU.

    The function for products sets what torch.compile reads, too, which raises where the two differ (pytorch #166387).
    """
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    own = torch.backends.cuda.matmul.fp32_precision
    torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "tf32" if kind == "tf32" else "ieee"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cuda.matmul.fp32_precision = own
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = before[1:]


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
