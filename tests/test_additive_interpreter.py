"""The options of the additive models on the kernels, in the interpreter: float32 against the loops in float64."""

import pytest
import torch

import rnam
from tests.support import additive_oracle as oracle
from tests.support import bounds

pytestmark = pytest.mark.interpreter

BATCH, SEQ, COLUMNS = 4, 7, 6


@pytest.fixture(autouse=True)
def _on_the_kernels() -> object:
    with rnam.set_backend("triton"):
        yield


@pytest.mark.parametrize("columns", [[[1], [3], [5]], [[0, 1], [2, 3]], [[0], [1, 2, 3], [0, 4], [4]]], ids=str)
def test_columns(columns: list[list[int]]) -> None:
    model = rnam.RNAM(len(columns), 6, 2, 2, columns=columns)
    x, mask = torch.randn(BATCH, SEQ, COLUMNS), torch.rand(BATCH, SEQ, COLUMNS) > 0.3
    observed = torch.stack([mask[..., own].all(-1) for own in columns])
    got = model(torch.where(mask, x, torch.nan), mask, return_sequence=True).contributions.detach()
    plain, exact = (
        oracle.sequences(oracle.named(model, dtype), [x[..., own].to(dtype) for own in columns], observed, 2)
        for dtype in (torch.float32, torch.float64)
    )
    assert (got - exact).norm() <= bounds.gradient(exact, plain, torch.float32)
