"""Times of steps, in the Triton interpreter: every kernel of a recurrence against the float64 steps."""

import functools
import itertools
import math

import pytest
import torch

from rnam.kernels import MASKED, MIN_GRU, MIN_LSTM, RESET, recurrence_backward, recurrence_forward
from rnam.kernels.common.config import LaunchConfig
from rnam.kernels.min_gru import backward as min_gru_backward
from rnam.kernels.min_gru import chunks
from tests.support.assertions import assert_equal, assert_finite, assert_within
from tests.support.calls import Call
from tests.support.min_gru_cases import BATCH_ROWS, REL, SHORT, TIME_ROWS, WIDE, Case, assert_state, check, inputs
from tests.support.oracle import min_gru

pytestmark = [
    pytest.mark.interpreter,
    # infinities and NaN that a selection leaves out
    pytest.mark.filterwarnings("ignore:(divide by zero|overflow|invalid value) encountered in .*:RuntimeWarning"),
]

HALF, BF16 = torch.float16, torch.bfloat16
timed = functools.partial(Case, elapsed="own")

CASES = [
    timed(T=1, D=5, H=3, config=TIME_ROWS),
    timed(T=17, D=16, H=16, config=TIME_ROWS, flags="own", bias=True),
    timed(T=6, B=17, F=1, D=8, H=8, config=BATCH_ROWS, flags="own", dtype=BF16),
    Case(T=33, F=2, D=2, H=7, config=SHORT, x_layout="time first", dtype=HALF, elapsed="rows"),
    Case(T=9, B=3, D=1, H=8, config=BATCH_ROWS, elapsed="shared", gate="closed", flags="shared"),
    Case(T=16, B=16, F=1, D=4, H=4, config=BATCH_ROWS, h0=False, elapsed="terms", dh_layout="expanded"),
    timed(T=65, F=1, B=1, D=12, H=16, config=TIME_ROWS, space="log", bias=True),
    timed(T=9, B=2, D=8, H=5, config=BATCH_ROWS, space="log", flags="own", gate="open"),
    Case(T=64, F=1, B=2, D=8, H=16, config=WIDE, space="log", dtype=BF16, elapsed="shared"),
    timed(T=17, F=1, B=1, D=33, H=64, config=SHORT, flags="own"),
    timed(T=16, F=1, D=16, H=16, config=WIDE, gate="saturated"),
    timed(T=5, D=16, H=16, config=BATCH_ROWS, precision="tf32"),
    # gates and scan, of two blocks of channels
    timed(T=7, F=2, B=2, D=66, H=5, config=None, flags="own", bias=True),
    timed(T=19, F=1, B=2, D=3, H=70, config=None),
    Case(T=19, F=1, B=1, D=3, H=70, config=None, space="log", flags="shared", elapsed="rows"),
]  # fmt: skip


def gates_alone(call):
    """The same call with its pre-activations for input, which one block of channels of gates and scan takes."""
    preacts = (call.input.double() @ call.weight.double()[:, None]).float()
    return call._replace(input=preacts, weight=None)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_parity(case):
    check(case)


@pytest.mark.parametrize("flags", [None, "own"])
def test_a_long_sequence_is_cut(flags, monkeypatch):
    config = LaunchConfig(batch_rows=False, ROWS=16, STEPS=1, num_warps=1)
    monkeypatch.setattr(chunks, "MIN_CHUNK_TILES", 2)
    monkeypatch.setattr(min_gru_backward, "PARTIALS_SHARE", 2.0)
    check(timed(F=1, B=1, T=130, D=5, H=3, config=config, flags=flags))


@pytest.mark.parametrize("space", ["linear", pytest.param("log", marks=pytest.mark.long)])
def test_a_long_sequence_of_a_wide_cell_is_cut(space):
    check(timed(F=1, B=1, T=130, D=5, H=66, config=None, flags="own", space=space))


@pytest.mark.parametrize(("kernel", "B"), [("time_rows", 1), ("batch_rows", 40), ("gates", 2)])
@pytest.mark.parametrize("space", ["linear", "log"])
def test_no_time_holds_the_state_and_all_time_forgets_it(kernel, B, space):
    """To the bit, for every u and k; with gradients of 0 in k, and in the time where it is infinite."""
    H, prepared = 4, gates_alone if kernel == "gates" else lambda call: call
    given = inputs(Case(F=1, B=B, T=6, D=4, H=H))
    given.x[..., 0] = 1
    given.x[:, :, [1, 2], 1] = torch.tensor([math.inf, -math.inf])
    gates = given.weight[:, 0, H : H + 3].clone()
    given.weight[:, 0, H : H + 3] = torch.tensor([math.inf, -math.inf, 200.0])
    elapsed = torch.tensor([0.5, 0.0, 0.0, math.inf, 0.0, 2.0]).view(1, 1, 6)
    call = prepared(given.call(space=space, elapsed=elapsed, h0=None))
    h, _ = recurrence_forward(call, MIN_GRU, precision="ieee")
    assert_equal("held", h[:, :, 1:3], h[:, :, :1].expand(-1, -1, 2, -1))
    assert_equal("held", h[:, :, 4], h[:, :, 3])
    u = (given.x.double() @ given.weight.double()[:, None])[..., :H]
    assert_state(h[:, :, 3:4], torch.where(u >= 0, u + 0.5, u.sigmoid())[:, :, 3:4])

    given.weight[:, 0, H : H + 3] = gates
    call = prepared(given.call(elapsed=elapsed, h0=None))
    h, _ = recurrence_forward(call, MIN_GRU, precision="ieee")
    dx, _, _, d_elapsed = recurrence_backward(call, MIN_GRU, h, given.dh, None)
    assert_equal("d_elapsed where it is infinite", d_elapsed[:, :, 3], 0)
    assert_equal("dx where no time passes", dx[:, :, [1, 2, 4]], 0)


