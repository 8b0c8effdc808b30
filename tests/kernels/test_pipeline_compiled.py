"""In the steady loop of a backward, a load of 16 bytes is a copy to shared memory that was begun tiles before: LDGSTS.

A plain load, LDG, waits for memory once a tile. The compiler leaves one out of its pipeline whose users want two
layouts.
"""

import itertools

import pytest

from benchmarks.kernels import entries
from tools.ptx.compile import compile_launch
from tools.ptx.sass import load_bits, usage

pytestmark = pytest.mark.compiled

KERNELS = ("min_gru backward", "block backward", "grouped_linear backward", "feed_forward backward")
BACKWARDS = {entry.name: entry for entry in entries() if entry.name.startswith(KERNELS)}

# The kernels that still wait, each with one stage of loads; docs/log-book.md has what two cost.
WAITS = {
    # two leave room for one program of an SM and not two
    "min_gru backward time_rows D=64 H=64 tf32",
    "min_gru backward batch_rows D=64 H=64 tf32",
    # two spill in the loop where there is a tail
    *(
        f"block backward {rows} D=16 {kind}"
        for rows, kind in itertools.product(("time_rows", "batch_rows"), ("tf32", "tf32x3", "K=1 tf32", "K=1 tf32x3"))
    ),
}


@pytest.mark.parametrize("name", BACKWARDS)
def test_wide_loads_are_in_the_pipeline(name: str) -> None:
    loads = usage(compile_launch(BACKWARDS[name].build(), 90)).loads
    plain = [op for op in loads if op.startswith("LDG.") and load_bits(op) == 128]
    assert bool(plain) is (name in WAITS), loads


def test_the_kernels_that_wait_are_kernels() -> None:
    assert BACKWARDS.keys() > WAITS
