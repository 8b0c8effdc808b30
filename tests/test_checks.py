"""Bad arguments of the functions: the error names the argument, what was expected and what came."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rnam.functional import grouped_linear, linear_scan, log_scan, min_gru

X = torch.zeros(2, 3, 5, 4)
W = torch.zeros(2, 4, 12)
H0 = torch.zeros(2, 3, 1, 6)
MASK = torch.ones(2, 3, 5, dtype=torch.bool)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input": [1.0]}, TypeError, "input must be a tensor, got list"),
        (
            {"input": X.long()},
            TypeError,
            "input must be a float32, float64, bfloat16 or float16 tensor, got int64",
        ),
        ({"input": X.to(torch.complex64)}, TypeError, "input must be .*, got complex64"),
        ({"input": X[0]}, ValueError, r"input must have shape \(terms, batch, seq, dim\), got \(3, 5, 4\)"),
        (
            {"input": X[:1]},
            ValueError,
            r"input must have 2 terms and width 4 .* \(2, 4, 12\), got \(1, 3, 5, 4\)",
        ),
        ({"input": X[..., :3]}, ValueError, r"input must have 2 terms and width 4 .*, got \(2, 3, 5, 3\)"),
        ({"input": X.to_sparse()}, TypeError, "input must be a strided tensor, got sparse_coo"),
        ({"input": X.double()}, TypeError, "weight must be float64 to go with input, got float32"),
        ({"input": X.to("meta")}, ValueError, "weight must be on meta as input is, got cpu"),
        ({"weight": None}, TypeError, "weight must be a tensor, got NoneType"),
        ({"weight": W[0]}, ValueError, r"weight must have shape \(terms, dim, 2 \* hidden\), got \(4, 12\)"),
        ({"weight": W[..., :11]}, ValueError, r"weight must have shape \(terms, dim, 2 \* hidden\), got \(2, 4, 11\)"),
        ({"weight": W[..., :0]}, ValueError, r"weight must have no dimension of size 0, got \(2, 4, 0\)"),
        ({"weight": W.half()}, TypeError, "weight must be float32 to go with input, got float16"),
        ({"h0": H0[..., :5]}, ValueError, r"h0 must have shape .* = \(2, 3, 1, 6\), got \(2, 3, 1, 5\)"),
        ({"h0": H0[:, :, 0]}, ValueError, r"h0 must have shape \(terms, batch, 1, hidden\)"),
        ({"h0": H0.double()}, TypeError, "h0 must be float32 to go with input, got float64"),
        ({"h0": H0.long()}, TypeError, "h0 must be a float32.*got int64"),
        ({"h0": H0.to("meta")}, ValueError, "h0 must be on cpu as input is, got meta"),
        ({"h0": 0.0}, TypeError, "h0 must be a tensor, got float"),
        ({"mask": MASK.float()}, TypeError, "mask must be a bool tensor, got float32"),
        (
            {"mask": MASK[..., :4]},
            ValueError,
            r"mask must be broadcastable to .* = \(2, 3, 5\), got \(2, 3, 4\)",
        ),
        ({"mask": MASK[None]}, ValueError, r"mask must be broadcastable to .*, got \(1, 2, 3, 5\)"),
        ({"mask": True}, TypeError, "mask must be a tensor, got bool"),
        ({"mask": MASK.to("meta")}, ValueError, "mask must be on cpu as input is, got meta"),
        ({"reset": MASK.int()}, TypeError, "reset must be a bool tensor, got int32"),
        ({"reset": MASK[:, :2]}, ValueError, r"reset must be broadcastable to .*, got \(2, 2, 5\)"),
        ({"space": "exp"}, ValueError, "space must be one of 'linear', 'log', got 'exp'"),
    ],
)
def test_min_gru(change: dict, error: type[Exception], message: str) -> None:
    arguments = {"input": X, "weight": W, "h0": H0, "mask": MASK, "reset": MASK, "space": "linear"} | change
    with pytest.raises(error, match=message):
        min_gru(**arguments)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input": X[0, 0]}, ValueError, r"input must have shape \(terms, \*, in_dim\), got \(5, 4\)"),
        ({"input": "x"}, TypeError, "input must be a tensor, got str"),
        (
            {"weight": W[:1]},
            ValueError,
            r"input must have 1 terms and width 4 to go with weight .*, got \(2, 3",
        ),
        ({"weight": W[:, :0]}, ValueError, "weight must have no dimension of size 0"),
        ({"weight": W.double()}, TypeError, "weight must be float32 .*, got float64"),
        ({"bias": W[:, :1, :3]}, ValueError, r"bias must have shape .* = \(2, 1, 12\), got \(2, 1, 3\)"),
        ({"bias": W[:, 0]}, ValueError, r"bias must have shape \(terms, 1, out_dim\)"),
        ({"bias": W[:, :1].double()}, TypeError, "bias must be float32 .*, got float64"),
        ({"bias": W[:, :1].to("meta")}, ValueError, "bias must be on cpu as input is, got meta"),
        (
            {"activation": np.ones(2)},
            ValueError,
            "activation must be one of None",
        ),
        (
            {"activation": "tanh"},
            ValueError,
            "activation must be one of None, 'relu', 'gelu', 'silu', got 'tanh'",
        ),
    ],
)
def test_grouped_linear(change: dict, error: type[Exception], message: str) -> None:
    arguments = {"input": X, "weight": W, "bias": W[:, :1], "activation": None} | change
    with pytest.raises(error, match=message):
        grouped_linear(**arguments)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            (X[..., :3], X, None),
            ValueError,
            r"{0}coeffs must have shape .* = \(2, 3, 5, 4\), got \(2, 3, 5, 3\)",
        ),
        (
            (X[0, 0, 0], X[0, 0, 0], None),
            ValueError,
            r"{0}values must have shape \(..., seq, dim\), got \(4,\)",
        ),
        ((X.double(), X, None), TypeError, "{0}coeffs must be float32 to go with {0}values, got float64"),
        ((X.to("meta"), X, None), ValueError, "{0}coeffs must be on cpu as {0}values is, got meta"),
        ((X, X.bool(), None), TypeError, "{0}values must be a float32.*got bool"),
        (
            (X, X, X),
            ValueError,
            r"{0}h0 must have shape \(..., 1, dim\) = \(2, 3, 1, 4\), got \(2, 3, 5, 4\)",
        ),
        ((X, X, X[:, :, :1].half()), TypeError, "{0}h0 must be float32 to go with {0}values, got float16"),
    ],
)
def test_scans(change: tuple[Tensor, ...], error: type[Exception], message: str) -> None:
    for scan, prefix in ((linear_scan, ""), (log_scan, "log_")):
        with pytest.raises(error, match=message.replace("{0}", prefix)):
            scan(*change)


def test_a_state_may_be_float32_or_of_the_input() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        for start in {dtype, torch.float32}:
            x, w, h0 = (t.to(d) for t, d in ((X, dtype), (W, dtype), (H0, start)))
            assert min_gru(x, w, h0)[0].dtype == dtype
            assert linear_scan(x, x, h0[..., :4]).dtype == dtype
            assert log_scan(x, x, h0[..., :4]).dtype == dtype


def test_under_autocast_float64_is_not_cast() -> None:
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(TypeError, match="weight must be float64"),
    ):
        min_gru(X.double(), W)
