"""linear_scan, log_scan and gates_scan as compiled code: what it costs on four architectures, and its results on a
CPU."""

import pytest
import torch

from rnam.kernels import gates_scan, linear_scan, log_scan, min_lstm
from rnam.kernels.config_scan import BACKWARD_SPILLS
from tests.support import oracle, scan_oracle
from tests.support.compile import ARCHITECTURES, compile_launch, usage
from tests.support.execute import compiled_code
from tests.support.scan_oracle import adjoint, assert_gradient, assert_states, scan

pytestmark = [
    pytest.mark.compiled,
    # A guarded logaddexp subtracts -inf from -inf and selects the other branch; numpy says so where a GPU does not.
    pytest.mark.filterwarnings("ignore:invalid value encountered in subtract:RuntimeWarning"),
]

FLOAT32, BFLOAT16, FLOAT16 = torch.float32, torch.bfloat16, torch.float16
MASKED = 1

# Batch rows of the launches that are only compiled: enough that T is not cut.
MANY = 1200


def scan_launches(dtype, H, log, backward, N=MANY, T=40):
    x = torch.empty(N, T, H, dtype=dtype)
    h0 = torch.empty(N, H)
    if backward:
        return linear_scan.backward_launches(x, x if log else None, h0, x, x, x, x, h0, log=log)
    return linear_scan.forward_launches(x, x, h0, x, log=log)


def lstm_launches(dtype, H, backward, codes, B=MANY, T=40):
    """Of a minLSTM: p is float32, and dp, h and dh have the dtype of x."""
    p, dp = torch.empty(1, B, T, 3 * H), torch.empty(1, B, T, 3 * H, dtype=dtype)
    h, state = torch.empty(1, B, T, H, dtype=dtype), torch.empty(B, H)
    code = torch.empty(1, B, T, dtype=torch.uint8) if codes else None
    if backward:
        return gates_scan.gates_backward_launches(p, state, h, code, h, state, dp, state)
    return gates_scan.gates_forward_launches(p, state, code, h, state, log=False, parts=3)


def gates_launches(dtype, H, log, backward, codes, B=MANY, T=40):
    p, h = torch.empty(1, B, T, 2 * H, dtype=dtype), torch.empty(1, B, T, H, dtype=dtype)
    state, code = torch.empty(B, H), torch.empty(1, B, T, dtype=torch.uint8) if codes else None
    if backward:
        return gates_scan.gates_backward_launches(p, state, h, code, h, state, p, state)
    return gates_scan.gates_forward_launches(p, state, code, h, state, log=log)


VARIANTS = {
    "linear forward float32 H=32": lambda: scan_launches(FLOAT32, 32, False, False)[0],
    "linear backward float32 H=32": lambda: scan_launches(FLOAT32, 32, False, True)[0],
    "log forward float32 H=32": lambda: scan_launches(FLOAT32, 32, True, False)[0],
    "log backward bfloat16 H=32": lambda: scan_launches(BFLOAT16, 32, True, True)[0],
    "log forward bfloat16 H=8": lambda: scan_launches(BFLOAT16, 8, True, False)[0],
    "log totals float32 H=1": lambda: scan_launches(FLOAT32, 1, True, False, N=1, T=9000)[0],
    "log resumed float32 H=1": lambda: scan_launches(FLOAT32, 1, True, False, N=1, T=9000)[2],
    "linear backward resumed float32 H=1": lambda: scan_launches(FLOAT32, 1, False, True, N=1, T=9000)[2],
    "gates forward float32": lambda: gates_launches(FLOAT32, 96, False, False, False)[0],
    "gates log forward bfloat16 codes": lambda: gates_launches(BFLOAT16, 96, True, False, True)[0],
    "gates backward float32 codes": lambda: gates_launches(FLOAT32, 96, False, True, True)[0],
    "gates backward bfloat16 codes": lambda: gates_launches(BFLOAT16, 96, False, True, True)[0],
    "lstm forward float32": lambda: lstm_launches(FLOAT32, 96, False, False)[0],
    "lstm forward bfloat16 codes": lambda: lstm_launches(BFLOAT16, 96, False, True)[0],
    "lstm backward float32": lambda: lstm_launches(FLOAT32, 96, True, False)[0],
    "lstm backward bfloat16 codes": lambda: lstm_launches(BFLOAT16, 96, True, True)[0],
    "lstm forward resumed float32 codes H=1": lambda: lstm_launches(FLOAT32, 1, False, True, B=1, T=9000)[2],
    "lstm backward resumed float32 codes H=1": lambda: lstm_launches(FLOAT32, 1, True, True, B=1, T=9000)[2],
}  # fmt: skip

