"""The functions behind the layers: arguments are checked here, then the work is done by a backend.

terms     independent networks, one per feature; the first dimension of every tensor of a layer
batch     rows (people, series); seq: steps in time; dim, hidden: widths
states    (terms, batch, 1, hidden), so that they concatenate with a sequence along seq

float32, float64, bfloat16 and float16; the last two are computed in float32 and rounded once, at the
end. Every function is differentiable in every floating argument, twice. Under torch.autocast `input` is
cast as torch.nn.functional.linear casts it, and a float32 weight is rounded to it; a bias is not rounded.
"""

from __future__ import annotations

import contextlib
from typing import Literal

import torch
from torch import Tensor

from rnam import _checks, reference

__all__ = ["grouped_linear", "linear_scan", "log_scan", "min_gru"]

Activation = Literal["relu", "gelu", "silu"]


def grouped_linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation | None = None
) -> Tensor:
    """One linear layer per term: activation(input[f] @ weight[f] + bias[f]).

    Args:
        input: (terms, *, in_dim) with one or more middle dimensions, each of which may be 0.
        weight: (terms, in_dim, out_dim), the dtype of input. This is the transpose, per term, of
            torch.nn.Linear's weight.
        bias: (terms, 1, out_dim) or None.
        activation: None, "relu", "gelu" (the exact one, with erf) or "silu", applied before rounding.

    Returns:
        (terms, *, out_dim), the dtype of input.

    Raises:
        TypeError: an argument is no floating tensor, or the dtypes differ.
        ValueError: a shape, a device or the activation does not fit.

    Example:
        >>> weight, bias = torch.randn(3, 4, 5), torch.zeros(3, 1, 5)
        >>> grouped_linear(torch.randn(3, 8, 10, 4), weight, bias, "relu").shape
        torch.Size([3, 8, 10, 5])
    """
    _checks.floating("input", input)
    if input.dim() < 3:
        raise ValueError(f"input must have shape (terms, *, in_dim), got {tuple(input.shape)}")
    _check_weight(weight, input, "terms, in_dim, out_dim")
    if bias is not None:
        _checks.floating("bias", bias)
        _checks.shape("bias", bias, "terms, 1, out_dim", (weight.shape[0], 1, weight.shape[2]))
        _checks.device("bias", bias, input.device)
    _checks.one_of("activation", activation, (None, "relu", "gelu", "silu"))
    input = _autocast(input)
    _check_parameter_dtype("weight", weight, input)
    if bias is not None:
        _check_parameter_dtype("bias", bias, input)
    with _without_autocast(input):
        return reference.grouped_linear(input, weight, bias, activation)