@pytest.mark.parametrize("prepared", [lambda call: call, gates_alone], ids=("fused", "gates"))
def test_time_one_is_no_time_within_the_bound(prepared):
    given = inputs(Case(F=1, B=2, T=40, D=5, H=8))
    call, plain = prepared(given.call(elapsed=torch.ones(1, 1, 1))), prepared(given.call())
    for space in ("linear", "log"):
        (h, h_last), (wanted, last) = (recurrence_forward(c._replace(space=space), MIN_GRU) for c in (call, plain))
        assert_state(h, wanted.double())
        assert_state(h_last, last.double())


@pytest.mark.parametrize("config", [TIME_ROWS, BATCH_ROWS], ids=("time_rows", "batch_rows"))
def test_two_halves_are_one_step(config):
    """Of the same input."""
    given = inputs(timed(F=2, B=2, T=20, D=5, H=8, config=config))
    whole, _ = recurrence_forward(given.call(), MIN_GRU, config=config)
    twice = given.x.repeat_interleave(2, 2), (given.elapsed / 2).repeat_interleave(2, 2)
    halves, _ = recurrence_forward(given.call(input=twice[0], elapsed=twice[1]), MIN_GRU, config=config)
    assert_state(halves[:, :, 1::2], whole.double())


@pytest.mark.parametrize(
    ("prepared", "T"),
    [(lambda call: call, 2000), pytest.param(lambda call: call, 10_000, marks=pytest.mark.long), (gates_alone, 1000)],
    ids=("fused", "fused long", "gates"),
)
def test_long_memory(prepared, T):
    """Gates near e^-12 over times from 1e-3 to 1e3: within twice the error of the plain steps and REL."""
    H, generator = 8, torch.Generator().manual_seed(0)
    x = torch.rand(1, 1, T, 1, generator=generator) + 0.5
    weight = torch.cat([torch.linspace(-1, 1, H), torch.linspace(-13, -11, H)]).view(1, 1, 2 * H)
    elapsed = 10 ** (6 * torch.rand(1, 1, T, generator=generator) - 3)
    call = Call(x, weight, torch.linspace(0.1, 3, H).view(1, 1, 1, H), elapsed=elapsed)
    wanted, plain = (
        min_gru(x, weight, call.h0, elapsed=elapsed, dtype=dtype)[0].double()
        for dtype in (torch.float64, torch.float32)
    )
    error = (plain - wanted).abs().amax(2, keepdim=True)
    h, _ = recurrence_forward(prepared(call), MIN_GRU)
    assert_within("h", h, wanted, 2 * error + REL * wanted.abs().amax(2, keepdim=True))


