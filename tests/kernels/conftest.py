"""Every buffer that a launcher allocates starts as NaN: torch fills it so when deterministic algorithms are on."""

from collections.abc import Iterator

import pytest
import torch

from rnam.backends import choice

collect_ignore_glob = [] if choice.triton_installed() else ["test_*.py"]  # on Windows and macOS


@pytest.fixture(autouse=True)
def nan_buffers() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    assert torch.empty(1).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
