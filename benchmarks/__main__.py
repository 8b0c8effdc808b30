"""`python -m benchmarks COMMAND`: RNAM against other ways to do the same work, in the same run.

    layer, linear, scan, model   time one kind of work on the named shapes
    ensemble                     ten members in one model, against ten models one after the other
    wide                         up to 10,000 terms; the NAM network against a loop and vmap
    overhead                     the host's CPU time of one step of a layer, beside the step's own work
    memory                       peak memory of a training step, without timing
    accuracy                     the error of h against the length
    static                       what the kernels cost as compiled; takes no GPU
    tune                         launch configurations on the GPU at hand
    all                          every one of these that needs no choice; goes on where its JSON file ends
    publish                      commit a JSON file's results to benchmarks/results and the README

A result that does not match the float64 steps is reported as wrong, with its error, and gets no time.
"""

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.commands import accuracy, compiled, ensemble, overhead, session, shaped, wide
from benchmarks.commands.session import Unit
from benchmarks.protocol import shapes, work
from benchmarks.protocol.provider import PASSES
from benchmarks.providers import registry
from benchmarks.reports.publish import publish
from benchmarks.reports.run import UsageError

# The work of each subcommand that measures, in the order in which `all` does it, which leaves the memory out.
UNITS: dict[str, Callable[[argparse.Namespace], dict[str, Unit]]] = {
    **{name: functools.partial(shaped.units, name) for name in ("layer", "linear", "scan", "model")},
    "ensemble": ensemble.units,
    "wide": wide.units,
    "overhead": overhead.units,
    "accuracy": accuracy.units,
    "memory": functools.partial(shaped.units, "memory"),
}
# Those whose work has a number of bytes that it must move.
ANCHORED = {"layer", "linear", "scan", "wide"}
QUICK_ROUNDS = 3
PROVIDERS = sorted({name for op in registry.REGISTRY.values() for name in op})
TYPES = "float32 (products in full precision), tf32, bfloat16, float16; default: float32, and on a GPU the first three"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    top.set_defaults(shape=[], dtype=[], provider=[], passes=[], before=None)
    for name in (*UNITS, "static", "tune", "all"):
        sub = commands.add_parser(name)
        sub.add_argument("--device", type=_device, default="cuda" if torch.cuda.is_available() else "cpu")
        sub.add_argument("--rounds", type=_positive, default=7, help="samples of each provider; default: %(default)s")
        sub.add_argument("--json", type=_output, help="write everything to this file, and go on where it ends")
        sub.add_argument("--quick", action="store_true", help="smaller shapes, 3 rounds, hardly a torch.compile")
        repeated = functools.partial(sub.add_argument, action="append", default=[], metavar="NAME")
        if name in (*shaped.OPS, "all", "tune"):
            repeated("--shape", choices=shapes.SHAPES, help=", ".join(shapes.SHAPES))
        if name in (*shaped.OPS, "all"):
            repeated("--dtype", choices=work.DTYPES, help=TYPES)
            repeated("--provider", choices=PROVIDERS, help=", ".join(PROVIDERS))
        if name in (*shaped.OPS, "all") and name != "memory":
            repeated("--pass", dest="passes", choices=PASSES, help=f"{', '.join(PASSES)}; default: all three")
        if name == "overhead":
            sub.add_argument("--before", type=Path, help="an earlier run's JSON, whose ratios are printed beside")
    sub = commands.add_parser("publish")
    sub.add_argument("json", type=Path, help="a file that --json wrote")
    sub.add_argument("--anchor", type=_bandwidth, metavar="GB/S", help="copy bandwidth, in the place of the file's own")
    sub.add_argument("--because", default="", metavar="REASON", help="why this figure; it is published beside it")
    return top


def _bandwidth(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be positive and finite, got {value}")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _output(text: str) -> Path:
    """Refused before anything is measured, not after."""
    path = Path(text)
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path.parent} is no directory")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a directory")
    return path


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{name!r} is no device") from error
    if device.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"cpu or cuda, got {name!r}")
    if device.type == "cuda":
        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= there:
            raise argparse.ArgumentTypeError(f"there are {there} CUDA devices, got {name!r}")
        torch.cuda.set_device(device.index or 0)  # streams, events and graphs are those of the current device
    return device


def run(options: argparse.Namespace) -> int:
    """Does what the options say; the exit status."""
    command = options.command
    if command == "publish":
        if (options.anchor is None) != (not options.because):
            raise UsageError("--anchor and --because go together: a figure, and the reason for it")
        given = None if options.anchor is None else (options.anchor, options.because)
        print(*publish(options.json, given=given), sep="\n")
        return 0
    if options.quick:
        options.rounds = min(options.rounds, QUICK_ROUNDS)
    if command in ("static", "tune"):
        return getattr(compiled, command)(options)
    if command in shaped.OPS:
        shaped.check(options)
    names = [name for name in UNITS if name != "memory"] if command == "all" else [command]
    units = {unit: run for name in names for unit, run in UNITS[name](options).items()}
    status = session.run(units, options, anchored=not ANCHORED.isdisjoint(names))
    if command == "all":
        compiled.print_committed()
    return status


def main(arguments: list[str] | None = None) -> int:
    top = parser()
    options = top.parse_args(arguments)
    try:
        return run(options)
    except UsageError as error:
        top.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