@pytest.mark.parametrize("config", [TIME_ROWS, BATCH_ROWS], ids=("time_rows", "batch_rows"))
@pytest.mark.parametrize("H", [pytest.param(8, marks=pytest.mark.long), 32])
def test_closed_gates_hold_the_state(config, H):
    """To the bit, for as long as they are closed, however irregular the times are."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 2, 300, 1, generator=generator) + 1
    elapsed = torch.rand(1, 2, 300, generator=generator) * 4
    weight = torch.cat([torch.ones(1, 1, H), torch.linspace(-40, -22, H).view(1, 1, -1)], 2)
    h0 = torch.linspace(0.1, 3, 2 * H).view(1, 2, 1, H)
    h, h_last = recurrence_forward(Call(x, weight, h0, elapsed=elapsed), MIN_GRU, config=config)
    assert_equal("h", h, h0.expand_as(h))
    assert_equal("h_last", h_last, h0)


def test_a_masked_step_does_not_read_its_time():
    for prepared in (lambda call: call, gates_alone):
        given = inputs(timed(F=1, B=2, T=20, D=3, H=4, flags="own"))
        masked = (given.flags & MASKED) != 0
        call, clean = prepared(given.call()), prepared(given.call(elapsed=given.elapsed.nan_to_num(1.0)))
        assert given.elapsed.isnan().any() and masked.any()
        h, h_last = recurrence_forward(call, MIN_GRU)
        assert_equal("forward", (h, h_last), recurrence_forward(clean, MIN_GRU))
        gradients = recurrence_backward(call, MIN_GRU, h, given.dh, given.dh_last)
        assert_finite("gradients", [g for g in gradients if g is not None])
        assert_equal("gradients", gradients, recurrence_backward(clean, MIN_GRU, h, given.dh, given.dh_last))
        assert_equal("d_elapsed at masked steps", gradients[3][masked], 0)


def test_a_reset_at_a_step_of_no_time():
    for prepared in (lambda call: call, gates_alone):
        flags = torch.tensor([[[0, RESET, 0, MASKED | RESET]]], dtype=torch.uint8)
        elapsed = torch.tensor([[[1.0, 0.0, 0.0, math.nan]]])
        call = Call(torch.ones(1, 1, 4, 1), torch.ones(1, 1, 2), torch.ones(1, 1, 1, 1), flags, elapsed=elapsed)
        h, h_last = recurrence_forward(prepared(call), MIN_GRU)
        assert_equal("h", h[:, :, 1:], 0)
        assert_equal("h_last", h_last, 0)


@pytest.mark.parametrize("prepared", [lambda call: call, gates_alone], ids=("fused", "gates"))
def test_only_what_is_asked_is_computed(prepared):
    given = inputs(timed(T=5, F=1, D=4, H=4, flags="own"))
    call = prepared(given.call())
    h, _ = recurrence_forward(call, MIN_GRU)
    run = functools.partial(recurrence_backward, call, MIN_GRU, h, given.dh, given.dh_last)
    full = run()
    for needs in itertools.product((True, False), repeat=4):
        wanted = [g if needed else None for needed, g in zip(needs, full, strict=True)]
        assert_equal("gradients", run(needs=needs), wanted)
    assert recurrence_backward(call._replace(elapsed=None), MIN_GRU, h, given.dh, given.dh_last)[3] is None
    assert_equal("a second run", run(), full)


def test_pre_activations_without_a_weight():
    """As a cell that is a minGRU of its own pre-activations gives them."""
    given = inputs(timed(T=9, F=2, B=2, D=5, H=4, flags="own"))
    preacts = torch.where(((given.flags & MASKED) != 0)[..., None], torch.nan, given.x @ given.weight[:, None])
    call = given.call(input=preacts, weight=None)
    h, _ = recurrence_forward(call, MIN_GRU)
    wanted, _ = recurrence_forward(given.call(), MIN_GRU)
    assert_state(h, wanted.double())
    dp, none, dh0, d_elapsed = recurrence_backward(call, MIN_GRU, h, given.dh, given.dh_last)
    assert dp.shape == preacts.shape and none is None and dh0.shape == given.h0.shape
    assert_finite("gradients", (dp, dh0, d_elapsed))


def test_empty():
    elapsed = torch.ones(1, 1, 1, requires_grad=True)
    for shape in ((2, 0, 5, 3), (2, 3, 0, 3)):
        x, weight = torch.zeros(shape), torch.ones(2, 3, 2 * 70)
        h, _ = recurrence_forward(Call(x, weight, elapsed=elapsed), MIN_GRU)
        assert recurrence_backward(Call(x, weight, elapsed=elapsed), MIN_GRU, h, h, None)[3].shape == shape[:3]


def test_bad_arguments():
    x, weight = torch.zeros(1, 1, 2, 3), torch.zeros(1, 3, 8)
    for elapsed, kind, message in (
        (torch.zeros(1, 1, 3), ValueError, "elapsed: expected a shape that broadcasts"),
        (torch.zeros(1, 2), ValueError, "elapsed: expected a shape that broadcasts"),
        (torch.zeros(1, 1, 2).double(), TypeError, "elapsed: expected float32"),
        (torch.zeros(1, 1, 2).int(), TypeError, "elapsed: expected float32"),
    ):
        with pytest.raises(kind, match=message):
            recurrence_forward(Call(x, weight, elapsed=elapsed), MIN_GRU)
    with pytest.raises(ValueError, match="elapsed: expected None for a cell whose gates take no time"):
        recurrence_forward(Call(x, torch.zeros(1, 3, 12), elapsed=torch.ones(1, 1, 1)), MIN_LSTM)


def test_a_negative_time_has_the_formula_too():
    """It runs away from g(u); below dt rate = -1 the polynomial of z does not hold."""
    u, k, h0 = torch.full((1, 1, 1, 4), 0.3), torch.tensor([-3.0, 0.0, 2.0, 5.0]).expand(1, 1, 1, 4), 0.5
    for time in (-0.2, -1.0, -3.0):
        call = Call(torch.cat([u, k], 3), None, torch.full((1, 1, 1, 4), h0), elapsed=torch.full((1, 1, 1), time))
        _, got = recurrence_forward(call, MIN_GRU)
        a = torch.exp(-time * torch.log1p(k.double().exp()))
        exact = a * h0 + (1 - a) * (u.double() + 0.5)
        assert_within("h", got, exact, 1e-4 * exact.abs())  # the polynomial is off by 4e-5 at dt rate = -1
