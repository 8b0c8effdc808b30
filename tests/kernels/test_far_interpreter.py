"""Offsets past 2^31 elements of every kernel, in the interpreter.

Inputs are read through strides of more than 2^31 elements. Outputs are contiguous: their rows lie that far apart
because the launch says so of T, and `chunk_steps` (or `span`) that only the first steps are computed.
"""

import pytest
import torch

from rnam import kernels
from rnam.kernels import MIN_GRU
from rnam.kernels.common.config import LaunchConfig
from rnam.kernels.feed_forward import backward as feed_forward_backward
from rnam.kernels.feed_forward import forward as feed_forward_forward
from rnam.kernels.linear import backward as linear_backward
from rnam.kernels.linear import forward as linear_forward
from rnam.kernels.min_gru import backward as min_gru_backward
from rnam.kernels.min_gru import forward as min_gru_forward
from rnam.kernels.scan import backward as scan_backward
from rnam.kernels.scan import forward as scan_forward
from rnam.kernels.scan import gates_backward, gates_forward
from tests.kernels.cells import KINDS
from tests.support.calls import Call
from tests.support.far import APART, reserve, run_into, spread
from tests.support.min_gru_cases import Case
from tests.support.min_gru_cases import inputs as min_gru_inputs

pytestmark = [
    pytest.mark.interpreter,
    # A guarded logaddexp subtracts -inf from -inf and selects the other branch; log2(0) = -inf is meant.
    pytest.mark.filterwarnings("ignore:invalid value encountered in subtract:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:divide by zero encountered in log2:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:overflow encountered in exp2:RuntimeWarning"),
]

BF16 = torch.bfloat16
H = 8
FAR_STEPS = APART // H  # steps of H elements between two contiguous rows
CONFIG = LaunchConfig(batch_rows=False, ROWS=16, STEPS=2, num_warps=1)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape).to(BF16)


def assert_equal(got, wanted):
    for a, b in zip(got, wanted, strict=True):
        assert torch.equal(a, b) and not a.isnan().any()


def rows_far(*last: int, steps: int = FAR_STEPS) -> torch.Tensor:
    """An output [2, steps, ...], contiguous."""
    return reserve(2, steps, *last, dtype=BF16)


# ---- the scans ----


def scan_inputs(log: bool, steps: int) -> list[torch.Tensor]:
    a, b, h, dh = (normal(2, steps, H) for _ in range(4))
    return [-a.abs() if log else a.sigmoid(), b, h, dh]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("dim", [0, 1], ids=("rows", "steps"))
def test_scans_read_far(log, dim):
    near = scan_inputs(log, steps=2)
    far = [spread(x, dim) for x in near]

    def run(a, b, h, dh):
        state = kernels.scan_forward(a, b, None, log=log)
        gradients = kernels.scan_backward(a, b, None, h, dh, log=log, needs=(True, True, False))
        return state, *gradients[:2]

    assert_equal(run(*far), run(*near))


@pytest.mark.parametrize("log", [False, True])
def test_scans_write_far(log):
    steps = 3
    a, b, h, dh = scan_inputs(log, steps)
    outputs = [torch.empty_like(a) for _ in range(3)]
    far = [rows_far(H) for _ in range(3)]
    (forward,) = scan_forward.forward_launches(a, b, None, outputs[0], log=log)
    (backward,) = scan_backward.backward_launches(a, b, None, h, dh, outputs[1], outputs[2], None, log=log)
    forward.run(), backward.run()
    run_into(forward, T=FAR_STEPS, h_ptr=far[0])
    run_into(backward, T=FAR_STEPS, da_ptr=far[1], db_ptr=far[2])
    assert_equal([x[:, :steps] for x in far], outputs)


# ---- gates and scan ----


def gates_inputs(F: int, B: int, T: int, num_preacts: int) -> list[torch.Tensor]:
    flags = torch.randint(0, 4, (F, B, T), dtype=torch.uint8)
    return [normal(F, B, T, num_preacts * H), normal(F, B, T, H), flags, normal(F, B, T, H)]


@pytest.mark.parametrize("kind", ["linear", "lstm"])
@pytest.mark.parametrize("dim", [0, 1, 2], ids=("terms", "batch rows", "steps"))
def test_gates_read_far(dim, kind):
    gates = KINDS[kind].gates
    near = gates_inputs(2, 2, 2, gates.num_preacts)
    far = [spread(x, dim) for x in near]

    def run(p, h, flags, dh):
        call = Call(p, p, None, flags)
        state, last = gates_forward.gates_scan_forward(p, call, gates)
        return state, last, gates_backward.gates_scan_backward(p, call, gates, h, dh, None)[0]

    assert_equal(run(*far), run(*near))


@pytest.mark.parametrize("kind", ["linear", "lstm"])
def test_gates_write_far(kind):
    steps, gates = 3, KINDS[kind].gates
    p, h, flags, dh = gates_inputs(1, 2, steps, gates.num_preacts)
    call = Call(p, p, None, flags)
    last, state, dp = torch.empty(1, 2, 1, H), torch.empty_like(h), torch.empty_like(p)
    (forward,) = gates_forward.forward_launches(p, call, gates, state, last)
    (backward,) = gates_backward.backward_launches(p, call, gates, h, dh, None, dp, None)
    forward.run(), backward.run()
    many = 2 * FAR_STEPS // gates.num_preacts  # dp is the wider one, and of the same size
    far_state, far_dp = rows_far(H, steps=many), rows_far(gates.num_preacts * H, steps=many)
    run_into(forward, T=many, h_ptr=far_state)
    run_into(backward, T=many, dp_ptr=far_dp)
    assert_equal([far_state[:, :steps], far_dp[:, :steps]], [state[0], dp[0]])


