"""The scans, and gates and scan, as compiled code: what it costs on four architectures, and its results on a CPU."""

import pytest
import torch

from rnam import kernels
from rnam.kernels import MASKED, RESET
from rnam.kernels.scan import backward as scan_backward
from rnam.kernels.scan import forward as scan_forward
from rnam.kernels.scan import gates_backward, gates_forward
from rnam.kernels.scan.config import BACKWARD_SPILLS, FLAGS_SPILLS
from rnam.kernels.scan.gates_backward import gates_scan_backward
from rnam.kernels.scan.gates_forward import gates_scan_forward
from tests.kernels.cells import KINDS
from tests.support import oracle
from tests.support.calls import Call
from tests.support.compiled import compiled_code
from tests.support.oracle import scan, scan_adjoint
from tests.support.scan_bounds import assert_gradient, assert_states
from tools.ptx.compile import ARCHITECTURES, compile_launch
from tools.ptx.sass import load_bits, usage

pytestmark = [
    pytest.mark.compiled,
    # A guarded logaddexp subtracts -inf from -inf and selects the other branch; numpy says so where a GPU does not.
    pytest.mark.filterwarnings("ignore:invalid value encountered in subtract:RuntimeWarning"),
]

FLOAT32, BFLOAT16, FLOAT16 = torch.float32, torch.bfloat16, torch.float16
# Batch rows of the launches that are only compiled: enough that T is not cut.
MANY = 1200


def scan_launches(dtype, H, log, backward, N=MANY, T=40):
    x = torch.empty(N, T, H, dtype=dtype)
    h0 = torch.empty(N, H)
    if backward:
        return scan_backward.backward_launches(x, x if log else None, h0, x, x, x, x, h0, log=log)
    return scan_forward.forward_launches(x, x, h0, x, log=log)


def gates_launches(kind, dtype, H, backward, flags, B=MANY, T=40):
    cell = KINDS[kind]
    p, dp = (torch.empty(1, B, T, cell.num_preacts * H, dtype=x) for x in (cell.inner_dtype(dtype), dtype))
    h, state = torch.empty(1, B, T, H, dtype=dtype), torch.empty(1, B, 1, H)
    call = Call(h, h, state, torch.empty(1, B, T, dtype=torch.uint8) if flags else None, cell.space)
    if backward:
        return gates_backward.backward_launches(p, call, cell.gates, h, h, state, dp, state)
    return gates_forward.forward_launches(p, call, cell.gates, h, state)


VARIANTS = {
    "linear forward float32 H=32": lambda: scan_launches(FLOAT32, 32, False, False)[0],
    "linear backward float32 H=32": lambda: scan_launches(FLOAT32, 32, False, True)[0],
    "log forward float32 H=32": lambda: scan_launches(FLOAT32, 32, True, False)[0],
    "log backward bfloat16 H=32": lambda: scan_launches(BFLOAT16, 32, True, True)[0],
    "log forward bfloat16 H=8": lambda: scan_launches(BFLOAT16, 8, True, False)[0],
    "log totals float32 H=1": lambda: scan_launches(FLOAT32, 1, True, False, N=1, T=9000)[0],
    "log resumed float32 H=1": lambda: scan_launches(FLOAT32, 1, True, False, N=1, T=9000)[2],
    "linear backward resumed float32 H=1": lambda: scan_launches(FLOAT32, 1, False, True, N=1, T=9000)[2],
    "gates forward float32": lambda: gates_launches("linear", FLOAT32, 96, False, False)[0],
    "gates forward bfloat16 flags": lambda: gates_launches("linear", BFLOAT16, 128, False, True)[0],
    "gates log forward bfloat16 flags": lambda: gates_launches("log", BFLOAT16, 96, False, True)[0],
    "gates backward float32 flags": lambda: gates_launches("linear", FLOAT32, 96, True, True)[0],
    "gates backward bfloat16 flags": lambda: gates_launches("linear", BFLOAT16, 96, True, True)[0],
    "lstm forward float32": lambda: gates_launches("lstm", FLOAT32, 96, False, False)[0],
    "lstm forward bfloat16 flags": lambda: gates_launches("lstm", BFLOAT16, 96, False, True)[0],
    "lstm backward float32": lambda: gates_launches("lstm", FLOAT32, 96, True, False)[0],
    "lstm backward bfloat16 flags": lambda: gates_launches("lstm", BFLOAT16, 96, True, True)[0],
    "lstm forward resumed float32 flags H=1": lambda: gates_launches("lstm", FLOAT32, 1, False, True, B=1, T=9000)[2],
    "lstm backward resumed float32 flags H=1": lambda: gates_launches("lstm", FLOAT32, 1, True, True, B=1, T=9000)[2],
}  # fmt: skip

