"""Launch numbers: the table is complete, the choice is pure and does what its docstring says."""

import itertools

import pytest
import torch

from rnam.kernels.common.config import resolve_precision
from rnam.kernels.min_gru.chunks import SATURATING_WARPS, SPLIT_BELOW, plan_chunks
from rnam.kernels.min_gru.config import (
    BACKWARD_WIDTH,
    IEEE_WIDTH,
    MAX_WIDTH,
    SPILLS,
    TABLE,
    fused_precision,
    is_fused,
    select_config,
    table_config,
)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def test_every_fused_width_has_an_entry_and_every_entry_a_use():
    used = set()
    whats, precisions = ("forward", "log", "backward"), ("tf32", "tf32x3")
    for pass_, D, H, dtype, precision in itertools.product(whats, range(1, 66), range(1, 66), DTYPES, precisions):
        if is_fused(D, H, dtype, pass_, precision):
            for batch_rows in (False, True):
                config = table_config(pass_, batch_rows, D, H, dtype)
                used.add(
                    (
                        pass_,
                        batch_rows,
                        max(16, *(config.tiles(D, H)[k] for k in ("BLOCK_D", "BLOCK_H"))),
                        dtype.itemsize,
                    )
                )
        else:
            narrow = dtype == torch.float32 and pass_ == "backward" and (precision == "tf32x3" or H <= 32)
            assert max(D, H) > (BACKWARD_WIDTH if narrow else MAX_WIDTH) or (
                D > 32 and H <= 8 and dtype == torch.float32
            )
            with pytest.raises(ValueError, match="no fused"):
                select_config(D, H, dtype, 1, 1, 100, pass_, precision)
    assert used == set(TABLE)
    assert set(SPILLS) == {key[1:] for key in TABLE if key[0] == "backward"}


def test_tiles_cover_the_widths():
    for D, H in itertools.product(range(1, 65), repeat=2):
        tiles = table_config("forward", False, D, H, torch.float32).tiles(D, H)
        assert tiles["BLOCK_D"] >= D and tiles["BLOCK_H"] >= H
        assert tiles["BLOCK_D"] == D if D <= 2 else tiles["BLOCK_D"] >= 16


def test_form():
    """Batch rows where they fill the machine or T is short, else pieces of time."""
    form = lambda F, B, T, H=16: select_config(16, H, torch.float32, F, B, T, "forward").batch_rows
    assert not form(1, 1, 10_000) and not form(100, 8, 1000)
    assert form(100, 128, 1000) and not form(100, 129, 1000, H=1)
    assert form(4, 64, 1) and form(4, 64, 17) and not form(4, 64, 64) and not form(4, 1, 1)
    assert not form(1, 0, 10)


def test_a_long_sequence_of_one_row_fills_the_machine():
    config = select_config(16, 16, torch.float32, 1, 1, 1_000_000, "forward")
    length, count = plan_chunks(1, 1, 1_000_000, config)
    assert SPLIT_BELOW < count * config.num_warps <= SATURATING_WARPS and length % config.tile == 0
    assert (count - 1) * length < 1_000_000 <= count * length
    assert plan_chunks(1, 1, 100, config) == (100, 1) and plan_chunks(100, 50, 1_000_000, config) == (1_000_000, 1)
    assert plan_chunks(1, 1, 1_000_000, config, min_steps=200_000)[0] >= 200_000


def test_precision_follows_torch():
    x, matmul = torch.zeros(1), torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        for setting, wanted in (("tf32", "tf32"), ("ieee", "tf32x3")):
            matmul.fp32_precision = setting
            assert resolve_precision(None, x.dtype) == wanted
            assert fused_precision(None, torch.zeros(1, 64), 64, "forward") == wanted
    finally:
        matmul.fp32_precision = before
    assert resolve_precision("ieee", x.dtype) == "ieee" and resolve_precision("tf32", torch.float16) == "ieee"


@pytest.mark.parametrize("pass_", ["forward", "log", "backward"])
def test_wide_ieee_products_are_refused(pass_):
    widest = IEEE_WIDTH[pass_]
    wide, narrow, two = torch.zeros(1, widest + 1), torch.zeros(1, widest), torch.zeros(1, 2)
    assert fused_precision("ieee", narrow, widest, pass_) == "ieee"
    assert fused_precision("ieee", two, 64, pass_) == "ieee"  # a broadcast multiply, no product
    assert fused_precision("ieee", wide.half(), 64, pass_) == "ieee"  # half precision has one precision of products
    assert fused_precision("tf32x3", wide, widest, pass_) == "tf32x3"
    for x, H in ((wide, widest), (narrow, widest + 1)):
        with pytest.raises(ValueError, match=rf"precision: expected 'tf32' or 'tf32x3' for a {pass_} .* got 'ieee'"):
            fused_precision("ieee", x, H, pass_)


def test_a_narrow_input_of_a_wide_backward_is_padded_to_its_four_warps():
    block = lambda pass_, D, H: table_config(pass_, False, D, H, torch.bfloat16).tiles(D, H)["BLOCK_D"]
    assert block("backward", 8, 64) == block("backward", 3, 33) == 64
    assert block("backward", 2, 64) == 2 and block("backward", 8, 32) == block("forward", 8, 64) == 16