# ---- grouped linear ----


@pytest.mark.parametrize("D", [1, H])
@pytest.mark.parametrize("dim", [0, 1], ids=("terms", "rows"))
def test_grouped_linear_reads_far(D, dim):
    x, dy, weight = normal(2, 2, D), normal(2, 2, H), normal(2, D, H)

    def run(x, dy):
        y = kernels.grouped_linear_forward(x, weight, None, "relu")
        return y, *kernels.grouped_linear_backward(x, weight, None, "relu", dy)[:2]

    assert_equal(run(spread(x, dim), spread(dy, dim)), run(x, dy))


@pytest.mark.parametrize("D", [1, H])
def test_grouped_linear_writes_far(D):
    rows, many = 3, APART // D
    x, dy, weight, y = normal(2, rows, D), normal(2, rows, H), normal(2, D, H), normal(2, rows, H)
    forward = linear_forward.forward_launch(x, weight, None, None, y, "ieee")
    backward = linear_backward.backward_launch(x, weight, None, None, dy, "ieee", needs=(True, True, False))
    forward.run(), backward.run()
    far_y, far_dx = rows_far(H), reserve(2, many, D, dtype=BF16)
    run_into(forward, N=FAR_STEPS, span=rows, y_ptr=far_y)
    run_into(backward, N=many, span=rows, dx_ptr=far_dx)
    assert_equal([far_y[:, :rows], far_dx[:, :rows]], [y, backward.arguments["dx_ptr"]])


# ---- feed-forward ----


@pytest.mark.parametrize("D", [1, H])
@pytest.mark.parametrize("dim", [0, 1], ids=("terms", "rows"))
def test_feed_forward_reads_far(D, dim):
    x, h, dy, params = normal(2, 2, D), normal(2, 2, D), normal(2, 2, D), normal(2, 2 * D * D + 4 * D)

    def run(x, h, dy):
        return kernels.feed_forward_forward(x, params, h), *kernels.feed_forward_backward(x, params, h, dy)

    assert_equal(run(*(spread(t, dim) for t in (x, h, dy))), run(x, h, dy))


@pytest.mark.parametrize("D", [1, H])
def test_feed_forward_writes_far(D):
    rows, many = 3, APART // D
    x, h, dy, params = normal(2, rows, D), normal(2, rows, D), normal(2, rows, D), normal(2, 2 * D * D + 4 * D)
    y = torch.empty_like(x)
    forward = feed_forward_forward.forward_launch(x, params, h, y)
    backward = feed_forward_backward.backward_launch(x, params, h, dy, needs=(True, False, True))
    forward.run(), backward.run()
    far_y, far_dx, far_dh = (reserve(2, many, D, dtype=BF16) for _ in range(3))
    run_into(forward, N=many, span=rows, y_ptr=far_y)
    run_into(backward, N=many, span=rows, dx_ptr=far_dx, dh_ptr=far_dh)
    near = y, backward.arguments["dx_ptr"], backward.arguments["dh_ptr"]
    assert_equal([far[:, :rows] for far in (far_y, far_dx, far_dh)], near)


# ---- the fused layer ----


@pytest.mark.parametrize("dim", [0, 1, 2], ids=("terms", "batch rows", "steps"))
def test_min_gru_reads_far(dim):
    given = min_gru_inputs(Case(F=2, B=2, T=2, D=H, H=H, dtype=BF16, config=CONFIG, flags="own"))

    def run(x, flags, dh):
        call = Call(x, given.weight, None, flags)
        h, last = kernels.recurrence_forward(call, MIN_GRU, config=CONFIG)
        gradients = kernels.recurrence_backward(call, MIN_GRU, h, dh, None, config=CONFIG)
        return h, last, *gradients[:2]

    near = given.x, given.flags, given.dh
    assert_equal(run(*(spread(t, dim) for t in near)), run(*near))


def test_min_gru_writes_far():
    steps = 3
    given = min_gru_inputs(Case(F=1, B=2, T=steps, D=H, H=H, dtype=BF16, config=CONFIG))
    h, last, dx = torch.empty_like(given.dh), torch.empty(1, 2, 1, H), torch.empty_like(given.x)
    call = given.call(h0=None)
    (forward,) = min_gru_forward.forward_launches(call, h, last, config=CONFIG)
    forward.run()
    (backward,), _ = min_gru_backward.backward_launches(call, h, given.dh, None, dx, None, True, config=CONFIG)
    backward.run()
    far_h, far_dx = rows_far(H), rows_far(H)
    run_into(forward, T=FAR_STEPS, h_ptr=far_h)
    run_into(backward, T=FAR_STEPS, h_ptr=far_h, dx_ptr=far_dx)
    assert_equal([far_h[:, :steps], far_dx[:, :steps]], [h[0], dx[0]])
