"""grouped_linear as compiled code: what it costs on four architectures, and its results on a CPU."""

import pytest
import torch

from rnam.kernels import grouped_linear_backward, grouped_linear_forward
from rnam.kernels.linear.backward import backward_launch
from rnam.kernels.linear.config import BACKWARD_SPILLS
from rnam.kernels.linear.forward import forward_launch
from tests.kernels.test_grouped_linear_interpreter import ACTIVATIONS, in_dtype, inputs
from tests.support.assertions import assert_norm_within, assert_within
from tests.support.bounds import PRODUCT_ERROR
from tests.support.compiled import compiled_code
from tests.support.scan_bounds import ROUNDOFF, SMALLEST
from tools.ptx.compile import ARCHITECTURES, compile_launch
from tools.ptx.sass import load_bits, usage

pytestmark = pytest.mark.compiled

FLOAT32, BFLOAT16, FLOAT16 = torch.float32, torch.bfloat16, torch.float16


def launches(D, H, dtype, activation, precision="tf32x3", N=100_000):
    """(forward, backward) of one layer with contiguous inputs."""
    x, y = torch.empty(1, N, D, dtype=dtype), torch.empty(1, N, H, dtype=dtype)
    weight, bias = torch.empty(1, D, H), torch.empty(1, 1, H)
    precision = precision if dtype == FLOAT32 else "ieee"
    backward = backward_launch(x, weight, bias, activation, y, precision, needs=(True, True, True))
    return forward_launch(x, weight, bias, activation, y, precision), backward


VARIANTS = [
    (1, 32, FLOAT32, "relu"),
    (8, 8, FLOAT32, "relu"),
    (32, 32, FLOAT32, "gelu"),
    (32, 32, BFLOAT16, "silu"),
    (32, 1, FLOAT32, None),
]
SLOW_VARIANTS = [
    (D, H, dtype, activation)
    for D, H in ((1, 1), (1, 128), (2, 64), (2, 128), (3, 5), (16, 16), (16, 32), (32, 16), (32, 32), (32, 1))
    for dtype in (FLOAT32, BFLOAT16, FLOAT16)
    for activation in ACTIVATIONS
]


def assert_no_spill(D, H, dtype, activation):
    for launch, allowed in zip(launches(D, H, dtype, activation), (0, BACKWARD_SPILLS), strict=True):
        for cc in ARCHITECTURES:
            found = usage(compile_launch(launch, cc))
            assert found.spills <= allowed and (found.stack == 0 or allowed), (
                f"{launch.kernel.__name__} sm_{cc}: {found}"
            )


@pytest.mark.parametrize(("D", "H", "dtype", "activation"), VARIANTS)
def test_no_spill(D, H, dtype, activation):
    assert_no_spill(D, H, dtype, activation)


@pytest.mark.slow
@pytest.mark.parametrize(("D", "H", "dtype", "activation"), SLOW_VARIANTS)
def test_no_spill_slow(D, H, dtype, activation):
    assert_no_spill(D, H, dtype, activation)


@pytest.mark.parametrize(("D", "H", "dtype", "activation"), VARIANTS[1:4])
def test_loads_are_16_bytes_wide(D, H, dtype, activation):
    for launch in launches(D, H, dtype, activation):
        loads = usage(compile_launch(launch, 90)).loads
        assert {load_bits(op) for op in loads} == {128}, loads


@pytest.mark.parametrize(
    ("D", "H", "N", "dtype", "activation", "precision"),
    [
        (1, 5, 70, FLOAT32, "gelu", "ieee"),
        (2, 16, 33, FLOAT16, "relu", "ieee"),
        (8, 8, 75, FLOAT32, "silu", "tf32x3"),
        (17, 31, 33, FLOAT32, None, "tf32"),
        (32, 32, 64, FLOAT32, "relu", "tf32x3"),
        (32, 1, 40, BFLOAT16, "gelu", "ieee"),
        (5, 32, 16, FLOAT16, None, "ieee"),
    ],
)
def test_results_as_compiled(D, H, N, dtype, activation, precision):
    x, weight, bias, dy = inputs(2, N, D, H, dtype)
    if activation == "relu":  # its slope jumps at 0: no y where a rounding could change its sign
        y = x.double() @ weight.double() + bias.double()
        dy = torch.where(y.abs() < 0.02, 0.0, dy)
    want, same = (in_dtype(x, weight, bias, dy, activation, kind) for kind in (torch.float64, dtype))
    with compiled_code() as ran:
        y = grouped_linear_forward(x, weight, bias, activation, precision=precision)
        grads = grouped_linear_backward(x, weight, bias, activation, dy, precision=precision)
    assert len(ran) == 2
    size = x.double().abs() @ weight.double().abs() + bias.double().abs()
    product = PRODUCT_ERROR[precision if D > 2 else "ieee"]
    budget = 1.13 * ((D + 8) * ROUNDOFF[FLOAT32] + product) * size + ROUNDOFF[dtype] * want[0].abs() + SMALLEST[dtype]
    assert_within("y", y, want[0], budget)
    for name, got, ref, other in zip(("dx", "dw", "db"), grads, want[1:], same[1:], strict=True):
        # A gradient is a sum of products with e = dy act'(y): the error of e, from y's, and that of the products
        # themselves.
        band = 2 * ROUNDOFF[dtype] if dtype != FLOAT32 else 2e-6 + 3 * product
        assert_norm_within(name, got, ref, 2 * (other.double() - ref).norm() + band * ref.norm())


def test_tf32_is_exact_on_tf32_inputs():
    x, weight, bias, dy = (t.bfloat16().float() for t in inputs(1, 40, 8, 8, FLOAT32))
    want = in_dtype(x, weight, bias, dy, None, torch.float64)
    with compiled_code():
        got = (
            grouped_linear_forward(x, weight, bias, precision="tf32"),
            *grouped_linear_backward(x, weight, bias, None, dy, precision="tf32"),
        )
    for name, a, b in zip(("y", "dx", "dw", "db"), got, want, strict=True):
        assert_norm_within(name, a, b, 1e-6 * b.norm())
