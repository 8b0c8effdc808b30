"""`rnam.Linear`: parameters, state, dtypes and the original's modules."""

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import rnam
from rnam.functional import grouped_linear
from rnam.linear import Linear
from tests.support import bounds
from tests.support.assertions import assert_within


def test_parameters() -> None:
    layer = rnam.Linear(300, 4, 5)
    assert {n: tuple(p.shape) for n, p in layer.named_parameters()} == {
        "weight": (300, 4, 5),
        "bias": (300, 1, 5),
    }
    for p in layer.parameters():
        # uniform in +-1/2: 1500 draws or more reach 0.98 of the bound but with probability 1e-13
        assert p.abs().max() > 0.49
        assert_within("parameter", p, 0.0, 1 / math.sqrt(4))
        # the mean of n uniform numbers has standard deviation 1/2 / sqrt(3 n)
        assert abs(p.mean()) < 5 * 0.5 / math.sqrt(3 * p.numel())


def test_seed_gives_the_weight_first() -> None:
    torch.manual_seed(3)
    layer = rnam.Linear(2, 4, 5)
    torch.manual_seed(3)
    weight, bias = torch.empty(2, 4, 5).uniform_(-0.5, 0.5), torch.empty(2, 1, 5).uniform_(-0.5, 0.5)
    assert torch.equal(layer.weight, weight)
    assert torch.equal(layer.bias, bias)
    torch.manual_seed(3)
    layer.reset_parameters()
    assert torch.equal(layer.weight, weight)


def test_sizes_may_be_numpy_integers() -> None:
    layer = rnam.Linear(*np.array([3, 4, 5]))
    assert layer.weight.shape == (3, 4, 5)
    assert type(layer.in_dim) is int


def test_is_torch_linear_per_term() -> None:
    layer = rnam.Linear(3, 4, 5, dtype=torch.float64)
    for middle in ((7,), (2, 7), (2, 3, 7)):
        x = torch.randn(3, *middle, 4, dtype=torch.float64)
        expected = [nn.functional.linear(x[f], layer.weight[f].T, layer.bias[f, 0]) for f in range(3)]
        bounds.assert_same(layer(x), torch.stack(expected))


@pytest.mark.kernels
def test_without_bias() -> None:
    layer = rnam.Linear(3, 4, 5, bias=False)
    assert layer.bias is None
    assert list(layer.state_dict()) == ["weight"]
    bounds.assert_same(layer(torch.ones(3, 2, 4)), layer.weight.sum(1, keepdim=True).expand(3, 2, 5))


def test_state_and_copies() -> None:
    layer, x = rnam.Linear(3, 4, 5), torch.randn(3, 2, 4)
    assert list(layer.state_dict()) == ["weight", "bias"]
    other = rnam.Linear(3, 4, 5)
    other.load_state_dict(layer.state_dict())
    for same in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(same(x), layer(x))


def test_a_module_of_the_original_runs() -> None:
    """The original's objects held in_dim, out_dim, weight and bias and nothing else."""
    original = Linear.__new__(Linear)
    nn.Module.__init__(original)
    original.in_dim, original.out_dim = 4, 5
    original.weight, original.bias = nn.Parameter(torch.randn(3, 4, 5)), None
    without = pickle.loads(pickle.dumps(original))
    assert without(torch.randn(3, 2, 4)).shape == (3, 2, 5)
    original.bias = nn.Parameter(torch.randn(3, 1, 5))
    loaded = pickle.loads(pickle.dumps(original))
    assert type(loaded).__module__ == "rnam.linear"
    assert loaded(torch.randn(3, 2, 4)).shape == (3, 2, 5)
    assert repr(loaded) == "Linear(terms=3, in_dim=4, out_dim=5, bias=True)"
    loaded.reset_parameters()


