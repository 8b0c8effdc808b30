"""The kernel of a minGRU and its projection in the Triton interpreter against the steps in float64."""

import itertools

import pytest
import torch

from rnam.kernels import projected_is_fused
from rnam.kernels.common.lanes import padded_width
from rnam.kernels.min_gru import chunks
from rnam.kernels.min_gru.projected import projected_forward
from rnam.kernels.min_gru.projected_config import TABLE, WIDE_STEPS, projected_config, select_projected
from tests.support.assertions import assert_equal
from tests.support.calls import Call, changed
from tests.support.oracle import MASKED
from tests.support.projected_cases import case, check, inputs

pytestmark = [
    pytest.mark.interpreter,
    # numpy, where an exponential overflows to the infinity that is meant, and where a NaN is
    pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered in .*:RuntimeWarning"),
]

HALF, BF16 = torch.float16, torch.bfloat16

# A tile of time_rows is 64 steps up to H = 16, 32 up to 32 and 16 beyond.
CASES = [
    case("time_rows", 1, 70, 8, 16, flags="own"),
    case("time_rows", 1, 64, 8, 16, HALF, h0=False, x_layout="sliced"),
    case("time_rows", 2, 33, 16, 32, BF16, flags="rows"),
    case("time_rows", 1, 40, 6, 9, flags="shared", x_layout="every second step"),
    case("time_rows", 1, 17, 16, 24, gate="closed"),
    case("time_rows", 1, 3, 13, 26, HALF, x_layout="time first", gate="open", F=2),
    case("time_rows", 1, 5, 2, 4, BF16, x_layout="transposed", flags="own"),
    case("time_rows", 1, 5, 32, 16, precision="tf32"),
    case("batch_rows", 17, 3, 16, 32, flags="own", F=2),
    case("batch_rows", 16, 4, 8, 16, BF16, h0=False, x_layout="broadcast", flags="rows"),
    case("batch_rows", 3, 5, 20, 31, HALF, x_layout="sliced", flags="shared"),
    case("batch_rows", 16, 4, 16, 32, gate="saturated"),
    case("batch_rows", 2, 5, 3, 5, BF16, flags="own", weight_dtype=BF16),
    case("batch_rows", 18, 3, 16, 8, precision="tf32"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_parity(case):
    check(case)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(BF16, marks=pytest.mark.long)])
@pytest.mark.parametrize("batch_rows", [False, True])
def test_closed_gates_hold_the_state(batch_rows, dtype):
    x = (torch.rand(1, 2, 100, 2, generator=torch.Generator().manual_seed(0)) + 1).to(dtype)
    weight = torch.cat([torch.ones(1, 2, 8), torch.linspace(-40, -20, 8).expand(1, 2, 8)], 2)
    h0 = torch.linspace(0.1, 3, 16).view(1, 2, 1, 8)
    config = projected_config(batch_rows, 2, 8, "tf32x3")
    _, h_last = projected_forward(Call(x, weight, h0), torch.ones(1, 8, 2), config=config)
    assert torch.equal(h_last, h0)


@pytest.mark.parametrize(
    ("T", "D", "H", "dtype", "flags"), [(150, 5, 10, torch.float32, "own"), (192, 16, 32, BF16, None)]
)
def test_a_long_sequence_is_cut(T, D, H, dtype, flags, monkeypatch):
    """The totals are those of the minGRU, in its tiles; chunks are whole tiles of both."""
    monkeypatch.setattr(chunks, "MIN_CHUNK_TILES", 1)
    cut = case("time_rows", 1, T, D, H, dtype, flags=flags)
    assert chunks.plan_chunks(1, 1, T, cut.config, whole=64) == (64, 3) and cut.config.tile <= 64
    check(cut)


@pytest.mark.parametrize(("form", "B", "T"), [("time_rows", 1, 70), ("batch_rows", 17, 5)])
@pytest.mark.parametrize(("H", "dtype"), [(16, torch.float32), (13, HALF)])
def test_a_nan_at_a_masked_step_reaches_nothing(form, B, T, H, dtype):
    chosen = case(form, B, T, 8, H, dtype, flags="own")
    given, out_weight = inputs(chosen)
    run = lambda: projected_forward(given.call(), out_weight, config=chosen.config)
    clean = run()
    given.x = torch.where(((given.flags & MASKED) != 0)[..., None], torch.nan, given.x)
    assert_equal("y and h_last", run(), clean)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize(("form", "B", "T"), [("time_rows", 2, 12), ("batch_rows", 3, 12)])
def test_a_nan_enters_from_its_step_on(form, B, T, bad):
    """An infinity does too: its states are infinite or NaN, and in tf32x3 NaN."""
    chosen = case(form, B, T, 8, 12)
    given, out_weight = inputs(chosen)
    run = lambda: projected_forward(given.call(), out_weight, config=chosen.config)
    y, last = run()
    given.x[:, 1, 9, 2] = bad
    got, h_last = run()
    assert torch.equal(got[:, 1, :9], y[:, 1, :9]) and got[:, 1, 9:].isnan().all()
    assert torch.equal(got[:, 0], y[:, 0]) and torch.equal(h_last[:, 0], last[:, 0]) and h_last[:, 1].isnan().all()


