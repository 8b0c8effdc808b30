"""The backward of a residual block in the Triton interpreter against the steps in float64."""

import dataclasses

import pytest
import torch

from rnam.kernels.block import backward as module
from rnam.kernels.block.backward import block_backward
from rnam.kernels.block.config import BACKWARD, backward_is_fused, block_backward_config, select_block_backward
from rnam.kernels.common.config import Chunks
from rnam.kernels.common.lanes import padded_width
from rnam.kernels.min_gru import backward as min_gru_backward
from tests.support import block_cases
from tests.support.assertions import assert_equal, assert_norm_within
from tests.support.block_cases import check_backward, exact, gradient_inputs
from tests.support.calls import Call, changed
from tests.support.min_gru_cases import FORMS
from tests.support.oracle import MASKED
from tests.support.selection import crossed

pytestmark = [
    pytest.mark.interpreter,
    # numpy, where an exponential overflows to the infinity that is meant, and where a NaN is
    pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered in .*:RuntimeWarning"),
]

HALF, BF16 = torch.float16, torch.bfloat16


def case(form, B, T, D, dtype=torch.float32, **options):
    """One of the table of the backward; the interpreter's products are exact in float32 whatever the precision."""
    chosen = block_cases.case(form, B, T, D, dtype, **(dict(precision="tf32") | options))
    config = block_backward_config(FORMS[form], D, dtype, chosen.precision)
    return dataclasses.replace(chosen, config=config)


CASES = [
    case("time_rows", 1, 1, 3),
    case("time_rows", 2, 33, 16, flags="own"),
    case("time_rows", 1, 70, 8, h0=False, x_layout="sliced"),
    case("time_rows", 3, 64, 8, BF16, flags="rows", dh_layout="time first"),
    case("time_rows", 1, 64, 5, flags="shared", x_layout="every second step", dh_layout="broadcast"),
    case("time_rows", 2, 32, 16, gate="closed", dh_layout="sliced"),
    case("time_rows", 2, 35, 13, HALF, x_layout="time first", gate="open"),
    case("time_rows", 1, 150, 7, HALF, flags="own", F=2),
    case("batch_rows", 17, 3, 16, flags="own", F=2),
    case("batch_rows", 16, 4, 16, BF16, h0=False, x_layout="broadcast", dh_layout="transposed"),
    case("batch_rows", 3, 5, 12, HALF, x_layout="sliced", flags="shared"),
    case("batch_rows", 16, 4, 8, gate="saturated"),
    case("batch_rows", 33, 2, 8, flags="rows", dh_layout="expanded"),
]  # fmt: skip


EMBEDDED = [
    (1, case("time_rows", 2, 33, 16, flags="own")),
    (1, case("time_rows", 1, 70, 8, HALF, h0=False)),
    (2, case("time_rows", 1, 35, 6, flags="shared", dh_layout="sliced")),
    (3, case("batch_rows", 17, 3, 13, flags="rows", F=2)),
    (1, case("batch_rows", 16, 4, 8, BF16)),
]


@pytest.fixture
def launches(monkeypatch):
    """The launches of the one kernel."""
    ran, launch = [], module.backward_launch

    def spy(*given, **options):
        ran.append(launch(*given, **options))
        return ran[-1]

    monkeypatch.setattr(module, "backward_launch", spy)
    return ran


@pytest.mark.parametrize(("K", "case"), [*((0, c) for c in CASES), *EMBEDDED], ids=str)
def test_parity(K, case, launches):
    """In one kernel, and bitwise the same again."""
    first, second = check_backward(case, K), check_backward(case, K)
    assert len(launches) == 2
    assert_equal("gradients", second, first)


@pytest.mark.parametrize(
    "chosen",
    [
        block_cases.case("time_rows", 1, 35, 1, flags="own", dh_layout="time first"),
        block_cases.case("time_rows", 2, 20, 2, HALF, h0=False),
        block_cases.case("time_rows", 2, 35, 20, flags="own", dh_layout="sliced"),
        block_cases.case("batch_rows", 17, 3, 31, BF16, flags="rows", x_layout="sliced", dh_layout="broadcast"),
        block_cases.case("time_rows", 1, 300, 32, flags="shared"),
    ],
    ids=str,
)
def test_widths_of_two_kernels(chosen, launches):
    """The second adds what reaches x directly to its dx."""
    check_backward(chosen)
    assert not launches


def test_every_width():
    for D in range(3, 17):
        check_backward(case("time_rows", 1, 3, D, flags="own"))


@pytest.mark.parametrize(("form", "B", "T"), [("time_rows", 5, 9), ("batch_rows", 37, 3)])
@pytest.mark.parametrize("share", [1e-6, 1.0])
def test_programs_take_several_rows(form, B, T, share, launches, monkeypatch):
    """One partial gradient of the parameters at a small share, and as many as there is work at a large one."""
    monkeypatch.setattr(min_gru_backward, "PARTIALS_SHARE", share if share < 1 else 1e3)
    check_backward(case(form, B, T, 5, flags="own"))
    assert launches[0].arguments["num_partials"] == (1 if share < 1 else {"time_rows": 5, "batch_rows": 3}[form])


