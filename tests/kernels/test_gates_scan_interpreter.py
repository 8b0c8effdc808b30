"""Gates and scan in the Triton interpreter against the float64 step recurrence: a minGRU in both spaces, a minLSTM, and
a cell that the tests alone know."""

import itertools

import pytest
import torch

from rnam import kernels
from rnam.kernels import MASKED, RESET
from rnam.kernels.scan import gates_forward
from rnam.kernels.scan.gates_backward import gates_scan_backward
from rnam.kernels.scan.gates_forward import gates_scan_forward
from tests.kernels.cells import KINDS, THIRD
from tests.support import oracle
from tests.support.calls import Call
from tests.support.scan_bounds import assert_gradient, assert_states

pytestmark = [
    pytest.mark.interpreter,
    # A guarded logaddexp subtracts -inf from -inf and selects the other branch.
    pytest.mark.filterwarnings("ignore:invalid value encountered in subtract:RuntimeWarning"),
    # log2(0) = -inf is meant: h0 = 0, or the v of a step that is not read.
    pytest.mark.filterwarnings("ignore:divide by zero encountered in log2:RuntimeWarning"),
    # sigmoid(u) for u = -inf, and exp2 of large gates, saturate on purpose.
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65)
WIDTHS = (66, 7, 96, 33, 1, 80, 3, 65)
FLAGS = ("none", "shared", "terms")
GRADIENTS = ("both", "h", "last")
# Steps that are cut into two segments where a tile is 32 steps.
CUT = 130

