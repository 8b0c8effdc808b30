"""Times of steps and a bias in the kernels of a residual block and of a projection, in the Triton interpreter."""

import dataclasses
import functools

import pytest
import torch

from rnam.kernels.block import backward as block_backward_module
from rnam.kernels.block.backward import block_backward
from rnam.kernels.common.config import Chunks
from rnam.kernels.min_gru import chunks
from tests.support import block_cases, projected_cases
from tests.support.assertions import assert_equal, assert_norm_within
from tests.support.min_gru_cases import Case

pytestmark = [
    pytest.mark.interpreter,
    # infinities and NaN that a selection leaves out
    pytest.mark.filterwarnings("ignore:(divide by zero|overflow|invalid value) encountered in .*:RuntimeWarning"),
]

BF16, HALF = torch.bfloat16, torch.float16


def case(form: str, B: int, T: int, D: int, dtype: torch.dtype = torch.float32, **options) -> Case:
    changes = {name: options.pop(name) for name in ("elapsed", "bias") if name in options}
    return dataclasses.replace(block_cases.case(form, B, T, D, dtype, **options), **changes)


CASES = [
    case("time_rows", 1, 70, 8, elapsed="own"),
    case("batch_rows", 17, 5, 6, BF16, elapsed="own", flags="own", bias=True),
    case("time_rows", 2, 21, 16, elapsed="shared", flags="shared"),
    case("batch_rows", 16, 4, 16, bias=True),
    case("time_rows", 1, 9, 3, HALF, elapsed="rows", bias=True, h0=False),
]


@pytest.mark.parametrize("chosen", CASES, ids=str)
def test_block(chosen):
    block_cases.check(chosen)
    block_cases.check_backward(chosen)


@pytest.mark.parametrize("chosen", [CASES[0], dataclasses.replace(CASES[1], bias=False)], ids=str)
def test_embedded_block(chosen):
    block_cases.check_embedded(chosen, 1)
    block_cases.check_backward(chosen, 2)


@pytest.mark.parametrize("D", [20, 2], ids=("two kernels", "no kernel of a block"))
def test_two_kernels(D):
    block_cases.check_backward(case("time_rows", 2, 9, D, elapsed="own", flags="own", bias=True))


def test_a_block_whose_time_is_cut(monkeypatch):
    monkeypatch.setattr(chunks, "MIN_CHUNK_TILES", 1)
    block_cases.check(case("time_rows", 1, 300, 8, elapsed="own", bias=True))


@pytest.mark.parametrize("K", [0, 1])
def test_only_what_is_asked_is_computed(K, monkeypatch):
    chosen = case("time_rows", 2, 35, 6, elapsed="own", flags="own", bias=True)
    given, params = block_cases.embedded_inputs(chosen, K) if K else block_cases.gradient_inputs(chosen)
    h = block_cases.exact(given, params)[1].float()
    run = functools.partial(block_backward, given.call(), params, h, given.dh, given.dh_last, config=chosen.config)
    whole = run()
    for n in range(4):
        needs = tuple(i == n for i in range(4))
        assert_equal("gradients", run(needs=needs), [g if i == n else None for i, g in enumerate(whole)])
    monkeypatch.setattr(block_backward_module, "plan_chunks", lambda *_: Chunks(20, 2))
    for got, wanted in zip(run(), whole, strict=True):
        assert_norm_within("gradient of two kernels", got, wanted, 64 * 2.0**-24 * wanted.norm())


@pytest.mark.parametrize("form", ["time_rows", "batch_rows"])
@pytest.mark.parametrize(("dtype", "flags"), [(torch.float32, None), (BF16, "own")])
def test_projected(form, dtype, flags):
    chosen = projected_cases.case(form, 17 if form == "batch_rows" else 1, 21, 6, 12, dtype, flags=flags)
    projected_cases.check(dataclasses.replace(chosen, elapsed="own", bias=True))
