"""grouped_linear in the Triton interpreter against float64."""

import pytest
import torch
import triton
import triton.language as tl

from rnam import kernels
from rnam.kernels import grouped_linear_backward, grouped_linear_forward
from rnam.kernels.common.activations import activate, activation_slope
from rnam.kernels.linear.config import select_linear, uses_kernel
from tests.support.assertions import assert_equal, assert_within
from tests.support.scan_bounds import ROUNDOFF, SMALLEST, assert_gradient

pytestmark = [
    pytest.mark.interpreter,
    # silu of a large negative number: exp2 saturates to inf and its reciprocal to 0.
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ACTIVATIONS = (None, *kernels.ACTIVATIONS)
WIDTHS = (
    (1, 1),
    (1, 32),
    (2, 5),
    (2, 128),
    (3, 1),
    (5, 3),
    (8, 8),
    (16, 16),
    (17, 31),
    (32, 32),
    (32, 1),
    (33, 7),
    (40, 70),
)
ROWS = (1, 75, 16, 33, 64)

# Each width in every dtype, the other flags in steps that meet in pairs.
CASES = [
    (D, H, ROWS[(i + j) % 5], dtype, ACTIVATIONS[(i + 2 * j) % 4], (i + j) % 2 == 0)
    for i, (D, H) in enumerate(WIDTHS) for j, dtype in enumerate(DTYPES)
]  # fmt: skip


@triton.jit
def _activation_kernel(x_ptr, FUNCTION: tl.constexpr, NAME: tl.constexpr):
    at = x_ptr + tl.arange(0, 16)
    tl.store(at, FUNCTION(tl.load(at), NAME))


def inputs(F, N, D, H, dtype, with_bias=True):
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(F, N, n, generator=generator).to(dtype) for n in (D, H))
    weight = (torch.randn(F, D, H, generator=generator) * D**-0.5).to(dtype)
    bias = torch.randn(F, 1, H, generator=generator).to(dtype) if with_bias else None
    return x, weight, bias, dy


def layer(x, weight, bias, activation):
    y = x @ weight if bias is None else x @ weight + bias
    return y if activation is None else getattr(torch.nn.functional, activation)(y)


def in_dtype(x, weight, bias, dy, activation, kind):
    """y and its gradients by PyTorch in dtype `kind`."""
    leaves = [t.to(kind).requires_grad_() for t in (x, weight, bias) if t is not None]
    y = layer(*leaves, *([None] if bias is None else []), activation)
    return [t.detach() for t in (y, *torch.autograd.grad(y, leaves, dy.to(kind)))]


def check(x, weight, bias, dy, activation):
    want, same = (
        in_dtype(x, weight, bias, dy, activation, torch.float64),
        in_dtype(x, weight, bias, dy, activation, x.dtype),
    )
    y = grouped_linear_forward(x, weight, bias, activation, precision="ieee")
    assert y.dtype == x.dtype
    # A sum of D products: D roundings of the sum of their sizes, then a slope of at most 1.13 (gelu), then the rounding
    # of y.
    size = layer(x.double().abs(), weight.double().abs(), None if bias is None else bias.double().abs(), None)
    steps = x.shape[2] + 4
    budget = 1.13 * steps * ROUNDOFF[torch.float32] * size + ROUNDOFF[x.dtype] * want[0].abs() + SMALLEST[x.dtype]
    if not uses_kernel(x.shape[2], weight.shape[2]):
        budget += (
            2 * (same[0].double() - want[0]).abs()
        )  # PyTorch's own rounding, between product and activation as well
    assert_within("y", y, want[0], budget)
    grads = grouped_linear_backward(x, weight, bias, activation, dy, precision="ieee")
    for name, got, ref, other in zip(("dx", "dw", "db"), grads, want[1:], same[1:], strict=False):
        assert_gradient(name, got, ref, other)
    assert (grads[2] is None) == (bias is None)
    return grads


@pytest.mark.parametrize(("D", "H", "N", "dtype", "activation", "with_bias"), CASES)
def test_parity(D, H, N, dtype, activation, with_bias):
    check(*inputs(2, N, D, H, dtype, with_bias), activation)


@pytest.mark.parametrize("D", [1, 2, 8])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_several_programs_per_layer(D, activation):
    x, weight, bias, dy = inputs(2, 301, D, 3, torch.float32)  # 240 rows per program in the backward
    assert select_linear(2, 301, D, 3, 4, backward=True).span < 301
    check(x, weight, bias, dy, activation)


