"""A bias as the last row of a recurrence's weight, in the Triton interpreter: every kernel that projects."""

import dataclasses
import functools

import pytest
import torch

from rnam.kernels import MIN_GRU, MIN_LSTM, recurrence_backward, recurrence_forward
from rnam.kernels.common.config import LaunchConfig
from rnam.kernels.min_gru import backward as min_gru_backward
from rnam.kernels.min_gru import chunks
from tests.support import oracle, projected_cases
from tests.support.assertions import assert_equal
from tests.support.calls import Call
from tests.support.min_gru_cases import BATCH_ROWS, SHORT, TIME_ROWS, WIDE, Case, check, inputs, reference, with_one
from tests.support.scan_bounds import assert_gradient

pytestmark = [
    pytest.mark.interpreter,
    # infinities and NaN that a selection leaves out
    pytest.mark.filterwarnings("ignore:(divide by zero|overflow|invalid value) encountered in .*:RuntimeWarning"),
]

HALF, BF16 = torch.float16, torch.bfloat16
with_bias = functools.partial(Case, bias=True)

CASES = [
    with_bias(T=17, D=5, H=3, config=TIME_ROWS),
    with_bias(T=6, D=16, H=16, config=BATCH_ROWS, flags="own", dtype=BF16),
    with_bias(T=33, F=1, D=1, H=7, config=SHORT, x_layout="time first", dtype=HALF),
    with_bias(T=9, B=17, F=1, D=2, H=8, config=BATCH_ROWS, space="log", flags="rows"),
    with_bias(T=65, F=1, B=1, D=12, H=16, config=TIME_ROWS, space="log", h0=False),
    with_bias(T=16, F=1, D=16, H=16, config=WIDE, flags="shared", gate="open"),
    with_bias(T=17, F=1, B=1, D=33, H=64, config=SHORT, flags="shared"),
    with_bias(T=5, D=8, H=8, config=SHORT, weight_dtype=BF16, precision="ieee"),
    with_bias(T=5, D=16, H=16, config=BATCH_ROWS, precision="tf32"),
    with_bias(T=7, F=2, B=1, D=66, H=5, config=None, flags="own"),
    with_bias(T=7, F=1, B=2, D=3, H=70, config=None),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_parity(case):
    check(case)


def test_wide_in_half_precision():
    """Where cuBLAS multiplies it adds the bias in the dtype of x."""
    given = inputs(with_bias(T=7, F=1, B=2, D=3, H=70, dtype=BF16, config=None))
    h, h_last = recurrence_forward(given.call(), MIN_GRU)
    got = [h, h_last, *recurrence_backward(given.call(), MIN_GRU, h, given.dh, given.dh_last)[:3]]
    wanted, plain = (reference(given, dtype) for dtype in (torch.float64, BF16))
    for name, ours, y, z in zip(("h", "h_last", "dx", "dw", "dh0"), got, wanted, plain, strict=True):
        assert_gradient(name, ours.to(BF16), y, z)


def test_a_zero_bias_changes_no_bit():
    given = inputs(Case(T=20, D=5, H=8, flags="own", config=SHORT))
    zero = given.call(weight=torch.nn.functional.pad(given.weight, (0, 0, 0, 1)))
    plain = recurrence_forward(given.call(), MIN_GRU, config=SHORT)
    assert_equal("forward", recurrence_forward(zero, MIN_GRU, config=SHORT), plain)
    gradients = [
        recurrence_backward(call, MIN_GRU, plain[0], given.dh, given.dh_last, config=SHORT)
        for call in (zero, given.call())
    ]
    assert_equal("dW", gradients[0][1][:, :-1], gradients[1][1])
    assert_equal("dx and dh0", gradients[0][:3:2], gradients[1][:3:2])


@pytest.mark.parametrize("flags", [None, "own"])
def test_a_long_sequence_is_cut(flags, monkeypatch):
    config = LaunchConfig(batch_rows=False, ROWS=16, STEPS=1, num_warps=1)
    case = with_bias(F=1, B=2, T=130, D=5, H=3, config=config, flags=flags)
    monkeypatch.setattr(chunks, "MIN_CHUNK_TILES", 2)
    monkeypatch.setattr(min_gru_backward, "PARTIALS_SHARE", 2.0)
    assert chunks.plan_chunks(1, 2, 130, config).num_chunks == 3
    check(case)


def test_only_the_gradient_of_the_weight_has_one_of_the_bias():
    given = inputs(with_bias(T=20, D=5, H=8, config=SHORT))
    h, _ = recurrence_forward(given.call(), MIN_GRU, config=SHORT)
    run = functools.partial(recurrence_backward, given.call(), MIN_GRU, h, given.dh, given.dh_last, config=SHORT)
    whole = run()
    assert whole[1].shape == given.weight.shape
    assert run(needs=(True, False, False, False))[1] is None
    assert_equal("dW", run(needs=(False, True, False, False))[1], whole[1])


@pytest.mark.parametrize("form", ["time_rows", "batch_rows"])
@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_projected(form, dtype):
    case = projected_cases.case(form, 17 if form == "batch_rows" else 1, 21, 6, 12, dtype, flags="own")
    projected_cases.check(dataclasses.replace(case, bias=True))


def test_projected_where_time_is_cut(monkeypatch):
    monkeypatch.setattr(chunks, "MIN_CHUNK_TILES", 1)
    case = projected_cases.case("time_rows", 1, 300, 8, 8)
    projected_cases.check(dataclasses.replace(case, bias=True))


@pytest.mark.parametrize("dtype", [torch.float32, BF16, HALF])
@pytest.mark.parametrize(("D", "H"), [(4, 8), (40, 3)])
def test_a_min_lstm(D, H, dtype):
    F, B, T = 2, 2, 11
    generator = torch.Generator().manual_seed(1)
    normal = functools.partial(torch.randn, generator=generator)
    weight, h0 = (normal(F, D + 1, 3 * H) * D**-0.5).to(dtype), normal(F, B, 1, H)
    x = normal(F, B, T, D).to(dtype)
    for _ in range(200):  # g has a kink at u = 0
        u = with_one(x.double(), weight) @ weight.double()[:, None, :, :H]
        near = (u.abs() < 0.02).any(3, keepdim=True)
        x = torch.where(near, normal(F, B, T, D).to(dtype), x)
    assert not near.any()
    dh, dh_last = normal(F, B, T, H).to(dtype), normal(F, B, 1, H)

    def in_dtype(inside):
        leaves = [t.to(inside, copy=True).requires_grad_() for t in (x, weight, h0)]
        preacts = with_one(leaves[0], weight) @ leaves[1][:, None]
        h, h_last = oracle.recurrence(preacts, oracle.min_lstm_gates, leaves[2])
        grads = torch.autograd.grad((h, h_last), leaves, (dh.to(inside), dh_last.to(inside)))
        return [y.detach() for y in (h, h_last, *grads)]

    call = Call(x, weight, h0)
    h, h_last = recurrence_forward(call, MIN_LSTM)
    got = [h, h_last, *recurrence_backward(call, MIN_LSTM, h, dh, dh_last)[:3]]
    for name, ours, y, z in zip(
        ("h", "h_last", "dx", "dw", "dh0"), got, in_dtype(torch.float64), in_dtype(dtype), strict=True
    ):
        assert_gradient(name, ours, y, z)


def test_a_weight_of_other_rows_is_refused():
    for rows in (2, 5):
        with pytest.raises(ValueError, match=f"weight: expected the 3 rows of x, or one more for a bias, got {rows}"):
            recurrence_forward(Call(torch.zeros(1, 1, 2, 3), torch.zeros(1, rows, 8)), MIN_GRU)