@pytest.mark.parametrize("form", ["time_rows", "batch_rows"])
def test_an_infinity_does_not_become_nan_in_padded_states(form):
    """0 * infinity in a column of padding, which a product with 0 would spread to all of y."""
    x, weight, out_weight = torch.ones(1, 2, 5, 3), torch.ones(1, 3, 10), torch.ones(1, 5, 3)
    x[0, 1, 2, 0] = torch.inf
    config = case(form, 2, 5, 3, 5, HALF).config
    y, h_last = projected_forward(Call(x.half(), weight), out_weight, config=config)
    assert (y[0, 1, 2:] == torch.inf).all() and (h_last[0, 1] == torch.inf).all()
    assert y[0, 0].isfinite().all() and y[0, 1, :2].isfinite().all()


def test_parameters_may_lie_in_one_tensor_or_be_shared():
    chosen = case("time_rows", 1, 5, 6, 10, F=3)
    given, out_weight = inputs(chosen)
    run = lambda w, o: projected_forward(given.call(weight=w), o, config=chosen.config)
    apart = run(given.weight, out_weight)
    packed = torch.cat([given.weight.flatten(1), out_weight.flatten(1)], 1)
    weight, rest = packed.tensor_split([6 * 20], 1)
    assert torch.equal(run(weight.unflatten(1, (6, 20)), rest.unflatten(1, (10, 6)))[0], apart[0])
    assert torch.equal(run(given.weight, out_weight.mT.contiguous().mT)[0], apart[0])
    shared = run(given.weight[:1].expand_as(given.weight), out_weight[:1].expand_as(out_weight))
    assert torch.equal(shared[0], run(given.weight[:1].repeat(3, 1, 1), out_weight[:1].repeat(3, 1, 1))[0])
    assert not torch.equal(shared[0], apart[0])


@pytest.mark.parametrize("shape", [(2, 0, 5, 3), (0, 4, 5, 3)])
def test_empty(shape):
    x, weight, out_weight = torch.zeros(shape), torch.ones(shape[0], 3, 8), torch.ones(shape[0], 4, 3)
    y, h_last = projected_forward(Call(x, weight), out_weight)
    assert y.shape == shape and h_last.shape == (*shape[:2], 1, 4)


def test_bad_arguments():
    x, weight, out_weight = torch.zeros(1, 1, 2, 3), torch.zeros(1, 3, 8), torch.zeros(1, 4, 3)
    call = Call(x, weight)
    for wrong, kind, message in (
        (dict(weight=torch.zeros(1, 5, 8)), ValueError, "weight: expected the 3 rows of x"),
        (dict(out_weight=torch.zeros(1, 3, 3)), ValueError, "out_weight: expected"),
        (dict(input=x.double()), TypeError, "x: expected float32"),
        (dict(out_weight=out_weight.double()), TypeError, "out_weight: expected float32"),
        (dict(precision="ieee"), ValueError, "precision: expected 'tf32' or 'tf32x3'"),
        (dict(input=x[..., :1], weight=weight[:, :1], out_weight=out_weight[..., :1]), ValueError, "2 to 32 wide"),
        (dict(weight=torch.zeros(1, 3, 66), out_weight=torch.zeros(1, 33, 3)), ValueError, "at most 32 states, got"),
        (dict(precision="fp8"), ValueError, "precision: expected one of"),
        (dict(flags=torch.zeros(1, 1, 2)), TypeError, "flags: expected uint8"),
    ):  # fmt: skip
        bad, options = changed(call, dict(out_weight=out_weight), wrong)
        with pytest.raises(kind, match=message):
            projected_forward(bad, **options)


def test_the_table_is_complete():
    fused = [(D, H) for D in range(35) for H in range(1, 66) if projected_is_fused(D, H)]
    for (D, H), batch_rows, precision in itertools.product(fused, (False, True), ("tf32", "tf32x3", "ieee")):
        config = projected_config(batch_rows, D, H, precision)
        wide = batch_rows and precision == "tf32x3" and min(D, H) > 16
        assert (config.batch_rows, config.ROWS, config.num_warps) == (batch_rows, 16, 1)
        assert (WIDE_STEPS if wide else TABLE[padded_width(H)]) == config.STEPS
    assert {padded_width(H) for _, H in fused} == set(TABLE)
    assert {D for D, _ in fused} == set(range(2, 33)) and (32, 32) in fused and (32, 33) not in fused
    form = lambda *sizes: select_projected(16, 32, "ieee", *sizes).batch_rows
    assert form(100, 128, 1000) and not form(1, 1, 1000)
