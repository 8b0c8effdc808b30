"""Flags are loaded as words, once a tile in each layout that reads them, and never as bytes."""

import collections
import re

import pytest

from benchmarks.kernels import entries
from tools.ptx.compile import compile_launch
from tools.ptx.sass import load_bits, usage

pytestmark = pytest.mark.compiled

# Products of three terms read flags as those of one do.
KERNELS = ("min_gru", "block", "gates_scan")
FLAGGED = {
    entry.name: entry for entry in entries(flags=True) if entry.name.startswith(KERNELS) and "tf32x3" not in entry.name
}

# Those that are no slow test: the width that most models have, and the backward that reads its words another way.
FEW = re.compile(r"D=16( H=16)? tf32|projected .* D=16 H=32 tf32|backward .* D=32 H=32 tf32|gates_scan .* float32")

# Loads of 32 bits of a thread in the steady loop, at most. Rows of one step have the most: a backward of width 32.
MOST_WORDS = 12


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if FEW.search(name) else pytest.mark.slow) for name in FLAGGED]
)
def test_flags_are_loaded_as_words(name: str) -> None:
    entry = FLAGGED[name]
    loads = collections.Counter(map(load_bits, usage(compile_launch(entry.build(), 90)).loads))
    assert loads[8] == 0, loads
    assert loads[32] > 0
    assert loads[32] <= MOST_WORDS or not entry.wide, loads