SLOW_VARIANTS = {
    f"{kind} {direction} {str(dtype)[6:]} H={H}": lambda kind=kind, dtype=dtype, H=H, direction=direction: (
        scan_launches(dtype, H, kind == "log", direction == "backward")
        if kind in ("linear", "log")
        else gates_launches(dtype, H, kind == "gates log", direction == "backward", kind == "gates codes")
    )[0]
    for kind in ("linear", "log", "gates", "gates codes", "gates log")
    for direction in ("forward", "backward")
    for dtype in (FLOAT32, BFLOAT16, FLOAT16)
    for H in (1, 3, 8, 32, 65, 128)
    if not (kind.startswith("gates") and H < 65)
} | {
    f"{kind} {direction} {str(dtype)[6:]} H={H}": lambda kind=kind, dtype=dtype, H=H, direction=direction: (
        lstm_launches(dtype, H, direction == "backward", kind == "lstm codes")[0]
    )
    for kind in ("lstm", "lstm codes")
    for direction in ("forward", "backward")
    for dtype in (FLOAT32, BFLOAT16)
    for H in (1, 3, 8, 32, 65, 128)
}


def assert_no_spill(launch, allowed=0):
    for cc in ARCHITECTURES:
        found = usage(compile_launch(launch, cc))
        assert found.spills <= allowed and (found.stack == 0 or allowed), f"sm_{cc}: {found}"


@pytest.mark.parametrize("name", VARIANTS)
def test_no_spill(name):
    assert_no_spill(VARIANTS[name]())


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_VARIANTS)
def test_no_spill_slow(name):
    assert_no_spill(SLOW_VARIANTS[name](), BACKWARD_SPILLS if "backward" in name else 0)


@pytest.mark.parametrize("name", [n for n in VARIANTS if "H=1" not in n])
def test_loads_are_16_bytes_wide(name):
    loads = usage(compile_launch(VARIANTS[name](), 90)).loads
    widths = {"128", "64"} if name == "lstm backward bfloat16 codes" else {"128"}  # of h and dh beside a float32 p
    loads = [set(x.split(".")) for x in loads if "U8" not in x]  # a code is a byte a row
    assert loads and not [x for x in loads if not x & widths]


@pytest.mark.parametrize(
    ("name", "per_lane"),
    [
        ("linear forward float32 H=32", lambda steps: 0),
        (
            "log backward bfloat16 H=32",
            lambda steps: 3 * steps - 1,
        ),  # exp2, rcp and log2, but the state after the last step is not used
        ("gates forward float32", lambda steps: 4 * steps),  # exp2 and rcp of u and of k
        ("gates backward float32 codes", lambda steps: 4 * steps),
        ("lstm forward float32", lambda steps: 5 * steps),  # one exp2 more, of the other gate
        ("lstm backward bfloat16 codes", lambda steps: 5 * steps),
    ],
)
def test_gates_are_computed_once(name, per_lane):
    launch = VARIANTS[name]()
    elements = launch.constants["ROWS"] * launch.constants["BLOCK_H"] // 32
    assert usage(compile_launch(launch, 90)).mufu == elements * per_lane(launch.constants["STEPS"])


