"""What one call takes, in torch's memory and in numpy's."""

import pytest
import torch

from benchmarks.protocol import memory
from rnam.backends.blocks import plan
from tests.benchmarks.support import CPU


def test_the_peak_of_memory_is_counted() -> None:
    """Of 4 MiB tensors: two live at once, then three, one being a temporary."""
    x = torch.ones(1 << 20)
    near = dict(abs=1 << 12)  # scalars
    assert memory.peak_bytes(lambda: (x * 2) + 1, CPU) == pytest.approx(8 << 20, **near)

    def three():
        a = x * 2
        b = a + 1
        c = a * b
        del a, b
        return c

    assert memory.peak_bytes(three, CPU) == pytest.approx(12 << 20, **near)


def test_memory_from_numpy_counts() -> None:
    """Of which the results of the backend "torch" are, from 4 MiB on, with a page more each to align them."""
    size = torch.Size((1 << 20,))
    pages = dict(abs=1 << 16)  # what Python itself takes, which tracemalloc counts too
    got = memory.peak_bytes(lambda: [plan.new(size, torch.ones(1)) for _ in range(2)], CPU)
    assert got == pytest.approx(2 * ((4 << 20) + plan.PAGE), **pages)
