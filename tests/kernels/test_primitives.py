"""Every device function against its formula in torch, in the interpreter or, without TRITON_INTERPRET, as compiled
code."""

import contextlib
import math

import pytest
import torch
import triton
import triton.language as tl

from rnam.kernels.common.arithmetic import log2, log2_1p, logaddexp2, one_minus_exp2_ratio, rcp
from rnam.kernels.common.device import kernel
from rnam.kernels.common.flags import (
    MASKED,
    RESET,
    flagged_input,
    flagged_multiplier,
    is_masked,
    is_reset,
    load_words,
    step_flags,
    word_rows,
)
from rnam.kernels.common.gates import (
    min_gru_gates,
    min_gru_gates_half,
    min_gru_log_gates,
    min_gru_slopes,
    min_gru_timed_gates,
    min_gru_timed_log_gates,
    min_gru_timed_slopes,
    min_lstm_gates,
    min_lstm_slopes,
    sigmoid_pair,
)
from rnam.kernels.common.launch import Launch
from rnam.kernels.common.operands import flag_words
from rnam.kernels.common.scans import advance, affine, log_affine, prolong, row_scan
from rnam.kernels.common.tiles import last_row
from tests.support.assertions import assert_equal, assert_finite, assert_within
from tests.support.compiled import compiled_code
from tests.support.min_gru_cases import FLOOR

ROWS, WIDTH = 16, 8
INF, NAN = float("inf"), float("nan")

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.filterwarnings("ignore:.* encountered in .*:RuntimeWarning"),
]  # the tests ask for infinities and NaN


@pytest.fixture(autouse=True)
def executed():
    with contextlib.nullcontext() if triton.knobs.runtime.interpret else compiled_code():
        yield