def inputs(shape, dtype, log, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a, b, dh = (torch.randn(shape, generator=generator) for _ in range(3))
    a = torch.nn.functional.logsigmoid(a) if log else a.sigmoid()
    h0 = torch.randn(*shape[:-2], 1, shape[-1], generator=generator)
    return [x.to(dtype) for x in (a, b, h0, dh)]


@pytest.mark.parametrize(
    ("shape", "dtype", "log"),
    [((2, 37, 8), FLOAT32, False), ((37, 5), FLOAT32, True), ((65, 32), BFLOAT16, True), ((1, 17, 33), FLOAT16, False)],
)
def test_scan_as_compiled(shape, dtype, log):
    a, b, h0, dh = inputs(shape, dtype, log)
    if log:
        a[..., 7, :] = b[..., :3, 0] = -torch.inf
    a64, b64, h064, dh64 = (x.double() for x in (a, b, h0, dh))
    ref = scan(a64, b64, h064, log)
    with compiled_code() as launches:
        if log:
            h = log_scan.log_scan_forward(a, b, h0)
            grads = log_scan.log_scan_backward(a, b, ref.to(dtype), h0, dh)
        else:
            h = linear_scan.linear_scan_forward(a, b, h0)
            grads = linear_scan.linear_scan_backward(a, ref.to(dtype), h0, dh)
    assert len(launches) == 2
    assert_states(h, ref, None if log else scan(a64.abs(), b64.abs(), h064.abs(), log))
    want, same = adjoint(a64, b64, h064, ref, dh64, log), adjoint(a, b, h0, ref.to(dtype), dh, log)
    for name, got, x, y in zip(("da", "db", "dh0"), grads, want, same, strict=True):
        assert_gradient(name, got, x, y)


@pytest.mark.parametrize("log", [False, True])
def test_cut_scan_as_compiled(log):
    a, b, h0, dh = inputs((130, 17), FLOAT32, log)
    ref = scan(*(x.double() for x in (a, b, h0)), log)
    with compiled_code() as launches:
        h = (log_scan.log_scan_forward if log else linear_scan.linear_scan_forward)(a, b, h0)
        grads = (
            log_scan.log_scan_backward(a, b, ref.float(), h0, dh)
            if log
            else linear_scan.linear_scan_backward(a, ref.float(), h0, dh)
        )
    assert [x.constants["PHASE"] for x in launches] == ["totals", "whole", "resume"] * 2
    assert_states(h, ref, None if log else scan(*(x.double().abs() for x in (a, b, h0)), log))
    want = adjoint(*(x.double() for x in (a, b, h0)), ref, dh.double(), log)
    for name, got, x, y in zip(("da", "db", "dh0"), grads, want, adjoint(a, b, h0, ref.float(), dh, log), strict=True):
        assert_gradient(name, got, x, y)


@pytest.mark.parametrize(
    ("dtype", "H", "T", "kind", "with_codes"),
    [
        (FLOAT32, 40, 37, "linear", True),
        (FLOAT32, 8, 17, "log", True),
        (BFLOAT16, 64, 33, "log", False),
        (FLOAT32, 33, 130, "linear", True),
        (FLOAT32, 40, 37, "lstm", True),
        (BFLOAT16, 8, 33, "lstm", False),
        (FLOAT32, 33, 130, "lstm", True),
    ],
)
def test_gates_as_compiled(dtype, H, T, kind, with_codes):
    """dtype is that of p, but for a minLSTM, where p is float32, that of h and dp."""
    parts, width = (3, FLOAT32) if kind == "lstm" else (2, dtype)
    options = {"lstm": dict(parts=3, out_dtype=dtype), "log": dict(space="log"), "linear": {}}[kind]
    generator = torch.Generator().manual_seed(0)
    p = 2 * torch.randn(1, 1, T, parts * H, generator=generator)
    p = torch.where(p.abs() < 0.01, 0.01, p).to(width)  # g has a kink at u = 0
    if kind == "lstm":
        p[..., 3, H:] -= 300  # both gates vanish
    h0 = torch.rand(1, 1, 1, H, generator=generator)
    codes = torch.randint(0, 4, (1, 1, T), generator=generator).to(torch.uint8) if with_codes else None
    dh, dh_last = torch.randn(1, 1, T, H, generator=generator).to(dtype), torch.randn(1, 1, 1, H, generator=generator)

    def through(inside):
        leaves = p.to(inside).requires_grad_(), h0.to(inside).requires_grad_()
        h, h_last = scan_oracle.gates_scan(*leaves, codes, parts)
        grads = torch.autograd.grad((h, h_last), leaves, (dh.to(inside), dh_last.to(inside)))
        return h.detach(), h_last.detach(), grads

    ref, ref_last, want = through(torch.float64)
    seen = p if codes is None else torch.where(((codes & MASKED) != 0)[..., None], torch.nan, p)
    with compiled_code():
        h, h_last = gates_scan.gates_scan_forward(seen, h0, codes, **options)
        grads = gates_scan.gates_scan_backward(seen, h0, ref.to(dtype), codes, dh, dh_last, out_dtype=dtype)
    assert_states(h, ref)
    assert_states(h_last, ref_last, ref.abs().amax(2, keepdim=True))
    for name, got, x, y in zip(("dp", "dh0"), grads, want, through(dtype)[2], strict=True):
        assert_gradient(name, got, x, y)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16])
def test_min_lstm_as_compiled(dtype):
    """With its projection: what one kernel hands to the next has a type that the next can multiply."""
    generator = torch.Generator().manual_seed(0)
    x, dh = (torch.randn(2, 1, 19, n, generator=generator).to(dtype) for n in (4, 8))
    weight = (torch.randn(2, 4, 24, generator=generator) / 2).to(dtype)
    codes = torch.randint(0, 4, (1, 1, 19), generator=generator).to(torch.uint8)
    mask, reset = (codes & MASKED) == 0, (codes & 2) != 0

    def through(inside):
        leaves = x.to(inside).requires_grad_(), weight.to(inside).requires_grad_()
        h, _ = oracle.min_lstm(*leaves, None, mask, reset, dtype=inside)
        return [y.detach() for y in (h, *torch.autograd.grad(h, leaves, dh.to(inside)))]

    seen = torch.where(mask[..., None], x, torch.nan)
    with compiled_code() as launches:
        h, _ = min_lstm.min_lstm_forward(seen, weight, None, codes)
        dx, dw, _ = min_lstm.min_lstm_backward(seen, weight, None, h, codes, dh, None)
    assert [launch.kernel.__name__ for launch in launches if "gates" in launch.kernel.__name__] == [
        "_gates_scan_fwd_kernel",
        "_gates_scan_bwd_kernel",
    ]
    for name, got, y, z in zip(("h", "dx", "dw"), (h, dx, dw), through(torch.float64), through(dtype), strict=True):
        assert_gradient(name, got, y, z)


def test_nan_goes_forward_only_as_compiled():
    a, b, h0, _ = inputs((70, 33), FLOAT32, False)
    a[40, 5] = torch.nan
    p = torch.cat([b, a], -1)[None, None]
    with compiled_code():
        h, log_h = linear_scan.linear_scan_forward(a, b, h0), log_scan.log_scan_forward(a.abs().log(), b, h0)
        gated = [gates_scan.gates_scan_forward(p, None, space=space)[0][0, 0] for space in ("linear", "log")]
    bad = torch.zeros_like(h, dtype=torch.bool)
    bad[40:, 5] = True
    for x in (h, log_h, *gated):
        assert torch.equal(x.isnan(), bad)
