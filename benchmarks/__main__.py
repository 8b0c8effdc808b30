"""`python -m benchmarks COMMAND`: RNAM against other ways to do the same work, in the same run.

    layer, linear, scan, model   time one kind of work on the named shapes
    ensemble                     ten members in one model, against ten models one after the other
    wide                         up to 10,000 terms; the NAM network against a loop and vmap
    overhead                     the host's time of one call
    memory                       peak memory of a training step, without timing
    accuracy                     the error of h against the length
    static                       what the kernels cost as compiled; takes no GPU
    tune                         launch configurations on the GPU at hand
    all                          every one of these that needs no choice; goes on where its JSON file ends
    publish                      commit a JSON file's results to benchmarks/results and the README

A result that does not match the float64 steps is reported as wrong, with its error, and gets no time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.commands import session
from benchmarks.protocol import shapes, work
from benchmarks.protocol.provider import PASSES
from benchmarks.providers import registry


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands_ = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in session.NAMES:
        sub = commands_.add_parser(name)
        _options(sub)
    publish = commands_.add_parser("publish")
    publish.add_argument("json", type=Path, help="a file that --json wrote")
    return top


def _options(sub: argparse.ArgumentParser) -> None:
    known = sorted({name for op in registry.REGISTRY.values() for name in op})
    sub.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    sub.add_argument(
        "--shape", action="append", default=[], choices=shapes.SHAPES, metavar="NAME", help=", ".join(shapes.SHAPES)
    )
    sub.add_argument("--dtype", action="append", default=[], choices=work.DTYPES, metavar="TYPE", help=_TYPES)
    sub.add_argument(
        "--provider",
        action="append",
        default=[],
        choices=known,
        metavar="NAME",
        help=", ".join(known).replace("%", "%%"),
    )
    sub.add_argument("--pass", dest="passes", action="append", default=[], choices=PASSES, help="default: all three")
    sub.add_argument("--rounds", type=_positive, default=7, help="samples of each provider; default: %(default)s")
    sub.add_argument("--json", type=Path, help="write everything to this file, and go on where it ends")
    sub.add_argument("--quick", action="store_true", help="smaller shapes, 3 rounds, hardly a torch.compile")


_TYPES = "float32 (products in full precision), tf32, bfloat16, float16; default: float32, and on a GPU the first three"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def main(arguments: list[str] | None = None) -> int:
    top = parser()
    options = top.parse_args(arguments)
    try:
        return session.run(options)
    except session.Impossible as error:
        top.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