@triton.jit
def _functions_kernel(in_ptr, out_ptr, NAME: tl.constexpr, LOG: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Applies one function to arguments in [n, ROWS, WIDTH], results out [m, ROWS, WIDTH]."""
    at = tl.arange(0, ROWS)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    size: tl.constexpr = ROWS * WIDTH
    a = tl.load(in_ptr + at)
    b = tl.load(in_ptr + size + at)
    c = tl.load(in_ptr + 2 * size + at)
    d = tl.load(in_ptr + 3 * size + at)
    if NAME == "rcp":
        out = (rcp(a),)
    elif NAME == "log2":
        out = (log2(a),)
    elif NAME == "log2_1p":
        out = (log2_1p(a),)
    elif NAME == "logaddexp2":
        out = (logaddexp2(a, b),)
    elif NAME == "sigmoid_pair":
        out = sigmoid_pair(a)
    elif NAME == "min_gru_gates":
        out = min_gru_gates(a, b)
    elif NAME == "min_gru_gates_half":
        out = min_gru_gates_half(a, b)
    elif NAME == "min_gru_slopes":
        z, v, rest, s = min_gru_gates(a, b)
        out = min_gru_slopes(a, b, z, v, rest, s, c)
    elif NAME == "min_lstm_gates":
        out = min_lstm_gates(a, b, c)
    elif NAME == "min_lstm_slopes":
        z, v, rest, s, w_f, w_i = min_lstm_gates(a, b, c)
        out = min_lstm_slopes(a, b, c, z, v, rest, s, w_f, w_i, d)
    elif NAME == "min_gru_log_gates":
        out = min_gru_log_gates(a, b)
    elif NAME == "one_minus_exp2_ratio":
        out = (one_minus_exp2_ratio(a),)
    elif NAME == "min_gru_timed_gates":
        out = min_gru_timed_gates(a, b, c)
    elif NAME == "min_gru_timed_slopes":
        z, v, rest, s, rate, sigmoid_k = min_gru_timed_gates(a, b, c)
        out = min_gru_timed_slopes(a, b, c, z, v, rest, s, rate, sigmoid_k, d)
    elif NAME == "min_gru_timed_log_gates":
        out = min_gru_timed_log_gates(a, b, c)
    elif NAME == "advance":
        out = (advance(a, b, c, LOG),)
    elif NAME == "prolong":
        out = (prolong(a, b, LOG),)
    elif NAME == "affine":
        if LOG:
            out = log_affine(a, b, c, d)
        else:
            total, rest, out_b = affine(a, 1.0 - a, b, c, 1.0 - c, d)
            out = (total, out_b, 1.0 - rest)
    elif NAME == "last_row":
        out = (tl.broadcast_to(last_row(a, ROWS)[None, :], (ROWS, WIDTH)),)
    else:
        entering, last = row_scan(a, b, tl.load(in_ptr + 2 * size + tl.arange(0, WIDTH)), ROWS, WIDTH, LOG)
        out = (entering, tl.broadcast_to(last[None, :], (ROWS, WIDTH)))
    for i in tl.static_range(len(out)):
        tl.store(out_ptr + i * size + at, out[i])


@kernel
def _flags_kernel(flags_ptr, a_ptr, b_ptr, out_ptr, end, LOG: tl.constexpr, ROWS: tl.constexpr, STEPS: tl.constexpr):
    """The maps (a, b) of rows of STEPS steps as their flags make them; steps before `end` exist."""
    t_row = tl.arange(0, ROWS) * STEPS
    ptr, offsets = word_rows(flags_ptr, 0, 0, t_row, 0, 0, False)
    words = load_words(ptr, 0, offsets, t_row, t_row >= 0, end, STEPS, True)
    for s in tl.static_range(STEPS):
        t = t_row + s
        flags = step_flags(words, t_row, 0, s, STEPS)
        a = flagged_multiplier(tl.load(a_ptr + t), is_masked(flags), is_reset(flags), LOG)
        tl.store(out_ptr + t, a)
        tl.store(out_ptr + ROWS * STEPS + t, flagged_input(tl.load(b_ptr + t), is_masked(flags), LOG))


def apply(name, n_out, *arguments, log=False):
    """The n_out results of a function of up to four tensors [ROWS, WIDTH]."""
    packed = torch.zeros(4, ROWS, WIDTH)
    for i, x in enumerate(arguments):
        packed[i] = x
    out = torch.empty(n_out, ROWS, WIDTH)
    Launch(
        _functions_kernel, (1,), dict(in_ptr=packed, out_ptr=out), dict(NAME=name, LOG=log, ROWS=ROWS, WIDTH=WIDTH), 1
    ).run()
    return list(out)


def values(*special, scale=3.0, seed=0):
    x = torch.randn(ROWS * WIDTH, generator=torch.Generator().manual_seed(seed)) * scale
    x[: len(special)] = torch.tensor(special)
    return x.view(ROWS, WIDTH)


def close(actual, wanted, rel=1e-6, absolute=0.0):
    torch.testing.assert_close(actual.double(), wanted.double(), rtol=rel, atol=absolute, equal_nan=True)


def exact_logaddexp2(x, y):
    """log2(2^x + 2^y) in float64."""
    return torch.logaddexp2(x.double(), y.double())


def test_rcp():
    x = values(INF, -INF, 1.0, 2.0**126, 2.0**-126, NAN)
    close(*apply("rcp", 1, x), 1 / x.double())


def test_log2():
    x = values(0.0, INF, 1.0, 2.0**-126, NAN, 1 + 2.0**-20).abs()
    close(*apply("log2", 1, x), x.double().log2(), absolute=2.0**-22)


def test_log2_1p():
    """To rounding of itself, also where 1 + e is 1."""
    e = torch.cat([torch.linspace(0, 1, ROWS * WIDTH // 2), 2.0 ** -torch.linspace(0, 60, ROWS * WIDTH // 2)])
    e = e.view(ROWS, WIDTH)
    close(*apply("log2_1p", 1, e), torch.log1p(e.double()) / math.log(2), 2.2e-7)


def test_logaddexp2():
    x, y = (
        values(-INF, -INF, 0.0, INF, INF, NAN, 5.0, 100.0),
        values(-INF, 2.0, -INF, INF, 1.0, 0.0, NAN, -100.0, seed=1),
    )
    close(*apply("logaddexp2", 1, x, y), exact_logaddexp2(x, y), absolute=1e-6)


def test_sigmoid_pair():
    k = values(INF, -INF, 0.0, 20.0, -20.0, 88.0, -87.0, NAN)
    z, rest = apply("sigmoid_pair", 2, k)
    close(z, k.double().sigmoid(), absolute=2.0**-126)
    close(rest, (-k.double()).sigmoid(), absolute=2.0**-126)


@pytest.mark.parametrize(
    ("name", "before", "results", "place"),
    [
        ("sigmoid_pair", 0, 2, 1),
        ("min_gru_gates", 1, 4, 2),
        ("min_gru_gates_half", 1, 3, 2),
        ("min_lstm_gates", 2, 6, 2),
    ],
)
def test_a_closed_gate_keeps_all_of_the_state(name, before, results, place):
    """a is 1 where z is less than its rounding: a product of two roundings is often the number below. `before` of the
    arguments precede k; a is the result at `place`."""
    k = -18 - 25 * torch.rand(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))
    a = apply(name, results, *[torch.ones(ROWS, WIDTH)] * before, k)[place]
    assert (a == 1).all(), f"{(a != 1).sum()} of {a.numel()} differ"


def test_min_gru_gates():
    u, k = values(INF, -INF, 0.0, 30.0, -30.0, NAN, 1.0), values(0.0, 1.0, INF, -INF, 2.0, 3.0, NAN, seed=1)
    z, v, a, s = apply("min_gru_gates", 4, u, k)
    rel = 30 * 2.0**-24  # of exp2 at an exponent of up to 43, whose own rounding is the error
    close(z, k.double().sigmoid(), rel, 2.0**-126)
    close(a, (-k.double()).sigmoid(), rel, 2.0**-126)
    close(s, u.double().sigmoid(), rel, 2.0**-126)
    close(v, torch.where(u >= 0, u.double() + 0.5, u.double().sigmoid()), rel, 2.0**-126)


def test_min_gru_gates_half():
    """Those of `min_gru_gates`; a sigmoid is 2^-63 at least, also where both are."""
    u, k = values(INF, -INF, 0.0, 30.0, -60.0, NAN, -80.0), values(0.0, 1.0, INF, -INF, -60.0, 3.0, NAN, seed=1)
    z, v, a = apply("min_gru_gates_half", 3, u, k)
    lost = (u.isnan() | k.isnan())[None].expand(3, -1, -1)
    wanted = k.double().sigmoid(), torch.where(u >= 0, u.double() + 0.5, u.double().sigmoid()), (-k.double()).sigmoid()
    wanted = torch.where(lost, NAN, torch.stack(wanted))
    close(torch.stack((z, v, a)), wanted, 30 * 2.0**-24, 2.0**-63)
    assert z[~lost[0]].min() >= FLOOR and v[~lost[0]].min() >= FLOOR


def test_min_gru_slopes():
    """Autograd of the step in float64; the slope of g at 0 is 1."""
    u, k, h = (x.double().requires_grad_() for x in (values(0.0, 20.0, -20.0), values(seed=1), values(seed=2)))
    z = k.sigmoid()
    step = (1 - z) * h + z * torch.where(u >= 0, u + 0.5, u.sigmoid())
    du, dk = torch.autograd.grad(step.sum(), (u, k))
    slope_u, slope_k = apply("min_gru_slopes", 2, u.detach().float(), k.detach().float(), h.detach().float())
    close(slope_u, du)
    close(slope_k, dk, absolute=1e-6)


# Both gates open, one of them, none; alike and apart, also where the next float32 is 64 away; and what is no number.
GATES = (
    (30.0, 30), (INF, INF), (INF, -INF), (-INF, INF), (3, -INF), (-INF, 3), (-INF, -200), (-200, -INF), (200, -200),
    (-200, 200), (-200, -200), (-200, -190), (-20, -20), (-20.001, -20), (-20.001, -20.001), (-20, -60), (-60, -19.999),
    (-1e4, -1e4), (-1e9, -1e9), (-1e9, -1e9 - 64), (-1e9, -1e30), (-3e38, -3e38), (-INF, -INF), (NAN, -200),
    (-200, NAN), (NAN, NAN), (3, NAN),
)  # fmt: skip


def lstm_inputs():
    k_f, k_i = (values(*column, scale=s, seed=s) for column, s in zip(zip(*GATES, strict=True), (2, 9), strict=True))
    return values(seed=1), k_f, k_i, values(seed=3)


def test_min_lstm_gates():
    u, k_f, k_i, _ = lstm_inputs()
    u[0, :3] = torch.tensor([INF, -INF, NAN])
    z, v, a, s = apply("min_lstm_gates", 6, u, k_f, k_i)[:4]
    k = torch.nn.functional.logsigmoid(k_i.double()) - torch.nn.functional.logsigmoid(k_f.double())
    rel = 60 * 2.0**-24  # of two exp2 at an exponent of up to 43, or of 64 apart where neither matters
    close(z, k.sigmoid(), rel, 2.0**-125)
    close(a, (-k).sigmoid(), rel, 2.0**-125)
    assert torch.equal(z.isnan(), k.isnan()) and k.isnan().sum() == 5
    wanted = apply("min_gru_gates", 4, u, k_f)
    assert torch.equal(v.nan_to_num(7), wanted[1].nan_to_num(7)) and torch.equal(
        s.nan_to_num(7), wanted[3].nan_to_num(7)
    )


def test_min_lstm_slopes():
    """Autograd of the step in float64."""
    u, k_f, k_i, h = (x.double() for x in lstm_inputs())
    good = ~(k_f.isnan() | k_i.isnan() | (k_f == -INF) | (k_i == -INF))
    leaves = [torch.where(good, x, 0.0).requires_grad_() for x in (u, k_f, k_i)]
    k = torch.nn.functional.logsigmoid(leaves[2]) - torch.nn.functional.logsigmoid(leaves[1])
    step = (-k).sigmoid() * h + k.sigmoid() * torch.where(leaves[0] >= 0, leaves[0] + 0.5, leaves[0].sigmoid())
    wanted = torch.autograd.grad(step.sum(), leaves)
    got = apply("min_lstm_slopes", 3, *(x.float() for x in (u, k_f, k_i, h)))
    for slope, d in zip(got, wanted, strict=True):
        close(slope[good], d[good], 60 * 2.0**-24, 1e-6)
    # where one gate is 0 the state is the one or the other whatever the gates: their slopes are 0, and no NaN
    one = (k_f == -INF) ^ (k_i == -INF)
    for slope in got[1:]:
        assert one.sum() == 6
        assert_within("slope", slope[one], 0.0, 1e-6)


def test_min_gru_log_gates():
    u, k = values(INF, -INF, 0.0, 30.0, -30.0, NAN, 1.0), values(0.0, 1.0, INF, -INF, 2.0, 3.0, NAN, seed=1)
    log_a, log_b = apply("min_gru_log_gates", 2, u, k)
    v = torch.where(u >= 0, u.double() + 0.5, u.double().sigmoid())
    close(log_a, torch.nn.functional.logsigmoid(-k.double()) / torch.tensor(2.0).double().log(), absolute=1e-6)
    close(
        log_b, (torch.nn.functional.logsigmoid(k.double()) + v.log()) / torch.tensor(2.0).double().log(), absolute=1e-6
    )


def test_one_minus_exp2_ratio():
    """To 1e-7 of itself on [0, 1], also where 1 - 2^-x is 0 in float32."""
    x = torch.cat([torch.linspace(0, 1, ROWS * WIDTH // 2), 2.0 ** -torch.linspace(1, 100, ROWS * WIDTH // 2)])
    x = x.view(ROWS, WIDTH)
    x[0, 0] = 2.0**-120
    close(*apply("one_minus_exp2_ratio", 1, x), -torch.expm1(-x.double() * math.log(2)) / x.double(), 1.1e-7)


def timed_inputs():
    """(u, k, dt, h): gates from closed to open over intervals from 1e-3 to 1e3."""
    generator = torch.Generator().manual_seed(4)
    dt = 10 ** (6 * torch.rand(ROWS, WIDTH, generator=generator) - 3)
    return values(seed=1), values(-12.0, -18.0, -30.0, -60.0, 20.0, 80.0, scale=6.0, seed=2), dt, values(seed=3)


def timed_decay(k, dt):
    """dt softplus(k) in float64."""
    return dt.double() * torch.nn.functional.softplus(k.double(), threshold=1e9)


def timed_parts(u, k, dt):
    """(z, v, a) in float64."""
    decay = timed_decay(k, dt)
    return -torch.expm1(-decay), torch.where(u >= 0, u.double() + 0.5, u.double().sigmoid()), torch.exp(-decay)


# Of the rate: the rounding of k log2(e), up to 87 in size, the polynomial and two roundings.
RATE_REL = 87 * 2.0**-24 + 2.2e-7 + 2 * 2.0**-24


def assert_timed(name, got, wanted, dt, decay=0.0):
    """`got` is off by no more of itself than the rate is, by what an error of the decay does to exp(-decay), and by ten
    roundings; or by the least that a rate is, twice, over dt."""
    __tracebackhide__ = True
    of_decay = (2.2e-7 + 3 * 2.0**-24) * decay  # only where it is small is k far from 0, and is its rounding much
    bound = (RATE_REL + of_decay + 10 * 2.0**-24) * wanted.abs() + 2.0**-125 * (1 + dt)
    assert_within(name, got, wanted, bound)


def test_min_gru_timed_gates():
    u, k, dt, _ = timed_inputs()
    got, decay = apply("min_gru_timed_gates", 6, u, k, dt), timed_decay(k, dt)
    z, v, a = timed_parts(u, k, dt)
    assert_timed("z", got[0], z, dt)
    assert_timed("a", got[2], a, dt, decay)
    assert_timed("rate", got[4] * math.log(2), decay / dt, dt)
    assert_timed("sigmoid(k)", got[5], k.double().sigmoid(), dt)
    close(got[1], v, 30 * 2.0**-24)


def test_min_gru_timed_gates_at_one_are_those_without_time():
    u, k, _, _ = timed_inputs()
    timed, plain = apply("min_gru_timed_gates", 6, u, k, 1.0), apply("min_gru_gates", 4, u, k)
    for name, got, wanted in zip("zva", timed, plain, strict=False):
        assert_timed(name, got, wanted.double(), 1.0, timed_decay(k, torch.ones(())))


def test_min_gru_timed_gates_at_the_ends():
    """dt = 0 is the identity, dt = inf forgets, and neither has a slope that is no number. At dt = 0 a rate that is no
    float32 is left to `timed_map`."""
    u, h = values(seed=1), values(seed=2)
    k = values(INF, -INF, 0.0, 3e38, -3e38, 200.0, -200.0, scale=30.0, seed=3)
    for dt, known in ((0.0, k < 1e30), (INF, k == k)):
        got = apply("min_gru_timed_gates", 6, u, k, dt)
        assert_equal("z", got[0][known], 0 if dt == 0 else 1)
        assert_equal("a", got[2][known], 1 if dt == 0 else 0)
        slopes = torch.stack(apply("min_gru_timed_slopes", 3, u, k, dt, h))
        assert_finite("slopes", slopes[:, known])
        assert_equal("dh/dk", slopes[1][known], 0)
        assert_equal("dh/d(dt) at k = inf", slopes[2][k == INF], 0)
        if dt == INF:
            assert_equal("dh/d(dt)", slopes[2], 0)
        log_a, log_b = apply("min_gru_timed_log_gates", 2, u, k, dt)
        assert_equal("log2 a", log_a[known], 0 if dt == 0 else -INF)
        if dt == INF:
            close(log_b, torch.where(u >= 0, u.double() + 0.5, u.double().sigmoid()).log2(), absolute=1e-6)


def test_a_closed_gate_keeps_all_of_the_state_over_time():
    """a is 1 where z is less than its rounding, at every dt."""
    generator = torch.Generator().manual_seed(0)
    dt = 10 ** (6 * torch.rand(ROWS, WIDTH, generator=generator) - 3)
    k = -18 - 25 * torch.rand(ROWS, WIDTH, generator=generator) - dt.log()
    a = apply("min_gru_timed_gates", 6, torch.ones(ROWS, WIDTH), k, dt)[2]
    assert (a == 1).all(), f"{(a != 1).sum()} of {a.numel()} differ"


def test_min_gru_timed_slopes():
    """Autograd of the step in float64, where z is constant for u and a for k and dt: neither then cancels."""
    u, k, dt, h = timed_inputs()
    leaves = [x.double().requires_grad_() for x in (u, k, dt)]
    z, v, a = timed_parts(*leaves)
    step = a * (h.double() - v.detach()) + z.detach() * v
    wanted = torch.autograd.grad(step.sum(), leaves)
    got, decay = apply("min_gru_timed_slopes", 3, u, k, dt, h), timed_decay(k, dt)
    for name, slope, d in zip(("u", "k", "dt"), got, wanted, strict=True):
        assert_timed(name, slope, d, dt, decay)


def test_min_gru_timed_log_gates():
    """log2 a relative to itself, since states add it up; log2(z v) to the roundings of its size."""
    u, k, dt, _ = timed_inputs()
    k[2] = -200.0  # z is no float32
    log_a, log_b = apply("min_gru_timed_log_gates", 2, u, k, dt)
    z, v, _ = timed_parts(u, k, dt)
    assert_timed("log2 a", log_a, -timed_decay(k, dt) / math.log(2), dt)
    close(log_b, z.log2() + v.log2(), 2.0**-22, 1e-6)


@pytest.mark.parametrize("log", [False, True])
def test_maps(log):
    a, b, c, d = (values(seed=i, scale=1.0) for i in range(4))
    if log:
        b[0, 0] = d[0, 0] = c[0, 1] = -INF
    step = (lambda a, b, h: exact_logaddexp2(a + h, b)) if log else (lambda a, b, h: a * h + b)
    mul = (lambda a, b: a + b) if log else (lambda a, b: a * b)
    close(*apply("advance", 1, a, b, c, log=log), step(a, b, c), absolute=1e-6)
    close(*apply("prolong", 1, a, b, log=log), mul(a, b))
    composed = apply("affine", 2 if log else 3, a, b, c, d, log=log)
    close(composed[0], mul(c, a))
    close(composed[1], step(c, d, b), absolute=1e-6)
    if not log:
        close(composed[2], mul(c, a), absolute=1e-6)


@pytest.mark.parametrize("log", [False, True])
def test_row_scan(log):
    """Entering and leaving states of the rows, and the identity map in the middle."""
    a, b, carry = values(scale=0.5), values(seed=1), values(seed=2)
    a[7], b[7] = (0.0, -INF) if log else (1.0, 0.0)
    if log:
        b[0] = carry[0, :3] = -INF
    state, entering = carry[0].double(), []
    for r in range(ROWS):
        entering.append(state)
        state = exact_logaddexp2(a[r] + state, b[r]) if log else a[r].double() * state + b[r].double()
    got, last = apply("row_scan", 2, a, b, carry, log=log)
    close(got, torch.stack(entering), rel=2e-6, absolute=2e-6)
    close(last[0], state, rel=2e-6, absolute=2e-6)
    close(got[7], got[8], rel=2e-6, absolute=2e-6)


def test_row_scan_keeps_what_many_factors_lack_of_one():
    """A product of rounded factors 1 - m 2^-24 is 6 to 8 half-spacings off, each of them rounded to one side."""
    m = torch.tensor([700, 750, 2900, 4150] * (WIDTH // 4), dtype=torch.float64)
    a = (1 - m * 2.0**-24).float().expand(ROWS, WIDTH)
    _, last = apply("row_scan", 2, a, torch.zeros(ROWS, WIDTH), torch.ones(ROWS, WIDTH))
    assert_within("last", last[0], a[0].double() ** ROWS, 2.0**-25 + 2.0**-30)


def test_row_scan_of_growth_after_a_decay():
    """Their product is 0.3, where 1 minus the complements of both is nothing."""
    a = torch.ones(ROWS, WIDTH)
    a[2], a[5] = 3e-21, 1e20
    _, last = apply("row_scan", 2, a, torch.zeros(ROWS, WIDTH), torch.ones(ROWS, WIDTH))
    close(last[0], torch.full((WIDTH,), 0.3))


def test_row_scan_keeps_nan_in_its_column_and_after_it():
    a, b = values(scale=0.5), values(seed=1)
    b[5, 2] = NAN
    got, last = apply("row_scan", 2, a, b, values(seed=2))
    bad = torch.zeros(ROWS, WIDTH, dtype=torch.bool)
    bad[6:, 2] = True
    assert torch.equal(got.isnan(), bad) and torch.equal(last[0].isnan(), bad[-1])


def test_last_row():
    x = values(INF, NAN)
    close(apply("last_row", 1, x)[0][0], x[-1])
    x[-1, 0] = NAN
    assert apply("last_row", 1, x)[0][0, 0].isnan()


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("log", [False, True])
def test_flags(log, steps):
    """14 of 16 steps exist, and what stands in memory after them is not a flag."""
    flags, a, b = torch.arange(16, dtype=torch.uint8) % 4, torch.rand(16), torch.rand(16)
    out = torch.empty(2, 16)
    words = flag_words(flags[None, None, :14], 14)
    arguments = dict(flags_ptr=words, a_ptr=a, b_ptr=b, out_ptr=out, end=14)
    Launch(_flags_kernel, (1,), arguments, dict(LOG=log, ROWS=16 // steps, STEPS=steps), 1).run()
    exists = torch.arange(16) < 14
    masked, reset = (flags & MASKED != 0) | ~exists, (flags & RESET != 0) & exists
    one, zero = (0.0, -INF) if log else (1.0, 0.0)
    assert torch.equal(out[0], torch.where(reset, zero, torch.where(masked, one, a)))
    assert torch.equal(out[1], torch.where(masked, zero, b))