@pytest.mark.parametrize(
    ("K", "needs"),
    crossed(
        (0, 1),
        ((True, False, False), (False, True, False), (False, False, True)),
        short=lambda K, needs: K == 0 or needs[1],  # with an embedding the parameters' gradient alone has other parts
    ),
)
def test_only_what_is_asked_is_computed(needs, K, launches):
    chosen = case("time_rows", 2, 35, 6, flags="own")
    given, params = block_cases.embedded_inputs(chosen, K) if K else gradient_inputs(chosen)
    h = exact(given, params)[1].float()
    operands = given.call(), params, h, given.dh, given.dh_last
    whole = block_backward(*operands, config=chosen.config)
    part = block_backward(*operands, config=chosen.config, needs=(*needs, True))
    assert [g is not None for g in part] == [*needs, False] and len(launches) == 2
    assert_equal("gradients", part, [g if need else None for g, need in zip(whole, (*needs, True), strict=True)])
    assert block_backward(*operands, needs=(False, False, False, False)) == (None, None, None, None)


@pytest.mark.parametrize("K", [0, 2])
def test_two_kernels_give_the_same(K, launches, monkeypatch):
    """Where time is cut, in a precision or a width that one kernel has not, and without a gradient of y."""
    chosen = case("time_rows", 1, 40, 6, flags="own", precision="tf32x3")
    given, params = block_cases.embedded_inputs(chosen, K) if K else gradient_inputs(chosen)
    h = exact(given, params)[1].float()
    operands = given.call(), params, h
    one = block_backward(*operands, given.dh, given.dh_last)
    assert len(launches) == 1
    two = [block_backward(*operands, given.dh, given.dh_last, precision="ieee")]
    zero = block_backward(*operands, torch.zeros_like(given.dh), given.dh_last)
    none = block_backward(*operands, None, given.dh_last)
    monkeypatch.setattr(module, "plan_chunks", lambda *_: Chunks(20, 2))
    two.append(block_backward(*operands, given.dh, given.dh_last))
    assert len(launches) == 2
    for got, wanted in ((two[0], one), (two[1], one), (none, zero)):
        for name, a, b in zip(("dx", "dpacked", "dh0"), got[:3], wanted[:3], strict=True):
            assert a.shape == b.shape and a.is_contiguous()
            # either is within check_backward's bound of the steps; their own difference is some units of float32
            assert_norm_within(name, a, b, 64 * 2.0**-24 * b.norm())


def test_a_nan_at_a_masked_step_does_not_reach_the_cell():
    """The gradient of its own y is 0, as in a loss that leaves masked steps out."""
    chosen = case("time_rows", 2, 35, 8, flags="own")
    given, params = gradient_inputs(chosen)
    masked = ((given.flags & MASKED) != 0)[..., None]
    given.dh = torch.where(masked, 0.0, given.dh)
    h = exact(given, params)[1].float()
    run = lambda: block_backward(given.call(), params, h, given.dh, None, config=chosen.config)
    clean = run()
    given.x = torch.where(masked, 100.0, given.x)
    other = run()
    size = 2 * 8 * 8
    assert torch.equal(other[1][:, :size], clean[1][:, :size]) and torch.equal(other[2], clean[2])
    assert torch.equal(torch.where(masked, 0.0, other[0]), torch.where(masked, 0.0, clean[0]))


@pytest.mark.parametrize("shape", [(2, 0, 5, 3), (0, 4, 5, 3), (1, 2, 0, 3)])
def test_empty(shape):
    F, B = shape[:2]
    x, weight, params, state = torch.zeros(shape), torch.ones(F, 3, 6), torch.ones(F, 30), torch.ones(F, B, 1, 3)
    dx, dpacked, dh0, _ = block_backward(Call(x, weight, state), params, x, x, state)
    assert dx.shape == shape and torch.equal(dpacked, torch.zeros(F, 48)) and torch.equal(dh0, state)


def test_the_table_is_complete():
    used = set()
    for D in range(3, 17):
        for dtype, precision in ((torch.float32, "tf32"), (torch.float32, "tf32x3"), (BF16, "ieee")):
            assert backward_is_fused(D, dtype, precision)
            for batch_rows in (False, True):
                assert block_backward_config(batch_rows, D, dtype, precision).batch_rows == batch_rows
                used.add((batch_rows, padded_width(D), "half" if dtype == BF16 else precision))
    assert used == set(BACKWARD)
    assert not [D for D in (0, 2, 17, 33) if backward_is_fused(D, BF16)]
    assert not backward_is_fused(8, torch.float32, "ieee")
    form = lambda *sizes: select_block_backward(16, BF16, "ieee", *sizes).batch_rows
    assert form(100, 128, 1000) and not form(1, 1, 1000)


def test_bad_arguments():
    x, weight, params, state = (
        torch.zeros(1, 1, 2, 3),
        torch.zeros(1, 3, 6),
        torch.zeros(1, 30),
        torch.zeros(1, 1, 1, 3),
    )
    call, given = Call(x, weight, state), dict(params=params, h=x, dy=x, dh_last=state)
    for wrong, kind, message in (
        (dict(weight=torch.zeros(1, 5, 6)), ValueError, "weight: expected"),
        (dict(input=torch.zeros(1, 1, 2, 33)), ValueError, "x: expected rows of 1 to 32"),
        (dict(params=torch.zeros(1, 29)), ValueError, "params: expected"),
        (dict(dy=x.double()), TypeError, "dy: expected float32"),
        (dict(dy=torch.zeros(1, 1, 2, 4)), ValueError, "dy: expected"),
        (dict(h=torch.zeros(1, 1, 3, 3)), ValueError, "h: expected"),
        (dict(precision="fp8"), ValueError, "precision: expected one of"),
    ):  # fmt: skip
        bad, options = changed(call, given, wrong)
        with pytest.raises(kind, match=message):
            block_backward(bad, **options)
