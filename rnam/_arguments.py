"""The arguments of the functions: checks of those that belong together, and what autocast makes of them."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from rnam import _checks


def cell(
    input: Tensor, weight: Tensor, h0: Tensor | None, mask: Tensor | None, reset: Tensor | None, gates: int
) -> tuple[Tensor, bool]:
    """Checks the arguments of a cell whose weight has `gates` times hidden columns; input as autocast hands it on, and
    whether autocast is on."""
    layout = f"terms, dim, {gates} * hidden"
    _checks.floating("input", input)
    _checks.rank("input", input, "terms, batch, seq, dim")
    weights(weight, input, layout)
    if weight.shape[2] % gates:
        raise ValueError(f"weight must have shape ({layout}), got {tuple(weight.shape)}")
    terms, batch, seq, _ = input.shape
    for name, code in (("mask", mask), ("reset", reset)):
        if code is not None:
            _checks.boolean(name, code)
            _checks.broadcastable(name, code, "terms, batch, seq", (terms, batch, seq))
            _checks.device(name, code, "input", input)
    if h0 is not None:
        expected = (terms, batch, 1, weight.shape[2] // gates)
        _checks.state("h0", h0, "terms, batch, 1, hidden", expected, "input", input)
    cast = autocast_enabled(input)
    if cast:
        input = autocast(input)
    parameter_dtype("weight", weight, input, cast)
    return input, cast


def weights(weight: Tensor, input: Tensor, layout: str) -> None:
    _checks.floating("weight", weight)
    _checks.rank("weight", weight, layout)
    if 0 in weight.shape:
        raise ValueError(f"weight must have no dimension of size 0, got {tuple(weight.shape)}")
    if (input.shape[0], input.shape[-1]) != tuple(weight.shape[:2]):
        raise ValueError(
            f"input must have {weight.shape[0]} terms and width {weight.shape[1]} to go with weight "
            f"({layout}) = {tuple(weight.shape)}, got {tuple(input.shape)}"
        )
    _checks.device("weight", weight, "input", input)


def output(out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    _checks.floating("out", out)
    _checks.shape("out", out, "terms, *, out_dim", (*input.shape[:-1], weight.shape[-1]))
    _checks.dtype("out", out, "input", input)
    _checks.device("out", out, "input", input)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (input, weight, bias, out)):
        raise RuntimeError("out must be None where a gradient is recorded; expected torch.no_grad() around the call")


def parameter_dtype(name: str, value: Tensor, input: Tensor, cast: bool) -> None:
    # where autocast has just cast the input, parameters are rounded to it when they are read
    halves = (torch.bfloat16, torch.float16)
    others = (torch.float32, *halves) if cast and input.dtype in halves else ()
    _checks.dtype(name, value, "input", input, *others)


def scan(pair: dict[str, Tensor], start_name: str, start: Tensor | None) -> None:
    (coeffs_name, coeffs), (values_name, values) = pair.items()
    _checks.floating(coeffs_name, coeffs)
    _checks.floating(values_name, values)
    if values.dim() < 2:
        raise ValueError(f"{values_name} must have shape (..., seq, dim), got {tuple(values.shape)}")
    _checks.shape(coeffs_name, coeffs, f"..., seq, dim of {values_name}", values.shape)
    _checks.dtype(coeffs_name, coeffs, values_name, values)
    _checks.device(coeffs_name, coeffs, values_name, values)
    if start is not None:
        expected = (*values.shape[:-2], 1, values.shape[-1])
        _checks.state(start_name, start, "..., 1, dim", expected, values_name, values)


def autocast_enabled(x: Tensor) -> bool:
    """Whether torch.autocast is on for the device of `x`."""
    # a meta tensor has no autocast to ask about; torch.amp.is_autocast_available can't be compiled in torch 2.11
    return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)


def autocast(input: Tensor) -> Tensor:
    """`input` as autocast hands it to a matrix product: float64 stays, as it does in PyTorch."""
    if input.dtype == torch.float64:
        return input
    return input.to(torch.get_autocast_dtype(input.device.type))


def without_autocast(x: Tensor, enabled: bool) -> contextlib.AbstractContextManager[object]:
    """Inside, the dtypes are those that the backend chose; autocast would round its float32 products."""
    return torch.autocast(x.device.type, enabled=False) if enabled else contextlib.nullcontext()
