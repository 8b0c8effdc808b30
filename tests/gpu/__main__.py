"""`python -m tests.gpu --out DIR` (`make gpu OUT=DIR`): everything that takes a GPU, in less than ten minutes.

The parity suite (in several processes where pytest-xdist is there), compute-sanitizer's memcheck and racecheck on a
short run, and timings. Each is a process with a deadline of its own; one that fails or hangs does not stop the others,
and all output is kept in DIR beside gpu.json. Ends with 0 where every stage passed.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.gpu import report, sanitizer, stages
from tests.gpu.stages import Stage

TOTAL_SECONDS = 570.0  # of ten minutes, with what the installation before takes


def plan(out: Path) -> list[Stage]:
    """The stages; their limits add up to less than TOTAL_SECONDS.

    On an H200 with 16 cores and nothing compiled the tests took 102 s in seven processes, which share the compiling,
    and 505 s added up.
    """
    python = sys.executable
    suite = (python, "-m", "pytest")  # a path comes first: where conftest.py is, which knows --results
    options = ("--confcutdir", "tests/gpu", "-p", "no:cacheprovider", "-p", "no:benchmark")
    options = (*options, "--results", str(out / "tests.jsonl"))
    short = [python, "-m", "tests.gpu.short_run"]
    workers = processes()
    shared = ("-n", str(workers)) if workers > 1 and importlib.util.find_spec("xdist") else ()
    program = sanitizer.find()
    # each allocation is then one of the driver's, and an access past its end shows
    separate = (("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),)
    checks = [
        Stage(tool, sanitizer.command(program, tool, short) if program else None, limit, separate)
        for tool, limit in (("memcheck", 90.0), ("racecheck", 65.0))
    ]
    far = "tests/gpu/test_far.py"  # tensors of 4 GiB and more, one test at a time
    return [
        Stage("pytest", (*suite, "tests/gpu", "--ignore", far, *options, *shared), 220.0),
        Stage("far", (*suite, far, *options), 60.0),
        # compiles, so that the sanitizer need not watch that
        Stage("short_run", (*short, "--processes", str(workers)), 60.0),
        *checks,
        Stage("timings", (python, "-m", "tests.gpu.timings", str(out / "timings.json")), 70.0),
    ]


def processes() -> int:
    """How many share the compiling: on one GPU each holds about 0.5 GiB of its memory."""
    return max(1, min(8, (os.cpu_count() or 1) // 2))


def run_all(planned: Sequence[Stage], about: dict[str, Any], out: Path, total: float = TOTAL_SECONDS) -> dict[str, Any]:
    """Runs the stages, writes gpu.json after each and gives the report."""
    deadline = time.monotonic() + total
    outcomes: list[stages.Outcome] = []
    result: dict[str, Any] = {}
    for stage in planned:
        print(f"{stage.name} (at most {stage.limit:.0f} s) ...", flush=True)
        outcomes.append(stages.run(stage, out, deadline))
        result = report.assemble(about, outcomes, len(planned), out)
        (out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/gpu"), help="folder of gpu.json and the logs")
    out = parser.parse_args(arguments).out.resolve()
    if not torch.cuda.is_available():
        print("There is no CUDA GPU here, so nothing was run: this command takes one.", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    for old in ("gpu.json", "tests.jsonl", "timings.json"):
        (out / old).unlink(missing_ok=True)
    result = run_all(plan(out), report.machine(), out)
    print(report.table(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
