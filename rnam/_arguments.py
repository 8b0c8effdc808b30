"""The arguments of the functions: checks of those that belong together, and what autocast makes of them."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from rnam import _checks, reference


def cell(
    input: Tensor,
    weight: Tensor,
    h0: Tensor | None,
    mask: Tensor | None,
    reset: Tensor | None,
    gates: int,
    embedding: reference.Embedding,
) -> tuple[Tensor, bool]:
    """Checks the arguments of a cell whose weight has `gates` times hidden columns; input as autocast hands it on, and
    whether autocast is on."""
    layout = f"terms, dim, {gates} * hidden"
    _checks.floating("input", input)
    _checks.rank("input", input, "terms, batch, seq, dim")
    weights(weight, input, layout, embedding)
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
    embedding_dtypes(embedding, input, cast)
    return input, cast


def feed_forward(input: Tensor, dim: int, cast: bool, *parameters: Tensor) -> None:
    """Checks the six parameters of a feed-forward of rows of `dim` numbers; autocast has `cast` input."""
    terms = input.shape[0]
    expected = (
        ("norm_weight", "dim", (dim,)),
        ("norm_bias", "dim", (dim,)),
        ("weight1", "terms, dim, dim", (terms, dim, dim)),
        ("bias1", "terms, 1, dim", (terms, 1, dim)),
        ("weight2", "terms, dim, dim", (terms, dim, dim)),
        ("bias2", "terms, 1, dim", (terms, 1, dim)),
    )
    for (name, layout, shape), value in zip(expected, parameters, strict=True):
        _checks.floating(name, value)
        _checks.shape(name, value, layout, shape)
        _checks.device(name, value, "input", input)
        parameter_dtype(name, value, input, cast)


def embedded_width(embedding: reference.Embedding, input: Tensor) -> int:
    """Checks the embedding of input (terms, *, in_dim), if there is one; the width that follows."""
    if embedding is None:
        return input.shape[-1]
    if not isinstance(embedding, tuple | list) or len(embedding) != 2:
        raise TypeError(f"embedding must be None or a pair (weight, bias), got {type(embedding).__name__}")
    weight, bias = embedding
    terms, in_dim = input.shape[0], input.shape[-1]
    _checks.floating("embedding[0]", weight)
    _checks.rank("embedding[0]", weight, "terms, in_dim, dim")
    dim = weight.shape[2]
    for name, value, layout, rows in (
        ("embedding[0]", weight, "terms, in_dim, dim", in_dim),
        ("embedding[1]", bias, "terms, 1, dim", 1),
    ):
        _checks.floating(name, value)
        _checks.shape(name, value, layout, (terms, rows, dim))
        _checks.device(name, value, "input", input)
    return dim


def embedding_dtypes(embedding: reference.Embedding, input: Tensor, cast: bool) -> None:
    for n, value in enumerate(embedding or ()):
        parameter_dtype(f"embedding[{n}]", value, input, cast)


def weights(weight: Tensor, input: Tensor, layout: str, embedding: reference.Embedding = None) -> None:
    """Checks a weight that is multiplied with input, or with its embedding, and that embedding."""
    width = embedded_width(embedding, input)
    name, read = ("input", input) if embedding is None else ("embedding[0]", embedding[0])
    _checks.floating("weight", weight)
    _checks.rank("weight", weight, layout)
    if 0 in weight.shape:
        raise ValueError(f"weight must have no dimension of size 0, got {tuple(weight.shape)}")
    if (input.shape[0], width) != tuple(weight.shape[:2]):
        raise ValueError(
            f"{name} must have {weight.shape[0]} terms and width {weight.shape[1]} to go with weight "
            f"({layout}) = {tuple(weight.shape)}, got {tuple(read.shape)}"
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
