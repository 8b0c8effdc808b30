"""The kernel of a residual block in the Triton interpreter against the steps in float64."""

import pytest
import torch

from rnam.kernels import block, block_is_fused, split_t
from rnam.kernels.block import block_forward
from rnam.kernels.config_block import TABLE, block_config, padded_width, select_block
from rnam.kernels.feed_forward import feed_forward_forward
from rnam.kernels.min_gru_fwd import min_gru_forward
from tests.support.assertions import assert_norm_within
from tests.support.block_cases import case, check, check_embedded, embedded_inputs, inputs
from tests.support.coded_oracle import MASKED

pytestmark = [
    pytest.mark.interpreter,
    # numpy, where an exponential overflows to the infinity that is meant, and where a NaN is
    pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered in .*:RuntimeWarning"),
]

HALF, BF16 = torch.float16, torch.bfloat16

# A tile is 64 steps of SEG up to 8 wide, 32 up to 16 and in halves, 16 of float32 up to 32.
CASES = [
    case("SEG", 1, 1, 1),
    case("SEG", 2, 33, 16, codes="own"),
    case("SEG", 1, 70, 8, h0=False, x_layout="sliced"),
    case("SEG", 2, 64, 8, BF16, codes="rows"),
    case("SEG", 1, 64, 5, codes="shared", x_layout="every second step"),
    case("SEG", 1, 17, 32),
    case("SEG", 1, 17, 16, gate="closed"),
    case("SEG", 2, 32, 32, HALF, codes="own"),
    case("SEG", 1, 35, 13, BF16, x_layout="time first", gate="open"),
    case("SEG", 2, 31, 2, HALF, x_layout="transposed", codes="own"),
    case("SEQ", 17, 3, 16, codes="own", F=2),
    case("SEQ", 16, 4, 16, BF16, h0=False, x_layout="broadcast"),
    case("SEQ", 3, 5, 32, HALF, x_layout="sliced", codes="shared"),
    case("SEQ", 16, 3, 32, gate="saturated"),
    case("SEQ", 2, 9, 3, BF16, codes="own", weight_dtype=BF16),
    case("SEQ", 18, 2, 8, codes="rows", precision="tf32"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_parity(case):
    y, _, h_last = check(case)
    again, none, last = check(case, need_h=False)
    assert none is None and torch.equal(y, again) and torch.equal(h_last, last)


@pytest.mark.parametrize("seq", [False, True])
def test_closed_gates_hold_the_state(seq):
    x = torch.rand(1, 2, 100, 8, generator=torch.Generator().manual_seed(0)) + 1
    weight = torch.cat([torch.ones(1, 8, 8), torch.linspace(-9, -4, 8).expand(1, 8, 8)], 2)
    h0 = torch.linspace(0.1, 3, 16).view(1, 2, 1, 8)
    config = block_config(seq, 8, torch.float32, "tf32x3")
    _, h, h_last = block_forward(x, weight, torch.zeros(1, 2 * 8**2 + 4 * 8), h0, need_h=True, config=config)
    assert torch.equal(h, h0.expand_as(h)) and torch.equal(h_last, h0)


EMBEDDED = [
    (1, case("SEG", 1, 70, 8, codes="own")),
    (2, case("SEG", 2, 33, 13, HALF, h0=False)),
    (3, case("SEG", 1, 17, 32, codes="rows")),
    (1, case("SEQ", 17, 3, 16, F=2, codes="shared")),
    (2, case("SEQ", 3, 5, 6, BF16)),
]


@pytest.mark.parametrize(("K", "case"), EMBEDDED, ids=str)
def test_embedded_rows(K, case, monkeypatch):
    """In one kernel; and a NaN at a masked step reaches its own output alone."""
    monkeypatch.setattr(block, "feed_forward_forward", None)
    clean = check_embedded(case, K)
    if case.codes:
        given, params = embedded_inputs(case, K)
        masked = ((given.codes & MASKED) != 0).expand(clean[0].shape[:3])
        given.x = torch.where(masked[..., None], torch.nan, given.x)
        y, h, h_last = block_forward(
            given.x, given.weight, params, given.h0, given.codes, need_h=True, config=case.config
        )  # fmt: skip
        assert torch.equal(h, clean[1]) and torch.equal(h_last, clean[2])
        assert torch.equal(y[~masked], clean[0][~masked]) and y[masked].isnan().all()


def test_embedded_rows_in_two_kernels(monkeypatch):
    """Where a long T would be cut, and in a precision that one kernel has not."""
    chosen = case("SEG", 1, 40, 8, codes="own")
    given, params = embedded_inputs(chosen, 1)
    run = lambda **options: block_forward(
        given.x, given.weight, params, given.h0, given.codes, need_h=False, **options
    )  # fmt: skip
    one = run()
    two = [run(precision="ieee")]
    monkeypatch.setattr(block, "plan_chunks", lambda *_, **__: (20, 2))
    two.append(run())
    for y, none, h_last in two:
        assert none is None and not torch.equal(y, one[0])
        for name, a, b in (("y", y, one[0]), ("h_last", h_last, one[2])):  # each is within check_embedded's bound
            assert_norm_within(name, a, b, 64 * 2.0**-24 * b.norm())


def test_every_width():
    for D in range(1, 33):
        check(case("SEG", 1, 3, D, codes="own"))


@pytest.mark.parametrize("codes", [None, "own"])
@pytest.mark.parametrize(("D", "dtype"), [(5, torch.float32), (32, BF16)])
def test_a_long_sequence_is_cut(D, dtype, codes, monkeypatch):
    """The totals are those of the minGRU, in its tiles; chunks are whole tiles of both."""
    monkeypatch.setattr(split_t, "MIN_CHUNK_TILES", 1)
    cut = case("SEG", 2, 150, D, dtype, codes=codes)
    length, count = split_t.plan_chunks(1, 2, 150, cut.config, whole=64)
    assert count == 3 and length == 64 and cut.config.tile <= 64
    check(cut)


@pytest.mark.parametrize(("form", "B", "T"), [("SEG", 2, 70), ("SEQ", 17, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_a_nan_at_a_masked_step_reaches_its_own_output_alone(form, B, T, dtype):
    chosen = case(form, B, T, 8, dtype, codes="own")
    given, params = inputs(chosen)
    run = lambda: block_forward(
        given.x, given.weight, params, given.h0, given.codes, need_h=True, config=chosen.config
    )  # fmt: skip
    clean = run()
    masked = (given.codes & MASKED) != 0
    given.x = torch.where(masked[..., None], torch.nan, given.x)
    y, h, h_last = run()
    assert torch.equal(h, clean[1]) and torch.equal(h_last, clean[2])
    assert torch.equal(y[~masked], clean[0][~masked]) and y[masked].isnan().all()


@pytest.mark.parametrize(("form", "B", "T"), [("SEG", 2, 40), ("SEQ", 3, 36)])
def test_a_nan_enters_from_its_step_on(form, B, T):
    chosen = case(form, B, T, 8)
    given, params = inputs(chosen)
    run = lambda: block_forward(given.x, given.weight, params, given.h0, need_h=True, config=chosen.config)
    clean = run()
    given.x[:, 1, 33, 2] = torch.nan
    y, h, h_last = run()
    for got, before in ((y, clean[0]), (h, clean[1])):
        assert torch.equal(got[:, 1, :33], before[:, 1, :33]) and got[:, 1, 33:].isnan().all()
        assert torch.equal(got[:, 0], before[:, 0])
    assert h_last[:, 1].isnan().all() and not h_last[:, 0].isnan().any()


def test_parameters_may_lie_in_one_tensor_or_be_shared():
    chosen = case("SEG", 1, 5, 6, F=3)
    given, params = inputs(chosen)
    run = lambda w, p: block_forward(given.x, w, p, given.h0, need_h=False, config=chosen.config)
    apart = run(given.weight, params)
    packed = torch.cat([given.weight.flatten(1), params], 1)
    weight, rest = packed.tensor_split([6 * 12], 1)
    assert torch.equal(run(weight.unflatten(1, (6, 12)), rest)[0], apart[0])
    shared = run(given.weight[:1].expand_as(given.weight), params[:1].expand_as(params))
    assert torch.equal(shared[0], run(given.weight[:1].repeat(3, 1, 1), params[:1].repeat(3, 1))[0])


def test_what_is_not_fused_takes_two_kernels():
    given, params = inputs(case("SEG", 1, 20, 6))
    assert not block_is_fused(6, torch.float32, "ieee")
    h, h_last = min_gru_forward(given.x, given.weight, given.h0, precision="ieee")
    y = feed_forward_forward(given.x.flatten(1, 2), params, h.flatten(1, 2), precision="ieee").view_as(h)
    for need_h in (False, True):
        got = block_forward(given.x, given.weight, params, given.h0, need_h=need_h, precision="ieee")
        assert torch.equal(got[0], y) and torch.equal(got[2], h_last)
        assert torch.equal(got[1], h) if need_h else got[1] is None


@pytest.mark.parametrize("shape", [(2, 0, 5, 3), (0, 4, 5, 3)])
def test_empty(shape):
    x, weight, params = torch.zeros(shape), torch.ones(shape[0], 3, 6), torch.ones(shape[0], 30)
    y, h, h_last = block_forward(x, weight, params, need_h=True)
    assert y.shape == h.shape == shape and h_last.shape == (*shape[:2], 1, 3)


def test_the_table_is_complete():
    used = set()
    for D in range(3, 33):
        for dtype, precision in ((torch.float32, "tf32"), (torch.float32, "tf32x3"), (BF16, "ieee")):
            assert block_is_fused(D, dtype, precision)
            for seq in (False, True):
                config = block_config(seq, D, dtype, precision)
                used.add((seq, padded_width(D), "half" if dtype == BF16 else precision))
                assert config.seq == seq and config.ROWS == 16
    assert used == set(TABLE)
    assert not [D for D in (0, 2, 33) if block_is_fused(D, BF16)]
    assert select_block(16, BF16, "ieee", 100, 128, 1000).seq and not select_block(16, BF16, "ieee", 1, 1, 1000).seq


def test_bad_arguments():
    x, weight, params = torch.zeros(1, 1, 2, 3), torch.zeros(1, 3, 6), torch.zeros(1, 30)
    for wrong, kind, message in (
        (dict(weight=torch.zeros(1, 4, 6)), ValueError, "weight: expected"),
        (dict(weight=weight.half()), ValueError, "weight: expected"),
        (dict(params=torch.zeros(1, 29)), ValueError, "params: expected"),
        (dict(x=x.double()), TypeError, "x: expected float32"),
        (dict(x=torch.zeros(1, 1, 2, 33)), ValueError, "x: expected rows of 1 to 32"),
        (dict(x=torch.zeros(1, 1, 2, 1)), ValueError, "params: expected"),
        (dict(precision="fp8"), ValueError, "precision: expected one of"),
        (dict(codes=torch.zeros(1, 1, 2)), TypeError, "codes: expected uint8"),
        (dict(codes=torch.zeros(1, 1, 3, dtype=torch.uint8)), ValueError, "codes: expected a shape"),
    ):  # fmt: skip
        with pytest.raises(kind, match=message):
            block_forward(**dict(x=x, weight=weight, params=params, need_h=False) | wrong)
