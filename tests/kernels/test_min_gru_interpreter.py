"""The minGRU kernels in the Triton interpreter: the algorithm, on every form, flag and awkward shape."""

import functools
import itertools

import pytest
import torch

from rnam.kernels import MIN_GRU, recurrence_backward, recurrence_forward
from rnam.kernels.common.config import LaunchConfig
from rnam.kernels.min_gru import backward as min_gru_backward
from rnam.kernels.min_gru import chunks
from rnam.kernels.min_gru.backward import min_steps, plan_partials
from tests.support.assertions import assert_equal, assert_finite, assert_norm_within, assert_within
from tests.support.calls import Call
from tests.support.min_gru_cases import (
    BATCH_ROWS,
    REL,
    SHORT,
    TIME_ROWS,
    WIDE,
    Case,
    assert_state,
    check,
    inputs,
    reference,
)
from tests.support.oracle import MASKED, RESET, decode, min_gru

pytestmark = [
    pytest.mark.interpreter,
    # The interpreter computes with numpy, which warns where float32 gives the infinity or NaN that IEEE asks for:
    pytest.mark.filterwarnings(
        "ignore:divide by zero encountered in (log2|divide):RuntimeWarning"
    ),  # log2(0) of a zero state, 1 / 0
    pytest.mark.filterwarnings(
        "ignore:overflow encountered in exp2:RuntimeWarning"
    ),  # exp2(-u) of a very negative u; its reciprocal is 0
    pytest.mark.filterwarnings(
        "ignore:invalid value encountered in (subtract|multiply|add|matmul):RuntimeWarning"
    ),  # inf - inf in a branch that is not taken
]

HALF, BF16 = torch.float16, torch.bfloat16
SINGLE = LaunchConfig(batch_rows=True, ROWS=16, STEPS=1, num_warps=1)

forward = functools.partial(recurrence_forward, gates=MIN_GRU)


def backward(call, h, dh, dh_last, **options):
    return recurrence_backward(call, MIN_GRU, h, dh, dh_last, **options)[:3]