@pytest.mark.parametrize("D", [1, 8])
@pytest.mark.parametrize("layout", ["transposed", "sliced", "wide", "expanded"])
def test_strided_operands_and_gradients(layout, D):
    x, weight, bias, dy = inputs(3, 18, D, 8, torch.float32)

    def lay(t):
        if layout == "transposed":
            return t.mT.contiguous().mT
        if layout == "sliced":
            return torch.stack([t, torch.full_like(t, torch.nan)], 2).flatten(1, 2)[:, ::2]
        if layout == "wide":
            return torch.cat([t, torch.full_like(t, torch.nan)], -1)[..., : t.shape[-1]]
        return t[:1, :1].expand(t.shape)

    check(lay(x), lay(weight), lay(bias), lay(dy), "gelu")
    check(lay(x), weight, bias, torch.ones(()).expand(dy.shape), None)


def test_float32_weight_of_half_precision_inputs():
    x, weight, bias, dy = inputs(2, 40, 8, 5, torch.bfloat16)
    precise = weight.float()
    grads = grouped_linear_backward(x, precise, bias.float(), "silu", dy)
    assert [g.dtype for g in grads] == [torch.bfloat16, torch.float32, torch.float32]
    assert torch.equal(
        grouped_linear_forward(x, precise, bias.float(), "silu"), grouped_linear_forward(x, weight, bias, "silu")
    )


@pytest.mark.parametrize(("D", "H"), [(1, 5), (8, 5), (40, 5)])
@pytest.mark.parametrize("activation", [None, "silu"])
def test_only_what_is_needed(D, H, activation):
    x, weight, bias, dy = inputs(2, 40, D, H, torch.float32)
    full = grouped_linear_backward(x, weight, bias, activation, dy)
    for i in range(3):
        needs = tuple(j == i for j in range(3))
        got = grouped_linear_backward(x, weight, bias, activation, dy, needs=needs)
        assert tuple(g is not None for g in got) == needs
        assert torch.equal(got[i], full[i])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_and_infinity(activation):
    x, weight, bias, _ = inputs(1, 4, 2, 3, torch.float32)
    x[0, 1, 0] = torch.nan
    x[0, 2, 1] = 1e30
    y = grouped_linear_forward(x, weight, bias, activation)
    torch.testing.assert_close(y, layer(x, weight, bias, activation), equal_nan=True, rtol=1e-5, atol=1e-6)
    assert y[0, 1].isnan().all()


@pytest.mark.parametrize(("F", "N"), [(2, 0), (0, 3)])
def test_empty(F, N):
    x, weight, bias, dy = (torch.randn(F, *s) for s in ((N, 4), (4, 3), (1, 3), (N, 3)))
    assert grouped_linear_forward(x, weight, bias).shape == dy.shape
    dx, dw, db = grouped_linear_backward(x, weight, bias, None, dy)
    assert (
        dx.shape == x.shape
        and dw.shape == weight.shape
        and db.shape == bias.shape
        and (dw == 0).all()
        and (db == 0).all()
    )


def test_repeatable():
    x, weight, bias, dy = inputs(2, 700, 8, 3, torch.float32)
    assert_equal("gradients", *(grouped_linear_backward(x, weight, bias, "relu", dy) for _ in range(2)))


@pytest.mark.parametrize(("D", "H"), [(4, 3), (40, 3)])  # a kernel, and cuBLAS
def test_an_activation_that_is_not_in_the_table_is_refused_by_name(D, H):
    x, weight, bias, dy = inputs(1, 3, D, H, torch.float32)
    match = r"activation: expected None or one of \('relu', 'gelu', 'silu'\), got 'tanh'"
    with pytest.raises(ValueError, match=match):
        grouped_linear_forward(x, weight, bias, "tanh")
    with pytest.raises(ValueError, match=match):
        grouped_linear_backward(x, weight, bias, "tanh", dy)


@pytest.mark.parametrize("function", [activate, activation_slope])
def test_an_activation_without_a_formula_does_not_pass_as_another(function):
    """Behind the host's check."""
    with pytest.raises(Exception, match="without a formula"):
        _activation_kernel[(1,)](torch.ones(16), FUNCTION=function, NAME="tanh")


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize(("D", "H"), [(1, 32), (2, 128), (8, 8), (32, 32)])
def test_partials_stay_under_a_twentieth_of_x(D, H, itemsize):
    F, N = 8, 200_000
    config = select_linear(F, N, D, H, itemsize, backward=True)
    partials = F * -(-N // config.span) * D * H * 4
    assert partials <= F * N * D * itemsize / 20
