"""`python -m tests.gpu --out DIR` (`make gpu OUT=DIR`): everything that takes a GPU, in two commands of seven minutes.

The same command again, or `--part 1` and then `--part 2`, goes on where the one before ended: stages that passed are
not run again, and those that failed or were out of time come after those that have not run. Each stage is a process
with a limit of its own (plan.py); one that fails or hangs does not stop the others. After each, DIR has gpu.json with
what became of it and the end of its output, and rows.json with what was measured, in the form of the benchmarks.

A cache that `python -m tests.gpu.cache` made is unpacked first, so that nothing is compiled here. Ends with 0 where
every stage that was asked for has passed.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.gpu import cache, plan, report, stages
from tests.gpu.plan import Planned
from tests.gpu.stages import PASSED, Outcome


def run_all(
    planned: Sequence[Planned],
    about: dict[str, Any],
    out: Path,
    outcomes: dict[str, Outcome],
    seconds: float = plan.PART_SECONDS,
) -> dict[str, Any]:
    """Runs the stages that have not passed while there is time for them, writes gpu.json after each and gives it.

    A stage begins when its whole limit is left.
    """
    deadline = time.monotonic() + seconds
    left = [one for one in planned if one.name not in outcomes or outcomes[one.name].status != PASSED]
    left.sort(key=lambda one: one.name in outcomes)
    result = report.assemble(about, outcomes, out)
    for one in left:
        if one.limit > deadline - time.monotonic():
            print(f"{one.name} is left for another run: it may take {one.limit:.0f} s", flush=True)
            continue
        print(f"{one.name} (at most {one.limit:.0f} s): {one.answers} ...", flush=True)
        before = cache.kernels(plan.COMPILED)
        outcomes[one.name] = stages.run(one.stage(out), out, deadline)
        outcomes[one.name].compiled = cache.kernels(plan.COMPILED) - before
        result = report.assemble(about, outcomes, out)
        report.write(out, result)
    return result


def prepare(file: Path) -> dict[str, Any]:
    """Unpacks the cache, if there is one, and says whether its kernels will be found."""
    if not file.exists():
        return {"cache": None, "cache_mismatches": []}
    manifest = cache.unpack(file, plan.COMPILED)
    wrong = cache.mismatches(manifest, cache.identity())
    print(f"{manifest['kernels']} compiled kernels in {file}")
    for line in wrong:
        print(f"they will not be found: {line}")
    return {"cache": manifest["kernels"], "cache_mismatches": wrong}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("results/gpu"), help="folder of the results; %(default)s")
    parser.add_argument("--part", type=int, choices=plan.PARTS, help="the stages of this part alone")
    parser.add_argument("--cache", type=Path, default=plan.CACHE, help="compiled kernels; default: %(default)s")
    parser.add_argument("--again", action="store_true", help="forget what the folder has")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("There is no CUDA GPU here, so nothing was run: this command takes one.", file=sys.stderr)
        return 2
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if options.again:
        report.forget(out)
    about = report.machine()
    try:
        outcomes = report.outcomes(out, about)
    except report.AnotherRunError as error:
        print(error, file=sys.stderr)
        return 2
    about |= prepare(options.cache)
    planned = plan.of_part(options.part)
    result = run_all(planned, about, out, outcomes)
    print(report.table(result, out))
    return int(any(name not in outcomes or outcomes[name].status != PASSED for name in (p.name for p in planned)))


if __name__ == "__main__":
    sys.exit(main())