def test_meta_device_and_dtype() -> None:
    layer = rnam.Linear(3, 4, 5, device="meta", dtype=torch.bfloat16)
    assert layer.weight.is_meta
    out = layer(torch.empty(3, 2, 4, device="meta", dtype=torch.bfloat16))
    assert (out.shape, out.dtype, out.device.type) == ((3, 2, 5), torch.bfloat16, "meta")
    made = layer.to_empty(device="cpu")
    made.reset_parameters()
    assert made(torch.ones(3, 2, 4, dtype=torch.bfloat16)).isfinite().all()


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(dtype: torch.dtype) -> None:
    layer = rnam.Linear(3, 4, 5).to(dtype)
    x = torch.randn(3, 2, 4).to(dtype).requires_grad_()
    out = layer(x)
    out.float().sum().backward()
    assert out.dtype == dtype
    assert {x.grad.dtype, layer.weight.grad.dtype, layer.bias.grad.dtype} == {dtype}


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype: torch.dtype) -> None:
    layer, x = rnam.Linear(3, 4, 5), torch.randn(3, 2, 4)
    with torch.autocast("cpu", dtype=dtype):
        out = layer(x)
        again = layer(out[..., :4])
    assert (out.dtype, again.dtype) == (dtype, dtype)
    rounded = [t.detach().to(dtype).double() for t in (x, layer.weight)] + [layer.bias.detach().double()]
    exact, size = (a @ b + c for a, b, c in (rounded, [t.abs() for t in rounded]))
    # five terms summed in float32, then one rounding
    limit = 6 * 2.0**-24 * size + bounds.unit(dtype) * exact.abs()
    assert_within("out", out, exact, limit)
    out.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    with torch.autocast("cpu", dtype=dtype):
        assert rnam.Linear(3, 4, 5, dtype=torch.float64)(x.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 4, 5), ValueError, "terms must be at least 1, got 0"),
        ((3, -4, 5), ValueError, "in_dim must be at least 1, got -4"),
        ((3, 4, 0), ValueError, "out_dim must be at least 1, got 0"),
        ((3, 4.0, 5), TypeError, "in_dim must be an int, got float"),
        ((True, 4, 5), TypeError, "terms must be an int, got bool"),
        ((3, 4, 5, "no"), TypeError, "bias must be True or False, got str"),
        (
            (3, 4, 5, True, None, torch.int64),
            TypeError,
            "dtype must be None or one of float32, .*, got int64",
        ),
    ],
)
def test_bad_sizes(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rnam.Linear(*arguments)


@pytest.mark.kernels
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_activation(activation: Any) -> None:
    plain = Linear(3, 4, 5)
    layer = Linear(3, 4, 5, activation=activation)
    layer.load_state_dict(plain.state_dict())
    assert f"activation={activation}" in repr(layer)
    assert "activation" not in repr(plain)
    x = torch.randn(3, 6, 4)
    bounds.assert_same(layer(x), getattr(torch.nn.functional, activation)(plain(x)))


def test_activation_of_no_such_name() -> None:
    with pytest.raises(ValueError, match="activation must be one of None, 'relu', 'gelu', 'silu', got 'tanh'"):
        Linear(3, 4, 5, activation="tanh")  # type: ignore[arg-type]


def test_a_layer_pickled_before_there_were_activations() -> None:
    layer = Linear(3, 4, 5)
    del layer.__dict__["activation"]
    again = pickle.loads(pickle.dumps(layer))
    x = torch.randn(3, 6, 4)
    assert torch.equal(again(x), layer(x))
    assert again.activation is None


@pytest.mark.kernels
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize(("dim", "hidden"), [(4, 5), (40, 40)])
def test_out(dim: int, hidden: int, contiguous: bool) -> None:
    """In memory that is there, whatever stands in it."""
    x, w, b = torch.randn(3, 2, 6, dim), torch.randn(3, dim, hidden), torch.randn(3, 1, hidden)
    memory = torch.full((3, 2, 6, hidden * 2), torch.nan)
    out = memory[..., :hidden].contiguous() if contiguous else memory[..., ::2]
    got = grouped_linear(x, w, b, "silu", out=out)
    assert got is out
    assert torch.equal(out, grouped_linear(x, w, b, "silu"))
    assert contiguous or memory[..., 1::2].isnan().all()


def test_out_that_does_not_fit() -> None:
    x, w = torch.randn(3, 6, 4), torch.randn(3, 4, 5, requires_grad=True)
    for out, error, match in (
        (torch.empty(3, 6, 4), ValueError, r"out must have shape .* = \(3, 6, 5\), got \(3, 6, 4\)"),
        (torch.empty(3, 6, 5).double(), TypeError, "out must be float32 to go with input, got float64"),
        (torch.empty(3, 6, 5), RuntimeError, "out must be None where a gradient is recorded"),
    ):
        with pytest.raises(error, match=match):
            grouped_linear(x, w, out=out)
    with torch.no_grad():
        grouped_linear(x, w, out=torch.empty(3, 6, 5))
