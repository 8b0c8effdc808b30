"""The kernel of a residual block in the Triton interpreter against the steps in float64."""

import pytest
import torch

from rnam.kernels import block_is_fused
from rnam.kernels.block import forward as block
from rnam.kernels.block.config import TABLE, block_config, select_block
from rnam.kernels.block.forward import block_forward
from rnam.kernels.common.config import Chunks
from rnam.kernels.common.lanes import padded_width
from rnam.kernels.feed_forward.forward import feed_forward_forward
from rnam.kernels.min_gru import chunks
from rnam.kernels.min_gru.forward import min_gru_forward
from tests.support.assertions import assert_norm_within
from tests.support.block_cases import case, check, check_embedded, embedded_inputs, inputs
from tests.support.calls import Call, changed
from tests.support.oracle import MASKED
from tests.support.selection import crossed

pytestmark = [
    pytest.mark.interpreter,
    # numpy, where an exponential overflows to the infinity that is meant, and where a NaN is
    pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered in .*:RuntimeWarning"),
]

HALF, BF16 = torch.float16, torch.bfloat16

# A tile is 64 steps of time_rows up to 8 wide, 32 up to 16 and in half precision, 16 of float32 up to 32.
CASES = [
    case("time_rows", 1, 1, 1),
    case("time_rows", 2, 33, 16, flags="own"),
    case("time_rows", 1, 70, 8, h0=False, x_layout="sliced"),
    case("time_rows", 2, 64, 8, BF16, flags="rows"),
    case("time_rows", 1, 64, 5, flags="shared", x_layout="every second step"),
    case("time_rows", 1, 17, 32),
    case("time_rows", 1, 17, 16, gate="closed"),
    case("time_rows", 2, 32, 32, HALF, flags="own"),
    case("time_rows", 1, 35, 13, BF16, x_layout="time first", gate="open"),
    case("time_rows", 2, 31, 2, HALF, x_layout="transposed", flags="own"),
    case("batch_rows", 17, 3, 16, flags="own", F=2),
    case("batch_rows", 16, 4, 16, BF16, h0=False, x_layout="broadcast"),
    case("batch_rows", 3, 5, 32, HALF, x_layout="sliced", flags="shared"),
    case("batch_rows", 16, 3, 32, gate="saturated"),
    case("batch_rows", 2, 9, 3, BF16, flags="own", weight_dtype=BF16),
    case("batch_rows", 18, 2, 8, flags="rows", precision="tf32"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_parity(case):
    y, _, h_last = check(case)
    again, none, last = check(case, need_h=False)
    assert none is None and torch.equal(y, again) and torch.equal(h_last, last)


@pytest.mark.parametrize("batch_rows", [False, True])
def test_closed_gates_hold_the_state(batch_rows):
    x = torch.rand(1, 2, 100, 8, generator=torch.Generator().manual_seed(0)) + 1
    weight = torch.cat([torch.ones(1, 8, 8), torch.linspace(-9, -4, 8).expand(1, 8, 8)], 2)
    h0 = torch.linspace(0.1, 3, 16).view(1, 2, 1, 8)
    config = block_config(batch_rows, 8, torch.float32, "tf32x3")
    _, h, h_last = block_forward(Call(x, weight, h0), torch.zeros(1, 2 * 8**2 + 4 * 8), config=config)
    assert torch.equal(h, h0.expand_as(h)) and torch.equal(h_last, h0)


EMBEDDED = [
    (1, case("time_rows", 1, 70, 8, flags="own")),
    (2, case("time_rows", 2, 33, 13, HALF, h0=False)),
    (3, case("time_rows", 1, 17, 32, flags="rows")),
    (1, case("batch_rows", 17, 3, 16, F=2, flags="shared")),
    (2, case("batch_rows", 3, 5, 6, BF16)),
]


@pytest.mark.parametrize(("K", "case"), EMBEDDED, ids=str)
def test_embedded_rows(K, case, monkeypatch):
    """In one kernel; and a NaN at a masked step reaches its own output alone."""
    monkeypatch.setattr(block, "feed_forward_forward", None)
    clean = check_embedded(case, K)
    if case.flags:
        given, params = embedded_inputs(case, K)
        masked = ((given.flags & MASKED) != 0).expand(clean[0].shape[:3])
        given.x = torch.where(masked[..., None], torch.nan, given.x)
        y, h, h_last = block_forward(given.call(), params, config=case.config)
        assert torch.equal(h, clean[1]) and torch.equal(h_last, clean[2])
        assert torch.equal(y[~masked], clean[0][~masked]) and y[masked].isnan().all()


def test_embedded_rows_in_two_kernels(monkeypatch):
    """Where a long T would be cut, and in a precision that one kernel has not."""
    chosen = case("time_rows", 1, 40, 8, flags="own")
    given, params = embedded_inputs(chosen, 1)
    run = lambda **options: block_forward(given.call(need_h=False), params, **options)
    one = run()
    two = [run(precision="ieee")]
    monkeypatch.setattr(block, "plan_chunks", lambda *_, **__: Chunks(20, 2))
    two.append(run())
    for y, none, h_last in two:
        assert none is None and not torch.equal(y, one[0])
        for name, a, b in (("y", y, one[0]), ("h_last", h_last, one[2])):  # each is within check_embedded's bound
            assert_norm_within(name, a, b, 64 * 2.0**-24 * b.norm())


def test_every_width():
    for D in range(1, 33):
        check(case("time_rows", 1, 3, D, flags="own"))


@pytest.mark.parametrize(
    ("size", "flags"),
    crossed(
        ((5, torch.float32), (32, BF16)),
        (None, "own"),
        short=lambda size, flags: size == ((5, torch.float32) if flags else (32, BF16)),
    ),
)
def test_a_long_sequence_is_cut(size, flags, monkeypatch):
    """The totals are those of the minGRU, in its tiles; chunks are whole tiles of both."""
    D, dtype = size
    monkeypatch.setattr(chunks, "MIN_CHUNK_TILES", 1)
    cut = case("time_rows", 2, 150, D, dtype, flags=flags)
    assert chunks.plan_chunks(1, 2, 150, cut.config, whole=64) == (64, 3) and cut.config.tile <= 64
    check(cut)


@pytest.mark.parametrize(("form", "B", "T"), [("time_rows", 2, 70), ("batch_rows", 17, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_a_nan_at_a_masked_step_reaches_its_own_output_alone(form, B, T, dtype):
    chosen = case(form, B, T, 8, dtype, flags="own")
    given, params = inputs(chosen)
    run = lambda: block_forward(given.call(), params, config=chosen.config)
    clean = run()
    masked = (given.flags & MASKED) != 0
    given.x = torch.where(masked[..., None], torch.nan, given.x)
    y, h, h_last = run()
    assert torch.equal(h, clean[1]) and torch.equal(h_last, clean[2])
    assert torch.equal(y[~masked], clean[0][~masked]) and y[masked].isnan().all()


@pytest.mark.parametrize(("form", "B", "T"), [("time_rows", 2, 40), ("batch_rows", 3, 36)])
def test_a_nan_enters_from_its_step_on(form, B, T):
    chosen = case(form, B, T, 8)
    given, params = inputs(chosen)
    run = lambda: block_forward(given.call(), params, config=chosen.config)
    clean = run()
    given.x[:, 1, 33, 2] = torch.nan
    y, h, h_last = run()
    for got, before in ((y, clean[0]), (h, clean[1])):
        assert torch.equal(got[:, 1, :33], before[:, 1, :33]) and got[:, 1, 33:].isnan().all()
        assert torch.equal(got[:, 0], before[:, 0])
    assert h_last[:, 1].isnan().all() and not h_last[:, 0].isnan().any()


def test_parameters_may_lie_in_one_tensor_or_be_shared():
    chosen = case("time_rows", 1, 5, 6, F=3)
    given, params = inputs(chosen)
    run = lambda w, p: block_forward(given.call(weight=w, need_h=False), p, config=chosen.config)
    apart = run(given.weight, params)
    packed = torch.cat([given.weight.flatten(1), params], 1)
    weight, rest = packed.tensor_split([6 * 12], 1)
    assert torch.equal(run(weight.unflatten(1, (6, 12)), rest)[0], apart[0])
    shared = run(given.weight[:1].expand_as(given.weight), params[:1].expand_as(params))
    assert torch.equal(shared[0], run(given.weight[:1].repeat(3, 1, 1), params[:1].repeat(3, 1))[0])


def test_what_is_not_fused_takes_two_kernels():
    given, params = inputs(case("time_rows", 1, 20, 6))
    assert not block_is_fused(6, torch.float32, "ieee")
    h, h_last = min_gru_forward(given.call(), precision="ieee")
    y = feed_forward_forward(given.x.flatten(1, 2), params, h.flatten(1, 2), precision="ieee").view_as(h)
    for need_h in (False, True):
        got = block_forward(given.call(need_h=need_h), params, precision="ieee")
        assert torch.equal(got[0], y) and torch.equal(got[2], h_last)
        assert torch.equal(got[1], h) if need_h else got[1] is None


@pytest.mark.parametrize("shape", [(2, 0, 5, 3), (0, 4, 5, 3)])
def test_empty(shape):
    x, weight, params = torch.zeros(shape), torch.ones(shape[0], 3, 6), torch.ones(shape[0], 30)
    y, h, h_last = block_forward(Call(x, weight), params)
    assert y.shape == h.shape == shape and h_last.shape == (*shape[:2], 1, 3)


def test_the_table_is_complete():
    used = set()
    for D in range(3, 33):
        for dtype, precision in ((torch.float32, "tf32"), (torch.float32, "tf32x3"), (BF16, "ieee")):
            assert block_is_fused(D, dtype, precision)
            for batch_rows in (False, True):
                config = block_config(batch_rows, D, dtype, precision)
                used.add((batch_rows, padded_width(D), "half" if dtype == BF16 else precision))
                assert config.batch_rows == batch_rows and config.ROWS == 16
    assert used == set(TABLE)
    assert not [D for D in (0, 2, 33) if block_is_fused(D, BF16)]
    form = lambda *sizes: select_block(16, BF16, "ieee", *sizes).batch_rows
    assert form(100, 128, 1000) and not form(1, 1, 1000)


def test_bad_arguments():
    x, weight, params = torch.zeros(1, 1, 2, 3), torch.zeros(1, 3, 6), torch.zeros(1, 30)
    call = Call(x, weight, need_h=False)
    for wrong, kind, message in (
        (dict(weight=torch.zeros(1, 5, 6)), ValueError, "weight: expected"),
        (dict(weight=weight.half()), ValueError, "weight: expected"),
        (dict(params=torch.zeros(1, 29)), ValueError, "params: expected"),
        (dict(input=x.double()), TypeError, "x: expected float32"),
        (dict(input=torch.zeros(1, 1, 2, 33)), ValueError, "x: expected rows of 1 to 32"),
        (dict(input=torch.zeros(1, 1, 2, 1)), ValueError, "params: expected"),
        (dict(precision="fp8"), ValueError, "precision: expected one of"),
        (dict(flags=torch.zeros(1, 1, 2)), TypeError, "flags: expected uint8"),
        (dict(flags=torch.zeros(1, 1, 3, dtype=torch.uint8)), ValueError, "flags: expected a shape"),
    ):  # fmt: skip
        bad, options = changed(call, dict(params=params), wrong)
        with pytest.raises(kind, match=message):
            block_forward(bad, **options)
