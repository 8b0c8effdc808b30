"""linear_scan and log_scan in the Triton interpreter against the float64 step recurrence."""

import itertools

import pytest
import torch

from rnam.kernels import config_scan, linear_scan, log_scan
from tests.support.assertions import assert_equal
from tests.support.scan_oracle import adjoint, assert_gradient, assert_states, scan

pytestmark = [
    pytest.mark.interpreter,
    # A guarded logaddexp subtracts -inf from -inf and selects the other branch.
    pytest.mark.filterwarnings("ignore:invalid value encountered in subtract:RuntimeWarning"),
    # log2(0) = -inf is meant: an empty state.
    pytest.mark.filterwarnings("ignore:divide by zero encountered in log2:RuntimeWarning"),
]

INF = float("inf")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65)
WIDTHS = (1, 8, 3, 33, 5, 32, 40, 2)
LEADING = ((), (2,), (2, 3), (1, 2, 2))

# Every length in both spaces; the rest of the flags in steps that are coprime to each other, so that each pair occurs.
CASES = [
    (LEADING[i % 4], T, WIDTHS[(3 * i + i // 8) % 8], DTYPES[i % 3], bool(i % 2) ^ bool(i // 8 % 2), log)
    for i, (T, log) in enumerate(itertools.product(LENGTHS + LENGTHS[::2], (False, True)))
]


# Steps that are cut into two segments at 17 to 32 channels, where a tile is 32 steps.
CUT = 130


def inputs(leading, T, H, dtype, with_h0, log, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(*leading, T, H, generator=generator).clamp(1e-3)
    b = torch.randn(*leading, T, H, generator=generator)
    h0 = torch.randn(*leading, 1, H, generator=generator) if with_h0 else None
    dh = torch.randn(*leading, T, H, generator=generator)
    if log:
        a = a.log()
    return [None if x is None else x.to(dtype) for x in (a, b, h0, dh)]


def forward(a, b, h0, log):
    return (log_scan.log_scan_forward if log else linear_scan.linear_scan_forward)(a, b, h0)


def backward(a, b, h0, h, dh, log, **needs):
    if log:
        return log_scan.log_scan_backward(a, b, h, h0, dh, **needs)
    return linear_scan.linear_scan_backward(a, h, h0, dh, **needs)


def double(*tensors):
    return [None if x is None else x.double() for x in tensors]


def check(a, b, h0, dh, log):
    """Forward and backward against float64. A sum of products of mixed signs has the error of the sum of their
    sizes."""
    a64, b64, h064, dh64 = double(a, b, h0, dh)
    ref = scan(a64, b64, h064, log)
    size = None if log else scan(*(None if x is None else x.abs() for x in (a64, b64, h064)), log)
    h = forward(a, b, h0, log)
    assert h.shape == b.shape and h.dtype == b.dtype and h.is_contiguous()
    assert_states(h, ref, size)
    want = adjoint(a64, b64, h064, ref, dh64, log)
    same = adjoint(a, b, h0, ref.to(b.dtype), dh, log)
    got = backward(a, b, h0, ref.to(b.dtype), dh, log)
    for name, x, y, z in zip(("da", "db", "dh0"), got, want, same, strict=True):
        if x is None:
            assert name == "dh0" and h0 is None
        else:
            assert_gradient(name, x, y, z)
    return h, got


@pytest.mark.parametrize(("leading", "T", "H", "dtype", "with_h0", "log"), CASES)
def test_parity(leading, T, H, dtype, with_h0, log):
    check(*inputs(leading, T, H, dtype, with_h0, log), log)


def test_formulas_are_the_gradient():
    for log in (False, True):
        a, b, h0, dh = (x.double().requires_grad_() for x in inputs((2,), 9, 3, torch.float64, True, log))
        h = scan(a, b, h0, log)
        for x, y in zip(torch.autograd.grad(h, (a, b, h0), dh), adjoint(a, b, h0, h, dh, log), strict=True):
            torch.testing.assert_close(x, y)


@pytest.mark.parametrize(("T", "H", "log"), [(5000, 1, False), (2100, 1, True), (300, 40, False), (CUT, 40, True)])
def test_long_sequence_is_cut(T, H, log):
    a, b, h0, dh = inputs((1,), T, H, torch.float32, True, log)
    launches = linear_scan.forward_launches(a, b, linear_scan.as_states(h0), torch.empty_like(b), log=log)
    assert [x.constants["PHASE"] for x in launches] == ["totals", "whole", "resume"] and launches[0].grid[0] > 1
    check(a, b, h0, dh, log)


@pytest.mark.slow
@pytest.mark.parametrize("log", [False, True])
def test_one_channel_of_a_million_steps(log):
    a, b, h0, dh = inputs((), 1_000_000, 1, torch.float32, True, log)
    check(a, b, h0, dh, log)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("layout", ["transposed", "sliced", "wide", "expanded", "time"])
def test_strided_operands_and_gradients(layout, log):
    a, b, h0, dh = inputs((2, 3), 17, 8, torch.float32, True, log)

    def lay(x):
        if layout == "transposed":  # innermost stride is not 1: copied
            return x.mT.contiguous().mT
        if layout == "sliced":  # every other step of a longer tensor, from an odd address
            return torch.stack([x, torch.full_like(x, torch.nan)], -2).flatten(-3, -2)[..., ::2, :]
        if layout == "wide":
            return torch.cat([x, torch.full_like(x, torch.nan)], -1)[..., : x.shape[-1]]
        if layout == "time":  # [B, T, F, H] storage
            return x.permute(1, 2, 0, 3).contiguous().permute(2, 0, 1, 3)
        return x[:1, :1].expand(x.shape)

    a, b, dh = lay(a), lay(b), lay(dh)
    check(a, b, h0, dh, log)
    one = torch.ones((), dtype=dh.dtype).expand(dh.shape)  # what h.sum().backward() passes on
    check(a, b, h0, one, log)


@pytest.mark.parametrize("T", [40, CUT])
@pytest.mark.parametrize("log", [False, True])
def test_nan_goes_forward_only(T, log):
    a, b, h0, _ = inputs((), T, 17, torch.float32, True, log)
    for x in (a, b):
        poisoned = x.clone()
        poisoned[T // 2, 0] = torch.nan
        args = (poisoned, b) if x is a else (a, poisoned)
        h = forward(*args, h0, log)
        assert h[T // 2 :, 0].isnan().all()
        assert_states(
            h[: T // 2],
            scan(*double(*args, h0), log)[: T // 2],
            None if log else torch.full_like(h[: T // 2], 10.0).double(),
        )
        assert not h[:, 1:].isnan().any()
    h0[0, 0] = torch.nan
    h = forward(a, b, h0, log)
    assert h[:, 0].isnan().all() and not h[:, 1:].isnan().any()


@pytest.mark.parametrize("T", [37, CUT])
@pytest.mark.parametrize("where", ["coeffs", "values", "h0", "start", "all"])
def test_minus_infinity_is_legal(T, where):
    a, b, h0, dh = inputs((2,), T, 17, torch.float32, True, True)
    if where in ("coeffs", "all"):
        a[:, T // 3] = -INF
    if where in ("values", "all"):
        b[:, T // 4 :: 2] = -INF
    if where in ("h0", "start", "all"):
        h0[:] = -INF
    if where in ("start", "all"):
        b[:, : T // 3 + 2] = -INF
        a[:, :2] = -INF
    h, grads = check(a, b, h0, dh, True)
    empty = h == -INF
    assert bool(empty.any()) == (where in ("start", "all"))
    assert (grads[0][empty] == 0).all() and (grads[1][empty] == 0).all()


def test_everything_empty():
    empty = torch.full((2, 20, 3), -INF)
    h = log_scan.log_scan_forward(empty, empty, empty[:, :1])
    assert (h == -INF).all()
    for g in log_scan.log_scan_backward(empty, empty, h, empty[:, :1], torch.ones_like(h)):
        assert (g == 0).all()


@pytest.mark.parametrize("log", [False, True])
def test_values_beyond_the_float_range(log):
    a, b, h0, dh = inputs((), 33, 4, torch.float32, True, log)
    if log:  # exp of them would be inf or 0
        b = b * 300
        h0 = h0 - 500
    else:
        b, h0 = b * 1e30, h0 * 1e-30
    check(a, b, h0, dh, log)


@pytest.mark.parametrize("log", [False, True])
def test_only_what_is_needed(log):
    a, b, h0, dh = inputs((2,), 19, 3, torch.float32, True, log)
    h = forward(a, b, h0, log)
    full = backward(a, b, h0, h, dh, log)
    for i, name in enumerate(("need_coeffs", "need_values", "need_h0")):
        needs = dict.fromkeys(("need_coeffs", "need_values", "need_h0"), False) | {name: True}
        got = backward(a, b, h0, h if log or name == "need_coeffs" else None, dh, log, **needs)
        assert [x is not None for x in got] == [j == i for j in range(3)]
        assert torch.equal(got[i], full[i])
    assert backward(a, b, None, h, dh, log)[2] is None


@pytest.mark.parametrize("log", [False, True])
def test_bitwise_repeatable(log):
    a, b, h0, dh = inputs((), CUT, 17, torch.float32, True, log)
    h = forward(a, b, h0, log)
    assert_equal("h", forward(a, b, h0, log), h)
    assert_equal("gradients", backward(a, b, h0, h, dh, log), backward(a, b, h0, h, dh, log))


@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 5, 3), (2, 5, 0)])
@pytest.mark.parametrize("log", [False, True])
def test_empty(shape, log):
    x, h0 = torch.randn(shape), torch.randn(*shape[:-2], 1, shape[-1])
    assert forward(x, x, h0, log).shape == x.shape
    da, db, dh0 = backward(x, x, h0, x, x, log)
    assert da.shape == db.shape == x.shape and dh0.shape == h0.shape and (dh0 == 0).all()


def test_float32_state_of_half_inputs():
    a, b, h0, dh = inputs((2,), 17, 8, torch.bfloat16, True, False)
    h0 = h0.float() + 1e-4
    h = forward(a, b, h0, False)
    assert_states(h, scan(*double(a, b, h0), False), scan(*(x.abs() for x in double(a, b, h0)), False))
    assert backward(a, b, h0, h, dh, False)[2].dtype == torch.float32


def test_float64_is_refused():
    x = torch.randn(1, 2, 3, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"a: expected float32, bfloat16 or float16, got torch\.float64"):
        forward(x, x, None, False)


def test_segments_cover_the_sequence():
    config = config_scan.select_scan(1, 4, 1, config_scan.FORWARD_STEPS)
    for T in (1, 1023, 5000, 100_000, 1_000_000):
        length, count = config_scan.segments(T, 1, config)
        assert (count - 1) * length < T <= count * length
        assert count == 1 or length % config.tile == 0
    assert count >= 900  # a million steps of one channel fill the machine
    assert config_scan.segments(1_000_000, config_scan.SPLIT_BELOW, config) == (1_000_000, 1)


def test_nothing_is_compiled_per_length():
    def constants(N, T):
        a = torch.empty(N, T, 24)
        forwards = linear_scan.forward_launches(a, a, None, a, log=False)
        return [
            x.constants for x in forwards + linear_scan.backward_launches(a, None, None, a, a, a, a, None, log=False)
        ]

    assert constants(700, 3) == constants(700, 64) == constants(801, 65)
