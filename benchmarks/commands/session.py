"""A run of units of work: each that its file does not have yet, and its table as soon as it is there."""

import argparse
import math
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from benchmarks.protocol import anchor
from benchmarks.protocol.compare import last_line
from benchmarks.protocol.machine import about
from benchmarks.protocol.measure import wait
from benchmarks.protocol.row import Row
from benchmarks.reports import tables
from benchmarks.reports.run import UsageError, resume

# Rows, and what a file says of the shape. A unit's name is how a file knows that it is through.
Result = tuple[list[Row], dict[str, Any]]
Unit = Callable[[], Result]

# On a GPU a quick run begins nothing more then: it ends within 8 minutes, as a shape takes less than half of one.
QUICK_SECONDS = 440.0


def run(units: dict[str, Unit], options: argparse.Namespace, *, anchored: bool) -> int:
    """The exit status: 1 where a unit broke off, or was not begun because the time of a quick run was over.

    What broke off before comes last, so that a run goes on past it. With `anchored` the copy bandwidth comes first,
    unless the file has it.
    """
    device = options.device
    file = resume(options.json, about(device, options.quick, options.rounds))
    # another choice runs a shape again, since ratios are those of one run
    asked = {"passes": sorted(options.passes), "providers": sorted(options.provider)}
    left = sorted((name for name in units if not file.has(name, asked)), key=file.failed.__contains__)
    if len(left) < len(units):
        print(f"{len(units) - len(left)} of {len(units)} are in {file.path} already")
    seconds = QUICK_SECONDS if options.quick and device.type == "cuda" else math.inf
    start, broken = time.monotonic(), []
    if anchored and file.anchor is None:
        file.hold(anchor.take(device, options.rounds))
    if file.anchor is not None:
        print(file.anchor)
    with tqdm(total=len(left), disable=None) as bar:
        while left and time.monotonic() - start <= seconds:
            name = left.pop(0)
            bar.set_description(name)
            try:
                rows, shape = units[name]()
                wait(device)  # after an illegal access every later call fails, and no row is a result
            except Exception as error:
                file.fail(name, last_line(error))
                broken.append(name)
                bar.write(f"\n{name} broke off:\n{traceback.format_exc()}")
                try:
                    wait(device)
                except RuntimeError:
                    hint = "with --json the next run goes on behind it" if file.path else "the rest was not run"
                    raise UsageError(f"{name}: {device} does not answer any more; {hint}") from error
            else:
                file.add(name, rows, shape | {"asked": asked})
                note = shape.get("note")
                bar.write(f"\n{name}: {shape.get('sizes', '')}{f' ({note})' if note else ''}")
                bar.write(tables.terminal(rows))
            bar.update()
    for name in broken:
        print(f"{name} broke off: {file.failed[name]}", file=sys.stderr)
    if left:
        over = f"{seconds:.0f} s are over and {', '.join(left)} left"
        print(f"{over}: with --json another run goes on there", file=sys.stderr)
    return 1 if broken or left else 0