CASES = [
    # every T around the tiles, with the flags spread over them pairwise
    Case(T=1, D=5, H=3, config=TIME_ROWS),
    Case(T=1, D=16, H=16, config=BATCH_ROWS, h0=False, flags="own", dtype=BF16),
    Case(T=2, D=3, H=8, config=BATCH_ROWS, space="log", gate="closed"),
    Case(T=2, B=1, D=16, H=5, config=SHORT, h0=False, x_layout="time first", dtype=HALF),
    Case(T=15, F=1, B=1, D=8, H=8, config=TIME_ROWS, flags="shared", dh_layout="expanded"),
    Case(T=15, D=7, H=11, config=SINGLE, gate="open", dtype=BF16, x_layout="sliced"),
    Case(T=16, B=16, D=4, H=4, config=BATCH_ROWS, h0=False, dh_layout="time first"),
    Case(T=16, F=1, D=16, H=16, config=WIDE, space="log", flags="rows", gate="saturated"),
    Case(T=17, B=3, D=1, H=7, config=TIME_ROWS, space="log", x_layout="every second step", h0=False),
    Case(T=17, B=17, F=1, D=2, H=3, config=BATCH_ROWS, flags="own", dh_layout="sliced"),
    Case(T=63, F=1, B=1, D=2, H=16, config=SHORT, gate="open", dh_layout="transposed", dtype=HALF),
    Case(T=63, F=1, D=12, H=4, config=BATCH_ROWS, space="log", flags="shared", x_layout="transposed"),
    Case(T=64, F=3, B=1, D=16, H=8, config=TIME_ROWS, gate="closed", dh_layout="broadcast"),
    Case(T=64, F=1, B=2, D=8, H=16, config=TIME_ROWS, flags="own", x_layout="broadcast", dtype=BF16, gate="saturated"),
    Case(T=65, F=1, B=1, D=9, H=9, config=TIME_ROWS, space="log", h0=False, flags="rows", dtype=HALF),
    Case(T=65, F=2, B=1, D=1, H=1, config=BATCH_ROWS, gate="saturated", dh_layout="every second step"),
    # the wide tiles: two dots
    Case(T=17, F=1, B=1, D=64, H=64, config=SHORT, flags="shared"),
    Case(T=3, F=1, B=2, D=33, H=40, config=BATCH_ROWS, dtype=BF16, space="log"),
    Case(T=5, F=1, B=1, D=2, H=64, config=SHORT, x_layout="sliced"),
    Case(T=5, F=1, B=1, D=64, H=1, config=SHORT, h0=False),
    # weights in a narrower dtype than x, tf32-exact inputs
    Case(T=5, D=8, H=8, config=SHORT, weight_dtype=BF16, precision="ieee"),
    Case(T=5, D=16, H=16, config=BATCH_ROWS, precision="tf32"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_parity(case):
    check(case)


LONG = [
    Case(T=T, B=B, D=D, H=H, config=config, dtype=dtype, flags=flags, space=space)
    for (T, B), (D, H), config, dtype, (flags, space) in itertools.product(
        [(1, 17), (65, 2)],
        [(16, 16), (2, 5), (33, 64)],
        [TIME_ROWS, BATCH_ROWS, WIDE],
        [torch.float32, BF16],
        [(None, "linear"), ("own", "log")],
    )
]


@pytest.mark.slow
@pytest.mark.parametrize("case", LONG, ids=str)
def test_parity_of_every_combination(case):
    check(case)


@pytest.mark.parametrize("config", [SHORT, BATCH_ROWS], ids=("time_rows", "batch_rows"))
@pytest.mark.parametrize("space", ["linear", "log"])
def test_infinite_gates(config, space):
    given = inputs(Case(T=7, D=4, H=4, F=1, B=1, config=config))
    given.x[..., 0] = 1
    given.x[:, :, 3, 0] = -1  # a channel that is open at all steps but one, one that is closed at all but one
    given.weight[:, 0, 4], given.weight[:, 0, 5] = float("inf"), float("-inf")
    h, h_last = forward(given.call(space=space), precision="ieee", config=config)
    wanted = min_gru(given.x.double(), given.weight.double(), given.h0.double())
    assert_state(h, wanted[0])
    assert_state(h_last, wanted[1])


@pytest.mark.parametrize("config", [SHORT, BATCH_ROWS], ids=("time_rows", "batch_rows"))
@pytest.mark.parametrize("space", ["linear", "log"])
def test_nan_enters_from_its_step_on_and_a_masked_one_never(config, space):
    given = inputs(Case(T=40, D=3, H=4, F=1, B=2, config=config))
    clean, _ = forward(given.call(space=space), config=config)
    given.x[:, 0, 35, 1] = float("nan")
    h, h_last = forward(given.call(space=space), config=config)
    assert torch.equal(h[:, 0, :35], clean[:, 0, :35]) and torch.equal(h[:, 1], clean[:, 1])
    assert h[:, 0, 35:].isnan().all() and h_last[:, 0].isnan().all() and not h_last[:, 1].isnan().any()

    flags = torch.zeros(1, 1, 40, dtype=torch.uint8)
    flags[..., 35] = MASKED
    h, h_last = forward(given.call(flags=flags, space=space), config=config)
    assert not h.isnan().any() and torch.equal(h[:, :, 35], h[:, :, 34])
    gradients = backward(given.call(flags=flags), h, given.dh, given.dh_last, config=config)
    assert_finite("gradients", gradients)
    assert_equal("dx at the masked step", gradients[0][:, :, 35], 0)


@pytest.mark.parametrize("config", [TIME_ROWS, BATCH_ROWS, SHORT])
@pytest.mark.parametrize("hidden", [pytest.param(8, marks=pytest.mark.long), 32])
def test_closed_gates_hold_the_state(config, hidden):
    """To the bit, for as long as they are closed."""
    x = torch.rand(1, 2, 300, 1, generator=torch.Generator().manual_seed(0)) + 1
    weight = torch.cat([torch.ones(1, 1, hidden), torch.linspace(-40, -20, hidden).view(1, 1, -1)], 2)
    h0 = torch.linspace(0.1, 3, 2 * hidden).view(1, 2, 1, hidden)
    h, h_last = forward(Call(x, weight, h0), config=config)
    assert torch.equal(h, h0.expand_as(h)) and torch.equal(h_last, h0)


@pytest.mark.parametrize("k", [-12.0, pytest.param(-5.0, marks=pytest.mark.long)])
def test_the_log_space_keeps_count_of_small_gates(k, monkeypatch):
    """The error of a step is one of its small share z, and not of 1, where each a is rounded (as in totals: uncut)."""
    monkeypatch.setattr(chunks, "SPLIT_BELOW", 0)
    x = torch.ones(1, 1, 2000, 1)
    weight = torch.tensor([0.7, -1.3, k, k - 0.4]).view(1, 1, 4)
    h0 = torch.tensor([1.4, 0.3]).view(1, 1, 1, 2)
    h, _ = forward(Call(x, weight, h0, space="log"), config=SHORT)
    wanted, _ = min_gru(x.double(), weight.double(), h0.double(), None)
    assert_state(h, wanted)


@pytest.mark.parametrize("config", [SHORT, BATCH_ROWS], ids=("time_rows", "batch_rows"))
def test_only_what_is_asked_is_computed(config):
    given = inputs(Case(T=5, F=1, D=4, H=4, flags="own", config=config))
    h, _ = forward(given.call(), config=config)
    run = lambda dh, dh_last, needs: backward(given.call(), h, dh, dh_last, needs=(*needs, True), config=config)
    for dh, dh_last in ((given.dh, given.dh_last), (given.dh, None), (None, given.dh_last)):
        zero = lambda g, like: torch.zeros_like(like) if g is None else g
        full = run(zero(dh, given.dh), zero(dh_last, given.dh_last), (True, True, True))
        for needs in itertools.product((True, False), repeat=3):
            for needed, got, wanted in zip(needs, run(dh, dh_last, needs), full, strict=True):
                assert torch.equal(got, wanted) if needed else got is None


@pytest.mark.parametrize(("D", "H"), [(4, 4), pytest.param(3, 70, marks=pytest.mark.long)], ids=("fused", "wide"))
@pytest.mark.parametrize(("space", "flags"), [("linear", "own"), ("log", None)])
@pytest.mark.parametrize(("B", "T"), [(2, 40), (40, 3)], ids=("time_rows", "batch_rows"))
def test_the_last_state_alone(B, T, space, flags, D, H):
    given = inputs(Case(F=1, B=B, T=T, D=D, H=H, flags=flags))
    none, h_last = forward(given.call(space=space, need_h=False))
    assert none is None and torch.equal(h_last, forward(given.call(space=space))[1])


def test_the_last_state_alone_of_a_cut_sequence(monkeypatch):
    config = LaunchConfig(batch_rows=False, ROWS=16, STEPS=1, num_warps=1)
    given = inputs(Case(F=1, B=2, T=130, D=5, H=3, config=config))
    monkeypatch.setattr(chunks, "MIN_CHUNK_TILES", 2)
    none, h_last = forward(given.call(need_h=False), config=config)
    assert none is None and torch.equal(h_last, forward(given.call(), config=config)[1])


def test_neither_gradient_given():
    given = inputs(Case(T=5, F=1, D=4, H=4))
    h, _ = forward(given.call(), config=TIME_ROWS)
    for name, g in zip(("dx", "dw", "dh0"), backward(given.call(), h, None, None, config=TIME_ROWS), strict=True):
        assert_equal(name, g, 0)


@pytest.mark.parametrize("flags", [pytest.param(None, marks=pytest.mark.long_in_interpreter), "own"])
def test_a_long_sequence_is_cut(flags, monkeypatch):
    """Two chunks and more, a short last one; dW from a program per chunk and from one that owns several."""
    config = LaunchConfig(batch_rows=False, ROWS=16, STEPS=1, num_warps=1)
    case = Case(F=1, B=2, T=130, D=5, H=3, config=config, flags=flags)
    monkeypatch.setattr(chunks, "MIN_CHUNK_TILES", 2)
    assert chunks.plan_chunks(1, 2, 130, config) == (48, 3)
    check(case)
    monkeypatch.setattr(min_gru_backward, "PARTIALS_SHARE", 2.0)
    given = inputs(case)
    launches, partials = min_gru_backward.backward_launches(
        given.call(flags=None), given.dh, given.dh, None, None, None, True, config=config
    )
    assert launches[0].kernel is chunks._min_gru_totals_kernel
    assert partials.shape[1] == 2 * launches[0].arguments["num_chunks"] > 2
    check(case)


def recurrence(given):
    """(h, h_last, dx, dw, dh0) of one channel with D = H = 1 in float64, step by step and by hand: autograd would keep
    a graph of all steps. dw comes with the sum of the sizes of its terms."""
    x, dh = given.x.double().flatten(), given.dh.double().flatten()
    u, k = (x * w for w in given.weight.double().flatten())
    z, a = k.sigmoid(), (-k).sigmoid()
    v = torch.where(u >= 0, u + 0.5, u.sigmoid())
    states = [given.h0.double().item()]
    for a_t, b_t in zip(a.tolist(), (z * v).tolist(), strict=True):
        states.append(a_t * states[-1] + b_t)
    s, lambdas = given.dh_last.double().item(), []
    for a_t, g_t in zip(reversed(a.tolist()), reversed(dh.tolist()), strict=True):
        lambdas.append(g_t + s)
        s = a_t * lambdas[-1]
    lambda_ = torch.tensor(lambdas[::-1], dtype=torch.float64)
    h = torch.tensor(states, dtype=torch.float64)
    du = lambda_ * z * torch.where(u >= 0, 1.0, v * (1 - v))
    dk = lambda_ * z * a * (v - h[:-1])
    dp = torch.stack([du, dk], 1)
    terms = x[:, None] * dp
    dx = dp @ given.weight.double().flatten()
    return h[1:], h[-1], dx, terms.sum(0), terms.abs().sum(0), s


@pytest.mark.slow
def test_one_channel_of_many_steps():
    """F = B = 1: chunks, their totals and the scan of those, each way. The interpreter takes minutes for these steps,
    and had not done a million in half an hour."""
    given = inputs(Case(F=1, B=1, T=100_000, D=1, H=1))
    launches, partials = min_gru_backward.backward_launches(given.call(), given.dh, given.dh, None, None, None, True)
    assert launches[0].kernel is chunks._min_gru_totals_kernel and launches[0].arguments["num_chunks"] > 100
    wanted_h, wanted_last, *wanted, sizes, wanted_dh0 = recurrence(given)
    h, h_last = forward(given.call())
    assert_state(h, wanted_h.view(1, 1, -1, 1))
    assert_state(h_last, wanted_last.view(1, 1, 1, 1))
    dx, dw, dh0 = backward(given.call(), h, given.dh, given.dh_last)
    assert_norm_within("dx", dx.flatten(), wanted[0], 2 * REL * wanted[0].norm())
    # each term is as exact as dx, and a program, then the sum over programs, adds some hundreds of them
    assert_within("dw", dw.flatten(), wanted[1], 2 * REL * sizes)
    assert partials.shape[1] < 2000
    assert abs(dh0.item() - wanted_dh0) <= 2 * REL * abs(wanted_dh0)


def test_partials_of_dw_stay_small(monkeypatch):
    for F, B, T, D, H, size in itertools.product(
        (1, 7), (1, 3, 64, 1000), (1, 50, 1000, 100_000), (1, 16, 64), (1, 16, 64), (2, 4)
    ):
        for config in (TIME_ROWS, BATCH_ROWS):
            least = min_steps(2 * D * H, D, size)
            cut = chunks.plan_chunks(F, B, T, config, least)
            per_program, num_partials = plan_partials(B, T, least, cut, config)
            share = num_partials * 2 * D * H * 4 / (B * T * D * size)
            assert num_partials == 1 or share <= 0.2, (F, B, T, D, H, size, config)
            items = config.work_items(B, cut.num_chunks)
            assert (num_partials - 1) * per_program < items <= num_partials * per_program


def test_several_partials_are_summed_and_repeat_bitwise(monkeypatch):
    monkeypatch.setattr(min_gru_backward, "PARTIALS_SHARE", 10.0)
    case = Case(F=2, B=5, T=20, D=4, H=4, config=SHORT)
    check(case)
    given = inputs(case)
    call = given.call(h0=None)
    h, _ = forward(call, config=SHORT)
    assert_equal("gradients", *(backward(call, h, given.dh, None, config=SHORT) for _ in range(2)))


def test_an_empty_batch():
    x, weight = torch.zeros(2, 0, 5, 3), torch.ones(2, 3, 8)
    h, h_last = forward(Call(x, weight))
    assert h.shape == (2, 0, 5, 4) and h_last.shape == (2, 0, 1, 4)
    dx, dw, _ = backward(Call(x, weight), h, h, None)
    assert dx.shape == x.shape and (dw == 0).all() and dw.shape == weight.shape


def test_reset_and_mask_by_hand():
    """z = v = 1/2: h = (h + 1/2) / 2; a reset starts from 0, a mask keeps, both give 0."""
    x, weight = torch.zeros(1, 1, 5, 1), torch.zeros(1, 1, 2)
    flags = torch.tensor([[[0, MASKED, RESET, 0, MASKED | RESET]]], dtype=torch.uint8)
    for config in (TIME_ROWS, BATCH_ROWS):
        h, h_last = forward(Call(x, weight, torch.ones(1, 1, 1, 1), flags), config=config)
        assert h.flatten().tolist() == [0.75, 0.75, 0.25, 0.375, 0.0] and h_last.item() == 0


def test_bad_arguments():
    call, wide = Call(torch.zeros(1, 1, 2, 3), torch.zeros(1, 3, 8)), torch.zeros(1, 3, 34)
    for wrong, options, kind in (
        (dict(space="cubic"), {}, ValueError),
        ({}, dict(precision="fp8"), ValueError),
        (dict(weight=wide), dict(precision="ieee"), ValueError),
        (dict(flags=torch.zeros(1, 1, 3, dtype=torch.uint8)), {}, ValueError),
        (dict(flags=torch.zeros(1, 1, 2)), {}, TypeError),
        (dict(input=call.input.double()), {}, TypeError),
    ):
        with pytest.raises(kind):
            forward(call._replace(**wrong), **options)
    call = call._replace(weight=torch.zeros(1, 3, 18))
    with pytest.raises(ValueError, match="precision: expected 'tf32' or 'tf32x3'"):
        backward(call, torch.zeros(1, 1, 2, 9), None, None, precision="ieee")


def test_the_oracle_is_the_gradient_of_itself():
    """Finite differences of the float64 recurrence, so that what the kernels are compared with is checked too."""
    given = inputs(Case(F=1, B=1, T=6, D=3, H=2, flags="own"))
    leaves = [x.double().requires_grad_() for x in (given.x, given.weight, given.h0)]
    assert torch.autograd.gradcheck(lambda *a: min_gru(*a, *decode(given.flags)), leaves)
    assert len(reference(given, torch.float64)) == 5