SLOW_VARIANTS = {
    f"{kind} {direction} {str(dtype)[6:]} H={H}": lambda kind=kind, dtype=dtype, H=H, direction=direction: (
        scan_launches(dtype, H, kind == "log", direction == "backward")
        if kind in ("linear", "log")
        else gates_launches(
            "log" if kind == "gates log" else "linear", dtype, H, direction == "backward", kind == "gates flags"
        )
    )[0]
    for kind in ("linear", "log", "gates", "gates flags", "gates log")
    for direction in ("forward", "backward")
    for dtype in (FLOAT32, BFLOAT16, FLOAT16)
    for H in (1, 3, 8, 32, 65, 128)
    if not (kind.startswith("gates") and H < 65)
} | {
    f"{kind} {direction} {str(dtype)[6:]} H={H}": lambda kind=kind, dtype=dtype, H=H, direction=direction: (
        gates_launches("lstm", dtype, H, direction == "backward", kind == "lstm flags")[0]
    )
    for kind in ("lstm", "lstm flags")
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
    half_with_flags = name in ("gates log forward bfloat16 flags", "gates forward bfloat16 flags")
    assert_no_spill(VARIANTS[name](), FLAGS_SPILLS if half_with_flags else 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_VARIANTS)
def test_no_spill_slow(name):
    with_flags = FLAGS_SPILLS if name.startswith("gates flags") and "16" in name else 0
    assert_no_spill(SLOW_VARIANTS[name](), BACKWARD_SPILLS if "backward" in name else with_flags)


@pytest.mark.parametrize("name", [n for n in VARIANTS if "H=1" not in n])
def test_loads_are_16_bytes_wide(name):
    loads = usage(compile_launch(VARIANTS[name](), 90)).loads
    widths = {128, 64} if name == "lstm backward bfloat16 flags" else {128}  # of h and dh beside a float32 p
    words = {32} if "flags" in name else set()
    assert {load_bits(op) for op in loads} - words <= widths and loads, loads


@pytest.mark.parametrize(
    ("name", "per_lane"),
    [
        ("linear forward float32 H=32", lambda steps: 0),
        (
            "log backward bfloat16 H=32",
            lambda steps: 3 * steps - 1,
        ),  # exp2, rcp and log2, but the state after the last step is not used
        ("gates forward float32", lambda steps: 4 * steps),  # exp2 and rcp of u and of k
        ("gates backward float32 flags", lambda steps: 4 * steps),
        ("lstm forward float32", lambda steps: 5 * steps),  # one exp2 more, of the other gate
        ("lstm backward bfloat16 flags", lambda steps: 5 * steps),
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
        h = kernels.scan_forward(a, b, h0, log=log)
        grads = kernels.scan_backward(a, b if log else None, h0, ref.to(dtype), dh, log=log)
    assert len(launches) == 2
    assert_states(h, ref, None if log else scan(a64.abs(), b64.abs(), h064.abs(), log))
    want, same = scan_adjoint(a64, b64, h064, ref, dh64, log), scan_adjoint(a, b, h0, ref.to(dtype), dh, log)
    for name, got, x, y in zip(("da", "db", "dh0"), grads, want, same, strict=True):
        assert_gradient(name, got, x, y)


@pytest.mark.parametrize("log", [False, True])
def test_cut_scan_as_compiled(log):
    a, b, h0, dh = inputs((130, 17), FLOAT32, log)
    ref = scan(*(x.double() for x in (a, b, h0)), log)
    with compiled_code() as launches:
        h = kernels.scan_forward(a, b, h0, log=log)
        grads = kernels.scan_backward(a, b if log else None, h0, ref.float(), dh, log=log)
    assert [x.constants["PHASE"] for x in launches] == ["totals", "whole", "resume"] * 2
    assert_states(h, ref, None if log else scan(*(x.double().abs() for x in (a, b, h0)), log))
    want = scan_adjoint(*(x.double() for x in (a, b, h0)), ref, dh.double(), log)
    same = scan_adjoint(a, b, h0, ref.float(), dh, log)
    for name, got, x, y in zip(("da", "db", "dh0"), grads, want, same, strict=True):
        assert_gradient(name, got, x, y)


@pytest.mark.parametrize(
    ("dtype", "H", "T", "kind", "with_flags"),
    [
        (FLOAT32, 40, 37, "linear", True),
        (FLOAT32, 8, 17, "log", True),
        (BFLOAT16, 64, 33, "log", False),
        (FLOAT32, 33, 130, "linear", True),
        (FLOAT32, 40, 37, "lstm", True),
        (BFLOAT16, 8, 33, "lstm", False),
        (FLOAT32, 33, 130, "lstm", True),
        (FLOAT32, 8, 37, "third", True),
    ],
)
def test_gates_as_compiled(dtype, H, T, kind, with_flags):
    """dtype is that of p, but for a minLSTM, where p is float32, that of h and dp."""
    cell = KINDS[kind]
    generator = torch.Generator().manual_seed(0)
    p = 2 * torch.randn(1, 1, T, cell.num_preacts * H, generator=generator)
    p = torch.where(p.abs() < 0.01, 0.01, p).to(cell.inner_dtype(dtype))  # g has a kink at u = 0
    if kind == "lstm":
        p[..., 3, H:] -= 300  # both gates vanish
    h0 = torch.rand(1, 1, 1, H, generator=generator)
    flags = torch.randint(0, 4, (1, 1, T), generator=generator).to(torch.uint8) if with_flags else None
    dh, dh_last = torch.randn(1, 1, T, H, generator=generator).to(dtype), torch.randn(1, 1, 1, H, generator=generator)

    def in_dtype(inside):
        leaves = p.to(inside).requires_grad_(), h0.to(inside).requires_grad_()
        h, h_last = oracle.recurrence(leaves[0], cell.oracle, leaves[1], *oracle.decode(flags))
        grads = torch.autograd.grad((h, h_last), leaves, (dh.to(inside), dh_last.to(inside)))
        return h.detach(), h_last.detach(), grads

    ref, ref_last, want = in_dtype(torch.float64)
    seen = p if flags is None else torch.where(((flags & MASKED) != 0)[..., None], torch.nan, p)
    with compiled_code():
        call = Call(dh, dh, h0, flags, cell.space)
        h, h_last = gates_scan_forward(seen, call, cell.gates)
        grads = gates_scan_backward(seen, call, cell.gates, ref.to(dtype), dh, dh_last)
    assert_states(h, ref)
    assert_states(h_last, ref_last, ref.abs().amax(2, keepdim=True))
    for name, got, x, y in zip(("dp", "dh0"), grads[:2], want, in_dtype(dtype)[2], strict=True):
        assert_gradient(name, got, x, y)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16])
def test_min_lstm_as_compiled(dtype):
    """With its projection: what one kernel hands to the next has a type that the next can multiply."""
    generator = torch.Generator().manual_seed(0)
    x, dh = (torch.randn(2, 1, 19, n, generator=generator).to(dtype) for n in (4, 8))
    weight = (torch.randn(2, 4, 24, generator=generator) / 2).to(dtype)
    flags = torch.randint(0, 4, (1, 1, 19), generator=generator).to(torch.uint8)
    mask, reset = (flags & MASKED) == 0, (flags & RESET) != 0

    def in_dtype(inside):
        leaves = x.to(inside).requires_grad_(), weight.to(inside).requires_grad_()
        h, _ = oracle.min_lstm(*leaves, None, mask, reset, dtype=inside)
        return [y.detach() for y in (h, *torch.autograd.grad(h, leaves, dh.to(inside)))]

    seen = torch.where(mask[..., None], x, torch.nan)
    with compiled_code() as launches:
        call = Call(seen, weight, None, flags)
        h, _ = kernels.recurrence_forward(call, kernels.MIN_LSTM)
        dx, dw, *_ = kernels.recurrence_backward(call, kernels.MIN_LSTM, h, dh, None)
    assert [launch.kernel.__name__ for launch in launches if "gates" in launch.kernel.__name__] == [
        "_gates_scan_fwd_kernel",
        "_gates_scan_bwd_kernel",
    ]
    for name, got, y, z in zip(("h", "dx", "dw"), (h, dx, dw), in_dtype(torch.float64), in_dtype(dtype), strict=True):
        assert_gradient(name, got, y, z)


def test_nan_goes_forward_only_as_compiled():
    a, b, h0, _ = inputs((70, 33), FLOAT32, False)
    a[40, 5] = torch.nan
    p = torch.cat([b, a], -1)[None, None]
    with compiled_code():
        h, log_h = (kernels.scan_forward(x, b, h0, log=log) for x, log in ((a, False), (a.abs().log(), True)))
        calls = (Call(p, p, space=space) for space in ("linear", "log"))
        gated = [gates_scan_forward(p, call, kernels.MIN_GRU)[0][0, 0] for call in calls]
    bad = torch.zeros_like(h, dtype=torch.bool)
    bad[40:, 5] = True
    for x in (h, log_h, *gated):
        assert torch.equal(x.isnan(), bad)
