"""`static` and `tune`: what the kernels cost as compiled, and their launch configurations on the GPU at hand."""

import argparse
import json

from tqdm import tqdm

from benchmarks.protocol import work
from benchmarks.protocol.machine import about
from benchmarks.reports.run import UsageError, read, write


def static(options: argparse.Namespace) -> int:
    from rnam.backends.choice import interpreted, triton_installed

    if options.json is not None and options.json.exists():
        raise UsageError(f"--json: {options.json} exists, and static writes a file of its own kind")
    if not triton_installed():
        raise UsageError("static compiles the kernels, and triton is not installed")
    if interpreted():
        raise UsageError("nothing can be compiled while TRITON_INTERPRET=1 is set")
    from benchmarks import static

    rows = static.run(static.QUICK if options.quick else None, lambda pairs: tqdm(pairs, disable=None))
    print(static.text(rows))
    for limit in static.limits(rows):
        if limit["copy_limit"] is not None and limit["cc"] == 90:
            what = f"{limit['shape']:12s} {limit['dtype']:9s} {limit['pass']:9s}"
            print(f"{what} at most {100 * limit['copy_limit']:.0f}% of copy bandwidth on sm_90")
    if options.json is not None:
        static.write(options.json, rows)
    return 0


def print_committed() -> None:
    """What is committed of `static`, which `all` does not compile: that takes a quarter of an hour."""
    from rnam.backends.choice import triton_installed

    if not triton_installed():
        print("\nstatic: triton is not installed")
        return
    from benchmarks import static

    print("\nstatic, as committed:")
    print(static.text(json.loads(static.FIGURES.read_text())["rows"]))


def tune(options: argparse.Namespace) -> int:
    if options.device.type != "cuda":
        raise UsageError("tune times kernels on a CUDA device; give --device cuda where there is one")
    from benchmarks import tune

    path, rows = options.json, []
    here = about(options.device, options.quick, tune.ROUNDS)
    if path is not None and path.exists():
        rows = read(path, here).get("tune")
        if rows is None:
            raise UsageError(f"--json: {path} is none that tune can go on in")
    done = {row["key"] for row in rows}
    keys = tune.keys(options.shape or (["notebook"] if options.quick else []))
    for key in tqdm([key for key in keys if key.name not in done], disable=None):
        with work.precision(tune.PRECISION):
            rows += tune.tune(key, options.device)
        if path is not None:
            write(path, {**here, "tune": rows})
    print(tune.text(rows))
    return 0
