"""The bare scans in the Triton interpreter against the float64 step recurrence, in both spaces."""

import itertools

import pytest
import torch

from rnam.kernels import scan_backward, scan_forward
from rnam.kernels.common.operands import as_states
from rnam.kernels.scan.backward import backward_launches
from rnam.kernels.scan.config import FORWARD_STEPS, SPLIT_BELOW, plan_chunks, select_scan
from rnam.kernels.scan.forward import forward_launches
from tests.support.oracle import scan, scan_adjoint
from tests.support.scan_bounds import assert_gradient, assert_states
from tests.support.selection import crossed

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


# Steps that are cut into two chunks at 17 to 32 channels, where a tile is 32 steps.
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
    return scan_forward(a, b, h0, log=log)


def backward(a, b, h0, h, dh, log, needs=(True, True, True)):
    """As production calls it: the linear form reads b nowhere."""
    return scan_backward(a, b if log else None, h0, h, dh, log=log, needs=needs)


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
    want = scan_adjoint(a64, b64, h064, ref, dh64, log)
    same = scan_adjoint(a, b, h0, ref.to(b.dtype), dh, log)
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


@pytest.mark.parametrize(
    ("T", "H", "log"),
    [(5000, 1, False), pytest.param(2100, 1, True, marks=pytest.mark.long), (300, 40, False), (CUT, 40, True)],
)
def test_long_sequence_is_cut(T, H, log):
    a, b, h0, dh = inputs((1,), T, H, torch.float32, True, log)
    launches = forward_launches(a, b, as_states(h0), torch.empty_like(b), log=log)
    assert [x.constants["PHASE"] for x in launches] == ["totals", "whole", "resume"] and launches[0].grid[0] > 1
    check(a, b, h0, dh, log)


@pytest.mark.slow
@pytest.mark.parametrize("log", [False, True])
def test_one_channel_of_a_million_steps(log):
    a, b, h0, dh = inputs((), 1_000_000, 1, torch.float32, True, log)
    check(a, b, h0, dh, log)


@pytest.mark.parametrize(
    ("layout", "log"),
    crossed(
        ("transposed", "sliced", "wide", "expanded", "time"),
        (False, True),
        short=lambda layout, log: not log or layout == "time",  # both spaces address alike
    ),
)
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


@pytest.mark.parametrize(
    ("T", "where"),
    crossed(
        (37, CUT),
        ("coeffs", "values", "h0", "start", "all"),
        short=lambda T, where: T < CUT or where == "all",
    ),
)
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
    h = forward(empty, empty, empty[:, :1], True)
    assert torch.equal(h, empty)
    for g in backward(empty, empty, empty[:, :1], h, torch.ones_like(h), True):
        assert torch.equal(g, torch.zeros_like(g))


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
    for i in range(3):
        needs = tuple(j == i for j in range(3))
        got = backward(a, b, h0, h if log or i == 0 else None, dh, log, needs)
        assert tuple(x is not None for x in got) == needs
        assert torch.equal(got[i], full[i])
    assert backward(a, b, None, h, dh, log)[2] is None


@pytest.mark.parametrize("log", [False, True])
def test_bitwise_repeatable(log):
    a, b, h0, dh = inputs((), CUT, 17, torch.float32, True, log)
    h = forward(a, b, h0, log)
    assert torch.equal(h, forward(a, b, h0, log))
    first, second = (backward(a, b, h0, h, dh, log) for _ in range(2))
    for name, x, y in zip(("da", "db", "dh0"), first, second, strict=True):
        assert torch.equal(x, y), name


@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 5, 3), (2, 5, 0)])
@pytest.mark.parametrize("log", [False, True])
def test_empty(shape, log):
    x, h0 = torch.randn(shape), torch.randn(*shape[:-2], 1, shape[-1])
    assert forward(x, x, h0, log).shape == x.shape
    da, db, dh0 = backward(x, x, h0, x, x, log)
    assert da.shape == db.shape == x.shape and dh0.shape == h0.shape and (dh0 == 0).all()


def test_float32_state_of_half_precision_inputs():
    a, b, h0, dh = inputs((2,), 17, 8, torch.bfloat16, True, False)
    h0 = h0.float() + 1e-4
    h = forward(a, b, h0, False)
    assert_states(h, scan(*double(a, b, h0), False), scan(*(x.abs() for x in double(a, b, h0)), False))
    assert backward(a, b, h0, h, dh, False)[2].dtype == torch.float32


def test_float64_is_refused():
    x = torch.randn(1, 2, 3, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"a: expected float32, bfloat16 or float16, got torch\.float64"):
        forward(x, x, None, False)


def test_chunks_cover_the_sequence():
    config = select_scan(1, 4, 1, FORWARD_STEPS)
    for T in (1, 1023, 5000, 100_000, 1_000_000):
        chunk_steps, num_chunks = plan_chunks(T, 1, config)
        assert (num_chunks - 1) * chunk_steps < T <= num_chunks * chunk_steps
        assert num_chunks == 1 or chunk_steps % config.tile == 0
    assert num_chunks >= 900  # a million steps of one channel fill the machine
    assert plan_chunks(1_000_000, SPLIT_BELOW, config) == (1_000_000, 1)


def test_nothing_is_compiled_per_length():
    def constants(N, T):
        a = torch.empty(N, T, 24)
        launches = forward_launches(a, a, None, a, log=False)
        launches += backward_launches(a, None, None, a, a, a, a, None, log=False)
        return [x.constants for x in launches]

    assert constants(700, 3) == constants(700, 64) == constants(801, 65)
