"""Flags are loaded as words, once a tile in each layout that reads them, and never as bytes."""

import collections

import pytest

from benchmarks.kernels import entries
from tools.ptx.compile import compile_launch
from tools.ptx.sass import load_bits, usage

pytestmark = pytest.mark.compiled

KERNELS = ("min_gru", "block", "gates_scan")
FLAGGED = {entry.name: entry for entry in entries(flags=True) if entry.name.startswith(KERNELS)}
PLAIN = {entry.name: entry for entry in entries() if entry.name in FLAGGED}

# Loads of a thread. The forward needs flags where x is loaded and where gates are, in rows of a step.
MOST_WORDS = 12


@pytest.mark.parametrize("name", FLAGGED)
def test_flags_are_loaded_as_words(name: str) -> None:
    with_flags, without = (
        collections.Counter(map(load_bits, usage(compile_launch(entry.build(), 90)).loads))
        for entry in (FLAGGED[name], PLAIN[name])
    )
    assert with_flags[8] == 0, with_flags
    assert with_flags[32] - without[32] <= MOST_WORDS, (with_flags, without)