# (T, H, dtype, kind, h0, flags, gradients): each pair of flags with each other, each length in both spaces.
CASES = [
    (
        T,
        WIDTHS[(i // 2 + 3 * (i % 2)) % 8],
        DTYPES[i % 3],
        kind,
        i % 4 in (1, 2),
        FLAGS[(i // 2 + i) % 3],
        GRADIENTS[i // 3 % 3],
    )
    for lengths, kinds in ((LENGTHS, ("linear", "log")), ((1, 2, 16, 17, 65), ("lstm",)), ((2, 17, 65), ("third",)))
    for i, (T, kind) in enumerate(itertools.product(lengths, kinds))
]


def inputs(F, B, T, H, dtype, with_h0=True, flags="none", gradients="both", seed=0, kind="linear"):
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator)

    p = 2 * randn(F, B, T, KINDS[kind].num_preacts * H)
    # g is not differentiable at u = 0: keep u where rounding cannot change its side.
    p = torch.where(p.abs() < 0.01, 0.01, p).to(dtype)
    h0 = torch.rand(F, B, 1, H, generator=generator) if with_h0 else None
    given = None
    if flags != "none":
        given = torch.randint(0, 4, (1 if flags == "shared" else F, B, T), generator=generator).to(torch.uint8)
    dh = randn(F, B, T, H).to(dtype) if gradients != "last" else None
    dh_last = randn(F, B, 1, H) if gradients != "h" else None
    return p, h0, given, dh, dh_last


def forward(p, h0, flags, kind, dtype=None, need_h=True):
    """h in p's dtype unless one is given."""
    return gates_scan_forward(p, call_of(p, h0, flags, kind, dtype, need_h), KINDS[kind].gates)


def backward(p, h0, h, flags, dh, dh_last, kind, dtype=None, **needs):
    return gates_scan_backward(p, call_of(p, h0, flags, kind, dtype), KINDS[kind].gates, h, dh, dh_last, **needs)[:2]


def call_of(p, h0, flags, kind, dtype=None, need_h=True):
    """The launchers read the dtype of the input, and nothing of the weight."""
    x = torch.empty(0, dtype=dtype or p.dtype)
    return Call(x, x, h0, flags, KINDS[kind].space, need_h)


def reference(p, h0, flags, dh, dh_last, dtype, kind="linear"):
    """h, h_last and the gradients (dp, dh0) by autograd through the step recurrence in dtype."""
    p = p.to(dtype).requires_grad_()
    h0 = None if h0 is None else h0.to(dtype).requires_grad_()
    h, h_last = oracle.recurrence(p, KINDS[kind].oracle, h0, *oracle.decode(flags))
    outputs = [(y, g.to(dtype)) for y, g in ((h, dh), (h_last, dh_last)) if g is not None]
    wanted = [x for x in (p, h0) if x is not None]
    grads = torch.autograd.grad([y for y, _ in outputs], wanted, [g for _, g in outputs], allow_unused=True)
    return h.detach(), h_last.detach(), grads


def check(p, h0, flags, dh, dh_last, kind="linear"):
    ref, ref_last, want = reference(p, h0, flags, dh, dh_last, torch.float64, kind)
    *_, same = reference(p, h0, flags, dh, dh_last, p.dtype, kind)
    h, h_last = forward(p, h0, flags, kind)
    assert h.dtype == p.dtype and h_last.dtype == torch.float32 and h_last.shape == ref_last.shape
    assert_states(h, ref)
    assert_states(h_last, ref_last, ref.abs().amax(2, keepdim=True))  # of the channel's largest state
    dp, dh0 = backward(p, h0, ref.to(p.dtype), flags, dh, dh_last, kind)
    assert_gradient("dp", dp, want[0], same[0])
    if h0 is None:
        assert dh0 is None
    else:
        assert_gradient("dh0", dh0, want[1], same[1])
    if flags is not None:
        assert (dp[((flags & MASKED) != 0).expand(p.shape[:3])] == 0).all()
    return h, h_last, dp, dh0


@pytest.mark.parametrize(("T", "H", "dtype", "kind", "with_h0", "flags", "gradients"), CASES)
def test_parity(T, H, dtype, kind, with_h0, flags, gradients):
    check(*inputs(2, 2 if H < 40 else 1, T, H, dtype, with_h0, flags, gradients, kind=kind), kind)


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.long) if k == "linear" else k for k in KINDS])
def test_long_sequence_is_cut(kind):
    p, h0, flags, dh, dh_last = inputs(1, 1, CUT, 40, torch.float32, True, "shared", kind=kind)
    flags[:] = 0
    flags[:, :, 40:60] = MASKED
    flags[:, :, 100] = RESET
    launches = gates_forward.forward_launches(
        p, call_of(p, None, flags, kind), KINDS[kind].gates, torch.empty_like(dh), torch.empty(1, 1, 1, 40)
    )
    assert [x.constants["PHASE"] for x in launches] == ["totals", "whole", "resume"] and launches[0].grid[0] == 4
    check(p, h0, flags, dh, dh_last, kind)


@pytest.mark.parametrize(
    ("kind", "T"),
    [
        *(("linear", 20), ("linear", CUT), ("log", 20), ("lstm", 20), ("third", 20)),
        pytest.param("log", CUT, marks=pytest.mark.long),
    ],
)
def test_masked_rows_may_hold_anything(kind, T):
    p, h0, flags, dh, dh_last = inputs(1, 1, T, 17, torch.float32, True, "terms", kind=kind)
    clean = check(p, h0, flags, dh, dh_last, kind)
    poisoned = torch.where(((flags & MASKED) != 0)[..., None], torch.nan, p)
    h, h_last = forward(poisoned, h0, flags, kind)
    dp, dh0 = backward(poisoned, h0, clean[0], flags, dh, dh_last, kind)
    assert torch.equal(h, clean[0]) and torch.equal(h_last, clean[1])
    again = backward(p, h0, clean[0], flags, dh, dh_last, kind)
    assert torch.equal(dp, again[0]) and torch.equal(dh0, again[1])


@pytest.mark.parametrize("kind", ["linear", "lstm", "third"])
def test_masked_steps_keep_the_state_to_the_last_bit(kind):
    p, h0, flags, _, _ = inputs(1, 1, 100, 5, torch.float32, True, "shared", kind=kind)
    flags[:] = MASKED
    h, h_last = forward(p, h0, flags, kind)
    assert torch.equal(h, h0.expand_as(h)) and torch.equal(h_last, h0)


@pytest.mark.parametrize("kind", ["linear", "lstm", "third"])
def test_reset_before_mask(kind):
    p, h0, flags, dh, dh_last = inputs(1, 1, 9, 5, torch.float32, True, "shared", kind=kind)
    flags[:] = 0
    flags[..., 0] = RESET
    flags[..., 5] = RESET | MASKED
    h, _, _, dh0 = check(p, h0, flags, dh, dh_last, kind)
    assert (h[:, :, 5] == 0).all() and (dh0 == 0).all()
    for i in (slice(0, 5), slice(6, 9)):  # two sequences of their own, each from 0
        alone, _ = forward(p[:, :, i], None, None, kind)
        assert_states(h[:, :, i], alone.double())


@pytest.mark.parametrize("space", ["linear", "log"])
@pytest.mark.parametrize("gate", [float("inf"), -float("inf"), 1e4, -1e4, 88.0, -60.0])
def test_saturated_gates(space, gate):
    p, h0, flags, dh, dh_last = inputs(1, 1, 33, 3, torch.float32, True)
    p[..., 3:] = gate
    p[..., 1, 3:] = 0.5
    check(p, h0, flags, dh, dh_last, space)


@pytest.mark.parametrize("forget", [float("inf"), -float("inf"), 1e4, -1e4, -60.0])
@pytest.mark.parametrize("take", [float("inf"), -1e4, 88.0, -60.0])
def test_saturated_gates_of_a_min_lstm(forget, take):
    p, h0, flags, dh, dh_last = inputs(1, 1, 33, 3, torch.float32, True, kind="lstm")
    p[..., 3:6], p[..., 6:] = forget, take
    p[..., :2, 3:] = 0.5
    check(p, h0, flags, dh, dh_last, "lstm")


def test_zero_state_in_log_space():
    p, _, flags, dh, dh_last = inputs(1, 1, 17, 3, torch.float32, False)
    check(p, torch.zeros(1, 1, 1, 3), flags, dh, dh_last, "log")


@pytest.mark.parametrize("kind", KINDS)
def test_nan_goes_forward_only(kind):
    p, h0, _, _, _ = inputs(1, 1, CUT, 17, torch.float32, True, kind=kind)
    p[0, 0, 70, 3] = torch.nan
    p[0, 0, 20, 17 + 5] = torch.nan
    bad = torch.zeros(1, 1, CUT, 17, dtype=torch.bool)
    bad[0, 0, 70:, 3] = bad[0, 0, 20:, 5] = True
    if kind == "lstm":
        p[0, 0, 90, 34 + 7] = torch.nan
        p[0, 0, 110, [17 + 2, 34 + 2]] = -torch.inf  # 0 / 0
        p[0, 0, 30, 17 + 1] = p[0, 0, 31, 34 + 1] = -torch.inf
        bad[0, 0, 90:, 7] = bad[0, 0, 110:, 2] = True
    h, h_last = forward(p, h0, None, kind)
    assert torch.equal(h.isnan(), bad) and torch.equal(h_last.isnan(), bad[:, :, -1:])


@pytest.mark.parametrize(
    ("layout", "kind"),
    [
        *((x, "linear") for x in ("padded", "time", "transposed", "expanded")),
        *(pytest.param(x, "lstm", marks=pytest.mark.long) for x in ("padded", "expanded")),
    ],
)
def test_strided_operands_and_gradients(layout, kind):
    p, h0, flags, dh, dh_last = inputs(2, 3, 17, 8, torch.float32, True, "terms", kind=kind)

    def lay(x):
        if layout == "padded":
            return torch.cat([x, torch.full_like(x, torch.nan)], -1)[..., : x.shape[-1]]
        if layout == "time":
            return x.permute(2, 0, 1, 3).contiguous().permute(1, 2, 0, 3)
        if layout == "transposed":
            return x.mT.contiguous().mT
        return x[:, :1].expand(x.shape)

    flags = flags.mT.contiguous().mT if layout != "expanded" else flags[:, :1]
    check(lay(p), lay(h0), flags, lay(dh), lay(dh_last), kind)
    one = torch.ones(()).expand(dh.shape)
    check(lay(p), lay(h0), flags, one, None, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_needed(kind):
    p, h0, flags, dh, dh_last = inputs(1, 2, 19, 5, torch.float32, True, "shared", kind=kind)
    h, h_last = forward(p, h0, flags, kind)
    none, last = forward(p, h0, flags, kind, need_h=False)
    assert none is None and torch.equal(last, h_last)
    dp, dh0 = backward(p, h0, h, flags, dh, dh_last, kind)
    only_p, none = backward(p, h0, h, flags, dh, dh_last, kind, need_h0=False)
    assert none is None and torch.equal(only_p, dp)
    none, only_h0 = backward(p, h0, h, flags, dh, dh_last, kind, need_preacts=False)
    assert none is None and torch.equal(only_h0, dh0)


@pytest.mark.parametrize("H", [5, 8])
@pytest.mark.parametrize("kind", ["linear", "lstm"])
def test_float32_projection_of_half_inputs(kind, H):
    p, h0, flags, dh, dh_last = inputs(1, 2, 19, H, torch.float32, True, "shared", kind=kind)
    h, h_last = forward(p, h0, flags, kind, torch.float16)
    dh = dh.half()
    ref, ref_last, want = reference(p, h0, flags, dh, dh_last, torch.float64, kind)
    assert h.dtype == torch.float16
    assert_states(h, ref)
    assert_states(h_last, ref_last, ref.abs().amax(2, keepdim=True))
    wide, wide_dh0 = backward(p, h0, ref.half(), flags, dh, dh_last, kind, torch.float32)
    dp, dh0 = backward(p, h0, ref.half(), flags, dh, dh_last, kind, torch.float16)
    assert torch.equal(dp, wide.half()) and torch.equal(dh0, wide_dh0)
    for name, got, exact in zip(("dp", "dh0"), (dp, dh0.half()), want, strict=True):
        assert_gradient(name, got, exact, exact)


@pytest.mark.parametrize(("F", "B", "T"), [(1, 2, 0), (1, 0, 3)])
def test_empty(F, B, T):
    p, h0 = torch.randn(F, B, T, 6), torch.randn(F, B, 1, 3)
    h, h_last = forward(p, h0, None, "linear")
    assert h.shape == (F, B, T, 3) and torch.equal(h_last, h0) and h_last is not h0
    dp, dh0 = backward(p, h0, h, None, h, torch.ones_like(h0), "linear")
    assert dp.shape == p.shape and torch.equal(dh0, torch.ones_like(h0))


@pytest.mark.parametrize("dtype", [*DTYPES[:2], pytest.param(torch.float16, marks=pytest.mark.long)])
def test_with_its_projection(dtype):
    """The whole minGRU at D, H > 64, a float32 weight and NaN in masked rows of x."""
    F, B, T, D, H = 2, 2, 9, 70, 65
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(F, B, T, D, generator=generator).to(dtype)
    weight = torch.randn(F, D, 2 * H, generator=generator) * D**-0.5
    flags = torch.randint(0, 4, (1, B, T), generator=generator).to(torch.uint8)
    dh = torch.randn(F, B, T, H, generator=generator).to(dtype)

    def in_dtype(kind):
        xs, ws = x.to(kind).requires_grad_(), weight.to(dtype).to(kind).requires_grad_()
        h, _ = oracle.min_gru(xs, ws, None, *oracle.decode(flags), dtype=kind)
        return [y.detach() for y in (h, *torch.autograd.grad(h, (xs, ws), dh.to(kind)))]

    masked = ((flags & MASKED) != 0)[..., None]
    call = Call(torch.where(masked, torch.nan, x), weight, None, flags)
    h, _ = kernels.recurrence_forward(call, kernels.MIN_GRU)
    dx, dw, *_ = kernels.recurrence_backward(call, kernels.MIN_GRU, h, dh, None)
    assert dw.dtype == torch.float32 and dx.dtype == dtype
    want, same = in_dtype(torch.float64), in_dtype(dtype)
    for name, got, y, z in zip(("h", "dx", "dw"), (h, dx, dw), want, same, strict=True):
        assert_gradient(name, got, y, z)
    assert torch.equal(torch.where(masked, dx, 0.0), torch.zeros_like(dx))
    none, only, *_ = kernels.recurrence_backward(call, kernels.MIN_GRU, h, dh, None, needs=(False, True, False, False))
    assert none is None and torch.equal(only, dw)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["lstm", "third"])
@pytest.mark.parametrize(("D", "H"), [(4, 8), (40, 3)])
def test_cells_without_a_fused_kernel(kind, dtype, D, H):
    """By their row alone, from x to its gradients."""
    F, B, T, cell = 2, 2, 11, KINDS[kind]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(F, B, T, D, generator=generator).to(dtype)
    weight = (torch.randn(F, D, cell.num_preacts * H, generator=generator) * D**-0.5).to(dtype)
    h0 = torch.rand(F, B, 1, H, generator=generator)
    flags = torch.randint(0, 4, (F, B, T), generator=generator).to(torch.uint8)
    dh, dh_last = torch.randn(F, B, T, H, generator=generator).to(dtype), torch.randn(F, B, 1, H, generator=generator)
    for _ in range(200):  # g has a kink at u = 0
        near = ((x.double() @ weight.double()[:, None])[..., :H].abs() < 0.02).any(3, keepdim=True)
        if not near.any():
            break
        x = torch.where(near, torch.randn(F, B, T, D, generator=generator).to(dtype), x)
    assert not near.any()

    def in_dtype(kind):
        leaves = [t.to(kind, copy=True).requires_grad_() for t in (x, weight, h0)]
        h, h_last = oracle.recurrence(leaves[0] @ leaves[1][:, None], cell.oracle, leaves[2], *oracle.decode(flags))
        grads = torch.autograd.grad((h, h_last), leaves, (dh.to(kind), dh_last.to(kind)))
        return [y.detach() for y in (h, h_last, *grads)]

    call = Call(x, weight, h0, flags)
    h, h_last = kernels.recurrence_forward(call, cell.gates)
    got = [h, h_last, *kernels.recurrence_backward(call, cell.gates, h, dh, dh_last)[:3]]
    names = ("h", "h_last", "dx", "dw", "dh0")
    for name, ours, y, z in zip(names, got, in_dtype(torch.float64), in_dtype(dtype), strict=True):
        assert_gradient(name, ours, y, z)


def test_a_cell_without_a_log_space_is_refused():
    call = Call(torch.randn(1, 1, 3, 4), torch.randn(1, 4, 6), space="log")
    for gates in (kernels.MIN_LSTM, THIRD):
        with pytest.raises(ValueError, match="space: expected 'linear'"):
            kernels.recurrence_forward(call, gates)
    with pytest.raises(ValueError, match="space: expected 'linear' or 'log', got 'cubic'"):
        kernels.recurrence_forward(call._replace(space="cubic"), kernels.MIN_LSTM)