def min_gru(
    input: Tensor,
    weight: Tensor,
    h0: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    space: Literal["linear", "log"] = "linear",
) -> tuple[Tensor, Tensor]:
    """One minGRU per term (arXiv 2410.01201, appendix B): projection, gates and scan.

        u, k = input[f] @ weight[f], cut in two        z_t = sigmoid(k_t), v_t = g(u_t)
        h_t = (1 - z_t) h_{t-1} + z_t v_t              g(u) = u + 1/2 if u >= 0 else sigmoid(u)

    g has slope 1 at u = 0. The same numbers come from one step, from chunks that hand on h_last and from
    the whole sequence, to rounding.

    Args:
        input: (terms, batch, seq, dim); batch and seq may be 0.
        weight: (terms, dim, 2 * hidden), the hidden half first, the dtype of input.
        h0: the state before the first step, (terms, batch, 1, hidden), float32 or the dtype of input.
            None is 0. It may be zero or negative.
        mask: bool, broadcastable to (terms, batch, seq), True = observed. At a masked step the state
            stays as it is whatever the input holds there, NaN included; its gradient is exactly 0 there
            and the weight gets none from it.
        reset: bool, broadcastable to (terms, batch, seq). Where True, the state before that step is 0, at
            the first step too (h0 is then ignored and gets no gradient). A reset acts before a mask: both
            at one step give 0. Finite values never cross a reset; infinities and NaN may.
        space: "linear" evaluates the recurrence as it stands. "log" evaluates the published log-space
            scan (arXiv 2311.06281) in a form that stays exact at any length; there a negative h0 gives
            NaN. Both are the same function with the same derivatives, and differ by rounding.

    Returns:
        h: (terms, batch, seq, hidden), the dtype of input.
        h_last: (terms, batch, 1, hidden), the state after the last step, h0 (or 0) where seq = 0. A tensor
            of its own; float32 for bfloat16 and float16 inputs, before rounding.

    Raises:
        TypeError: an argument is no tensor of a legal dtype, or the dtypes do not go together.
        ValueError: a shape, a device or the space does not fit. Values are never looked at.

    Example:
        >>> input, weight = torch.randn(3, 8, 10, 4), torch.randn(3, 4, 2 * 5)
        >>> h, h_last = min_gru(input, weight)
        >>> h.shape, h_last.shape
        (torch.Size([3, 8, 10, 5]), torch.Size([3, 8, 1, 5]))
    """
    _checks.floating("input", input)
    _checks.rank("input", input, "terms, batch, seq, dim")
    _check_weight(weight, input, "terms, dim, 2 * hidden")
    if weight.shape[2] % 2:
        raise ValueError(f"weight must have an even last dimension 2 * hidden, got {tuple(weight.shape)}")
    _checks.one_of("space", space, ("linear", "log"))
    terms, batch, seq, _ = input.shape
    for name, code in (("mask", mask), ("reset", reset)):
        if code is not None:
            _checks.boolean(name, code)
            _checks.broadcastable(name, code, "terms, batch, seq", (terms, batch, seq))
            _checks.device(name, code, input.device)
    input = _autocast(input)
    _check_parameter_dtype("weight", weight, input)
    if h0 is not None:
        _check_start("h0", h0, input, "terms, batch, 1, hidden", (terms, batch, 1, weight.shape[2] // 2))
    with _without_autocast(input):
        return reference.min_gru(input, weight, h0, mask, reset, space)


def linear_scan(coeffs: Tensor, values: Tensor, h0: Tensor | None = None) -> Tensor:
    """h_t = coeffs_t h_{t-1} + values_t, over dim -2.

    Long sequences are evaluated in pieces, so the product of the coefficients over any run of steps must
    stay finite (it does where they are at most 1 in magnitude); infinite products give NaN.

    Args:
        coeffs, values: (..., seq, dim), of one shape and dtype; any size may be 0.
        h0: the state before the first step, (..., 1, dim), float32 or the dtype of values. None is 0.

    Returns:
        h: the shape and dtype of values.

    Raises:
        TypeError: an argument is no floating tensor, or the dtypes do not go together.
        ValueError: a shape or a device does not fit.

    Example:
        >>> linear_scan(torch.full((3, 1), 0.5), torch.ones(3, 1)).flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """
    _check_scan({"coeffs": coeffs, "values": values}, "h0", h0)
    with _without_autocast(values):
        return reference.linear_scan(coeffs, values, h0)


def log_scan(log_coeffs: Tensor, log_values: Tensor, log_h0: Tensor | None = None) -> Tensor:
    """log h_t = logaddexp(log_coeffs_t + log h_{t-1}, log_values_t), over dim -2 (arXiv 2311.06281).

    This is linear_scan for positive numbers given by their logarithms, which may exceed the range of a
    float once exponentiated. -inf is legal in every argument: a coefficient of 0 (a reset), a value of 0,
    an empty state. With p_t = exp(log_coeffs_t + log h_{t-1} - log h_t) and q_t = 1 - p_t the gradients are

        G_t = g_t + p_{t+1} G_{t+1},  dlog_coeffs_t = p_t G_t,  dlog_values_t = q_t G_t,  dlog_h0 = p_1 G_1

    and p_t = q_t = 0 where log h_t = -inf: there every gradient is 0.

    Args:
        log_coeffs, log_values: (..., seq, dim), of one shape and dtype; any size may be 0.
        log_h0: (..., 1, dim), float32 or the dtype of log_values. None is -inf, the state 0.

    Returns:
        log_h: the shape and dtype of log_values.

    Raises:
        TypeError: an argument is no floating tensor, or the dtypes do not go together.
        ValueError: a shape or a device does not fit.

    Example:
        >>> log_scan(torch.full((3, 1), 0.5).log(), torch.zeros(3, 1)).exp().flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """
    _check_scan({"log_coeffs": log_coeffs, "log_values": log_values}, "log_h0", log_h0)
    with _without_autocast(log_values):
        return reference.log_scan(log_coeffs, log_values, log_h0)


def _check_weight(weight: Tensor, input: Tensor, layout: str) -> None:
    _checks.floating("weight", weight)
    _checks.rank("weight", weight, layout)
    if 0 in weight.shape:
        raise ValueError(f"weight must have no dimension of size 0, got {tuple(weight.shape)}")
    if weight.shape[0] != input.shape[0] or weight.shape[1] != input.shape[-1]:
        raise ValueError(
            f"weight must have shape ({layout}) with {input.shape[0]} terms and {input.shape[-1]} rows to "
            f"fit input {tuple(input.shape)}, got {tuple(weight.shape)}"
        )
    _checks.device("weight", weight, input.device)


def _check_parameter_dtype(name: str, value: Tensor, input: Tensor) -> None:
    if _autocast_enabled(input) and input.dtype in (torch.bfloat16, torch.float16):
        # autocast has just cast the input; parameters are rounded to it when they are read
        half_or_float32 = (input.dtype, torch.float32, torch.bfloat16, torch.float16)
        _checks.dtype(name, value, half_or_float32, "under autocast")
    else:
        _checks.dtype(name, value, (input.dtype,), "the dtype of input")


def _check_start(name: str, value: Tensor, like: Tensor, layout: str, expected: tuple[int, ...]) -> None:
    _checks.floating(name, value)
    _checks.shape(name, value, layout, expected)
    _checks.device(name, value, like.device)
    legal: tuple[torch.dtype, ...] = (
        (like.dtype,) if like.dtype == torch.float64 else (like.dtype, torch.float32)
    )
    if _autocast_enabled(like):
        legal += (torch.bfloat16, torch.float16)
    _checks.dtype(name, value, legal, "float32 or the dtype of the sequence")


def _check_scan(pair: dict[str, Tensor], start_name: str, start: Tensor | None) -> None:
    (coeffs_name, coeffs), (values_name, values) = pair.items()
    _checks.floating(coeffs_name, coeffs)
    _checks.floating(values_name, values)
    if values.dim() < 2:
        raise ValueError(f"{values_name} must have shape (..., seq, dim), got {tuple(values.shape)}")
    _checks.shape(coeffs_name, coeffs, f"the shape of {values_name}", values.shape)
    _checks.dtype(coeffs_name, coeffs, (values.dtype,), f"the dtype of {values_name}")
    _checks.device(coeffs_name, coeffs, values.device)
    if start is not None:
        _check_start(start_name, start, values, "..., 1, dim", (*values.shape[:-2], 1, values.shape[-1]))


def _autocast_enabled(x: Tensor) -> bool:
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def _autocast(input: Tensor) -> Tensor:
    """`input` as autocast hands it to a matrix product: float64 stays, as it does in PyTorch."""
    if _autocast_enabled(input) and input.dtype != torch.float64:
        return input.to(torch.get_autocast_dtype(input.device.type))
    return input


def _without_autocast(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Inside, the dtypes are those that the backend chose; autocast would round its float32 products."""
    return torch.autocast(x.device.type, enabled=False) if _autocast_enabled(x) else contextlib.nullcontext()
