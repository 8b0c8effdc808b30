"""`python -m benchmarks.panel`: time and memory of `rnam.Panel.from_frame`, and of what is made of a panel.

Memory is what Python and NumPy allocate (tracemalloc), over the bytes of the table that is read, which are not counted.
Times are CPU seconds of the process, the least of the rounds: the machine may do other work.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas

import rnam

LAYOUTS = ("by id", "by time")  # rows of one id after the other, or of one time after the other


def table(ids: int, visits: int, columns: int, layout: str) -> pandas.DataFrame:
    """Numbers of which a tenth are missing, and a label of each id."""
    rng = np.random.default_rng(0)
    values = {}
    for n in range(columns):
        values[f"x{n}"] = rng.normal(size=ids * visits)
        values[f"x{n}"][rng.random(ids * visits) < 0.1] = np.nan
    keys = {"id": np.repeat(np.arange(ids), visits), "day": np.tile(np.arange(visits), ids)}
    frame = pandas.DataFrame({**keys, "label": np.repeat(rng.integers(0, 2, ids), visits), **values})
    return frame if layout == "by id" else frame.sort_values("day", kind="stable", ignore_index=True)


def measure(frame: pandas.DataFrame, rounds: int) -> dict[str, float]:
    """CPU seconds of each operation, and memory held and at its peak over the bytes of the table."""
    values = [name for name in frame.columns if name.startswith("x")]

    def read() -> rnam.Panel:
        return rnam.Panel.from_frame(frame, id="id", time="day", values=values, target="label")

    panel = read()
    size = frame.memory_usage(index=False).sum()
    tracemalloc.start()
    kept = read()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    batch = np.random.default_rng(0).permutation(len(panel))[:256]
    return {
        "from_frame, s": _seconds(read, rounds),
        "held / table": held / size,
        "peak / table": peak / size,
        "split, s": _seconds(lambda: panel.split([0.6, 0.2, 0.2], seed=0), rounds),
        "folds, s": _seconds(lambda: panel.folds(5, seed=0), rounds),
        "batch of 256, s": _seconds(lambda: panel.padded(batch), rounds),
        "to_frame, s": _seconds(panel.to_frame, rounds),
    }


def _seconds(run: Callable[[], Any], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.panel", description=__doc__)
    parser.add_argument("--ids", type=int, default=10_000)
    parser.add_argument("--visits", type=int, default=200)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    found = {
        layout: measure(table(options.ids, options.visits, options.columns, layout), options.rounds)
        for layout in LAYOUTS
    }
    print("| | " + " | ".join(LAYOUTS) + " |\n|---|---:|---:|")
    for name in found[LAYOUTS[0]]:
        print(f"| {name} | " + " | ".join(f"{found[layout][name]:.4g}" for layout in LAYOUTS) + " |")


if __name__ == "__main__":
    main()
