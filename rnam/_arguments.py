"""The arguments of the functions: checks of those that belong together, and what autocast makes of them."""

from __future__ import annotations

import torch
from torch import Tensor

from rnam import _checks
from rnam.backends.calls import Embedding, FeedForward, Recurrence
from rnam.backends.calls import autocast_enabled as autocast_enabled
from rnam.backends.calls import without_autocast as without_autocast
from rnam.backends.cells import CELLS
from rnam.backends.flags import encode, forget


def recurrence(
    call: Recurrence, mask: Tensor | None, reset: Tensor | None, h0_name: str = "h0"
) -> tuple[Recurrence, bool]:
    """Checks a call. Gives it with the input as autocast hands it on, with flags, with elapsed of three dimensions, and
    with h0 = 0 where the first step is a reset; and whether autocast is on."""
    input, weight, h0, embedding = call.input, call.weight, call.h0, call.embedding
    row = CELLS[call.cell]
    layout = f"terms, dim, {row.num_preacts} * hidden"
    _checks.one_of("space", call.space, ("linear", "log") if row.reference.log_coefficients else ("linear",))
    _checks.boolean_flag("need_h", call.need_h)
    _checks.floating("input", input)
    _checks.rank("input", input, "terms, batch, seq, dim")
    if weight is None:
        columns = input.shape[3]
        if columns % row.num_preacts:
            expected = f"terms, batch, seq, {row.num_preacts} * hidden"
            raise ValueError(f"input must have shape ({expected}), got {tuple(input.shape)}")
    else:
        weights(weight, input, layout, embedding)
        columns = weight.shape[2]
        if columns % row.num_preacts:
            raise ValueError(f"weight must have shape ({layout}), got {tuple(weight.shape)}")
    hidden = columns // row.num_preacts  # no divmod, which has no symbolic sizes
    bias, elapsed = call.bias, call.elapsed
    if bias is not None:
        _checks.floating("bias", bias)
        _checks.shape("bias", bias, f"terms, 1, {row.num_preacts} * hidden", (input.shape[0], 1, columns))
        _checks.device("bias", bias, "input", input)
    terms, batch, seq, _ = input.shape
    for name, steps in (("mask", mask), ("reset", reset)):
        if steps is not None:
            _checks.boolean(name, steps)
            _checks.broadcastable(name, steps, "terms, batch, seq", (terms, batch, seq))
            _checks.device(name, steps, "input", input)
    if h0 is not None:
        _checks.state(h0_name, h0, "terms, batch, 1, hidden", (terms, batch, 1, hidden), "input", input)
    if elapsed is not None:
        if row.reference.relaxation is None:
            raise ValueError(f"elapsed must be None for the cell {row.name!r}, which knows no time")
        _checks.floating("elapsed", elapsed)
        _checks.broadcastable("elapsed", elapsed, "terms, batch, seq", (terms, batch, seq))
        _checks.device("elapsed", elapsed, "input", input)
        _checks.dtype("elapsed", elapsed, "input", input, torch.float32)
        call = call._replace(elapsed=elapsed[(None,) * (3 - elapsed.dim())])
    cast = autocast_enabled(input)
    if cast:
        input = autocast(input)
    if weight is not None:
        parameter_dtype("weight", weight, input, cast)
    if bias is not None:
        parameter_dtype("bias", bias, input, cast)
    if embedding is not None:
        embedding_dtypes(embedding, input, cast)
    if h0 is not None and reset is not None:
        h0 = forget(h0, reset, input)
    if cast or mask is not None or reset is not None:
        call = call._replace(input=input, h0=h0, flags=encode(mask, reset))
    return call, cast


def feed_forward(parameters: FeedForward, input: Tensor, dim: int, cast: bool) -> None:
    """Checks the parameters of a feed-forward of rows of `dim` numbers; autocast has `cast` input."""
    terms = input.shape[0]
    layouts = (
        ("dim", (dim,)),
        ("dim", (dim,)),
        ("terms, dim, dim", (terms, dim, dim)),
        ("terms, 1, dim", (terms, 1, dim)),
        ("terms, dim, dim", (terms, dim, dim)),
        ("terms, 1, dim", (terms, 1, dim)),
    )
    for name, value, (layout, shape) in zip(parameters._fields, parameters, layouts, strict=True):
        _checks.floating(name, value)
        _checks.shape(name, value, layout, shape)
        _checks.device(name, value, "input", input)
        parameter_dtype(name, value, input, cast)


def embedded_width(embedding: Embedding | None, input: Tensor) -> int:
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


def embedding_dtypes(embedding: Embedding, input: Tensor, cast: bool) -> None:
    for n, value in enumerate(embedding):
        parameter_dtype(f"embedding[{n}]", value, input, cast)


def weights(weight: Tensor, input: Tensor, layout: str, embedding: Embedding | None = None) -> None:
    """Checks a weight that is multiplied with input, or with its embedding, and that embedding."""
    width = embedded_width(embedding, input)
    _checks.floating("weight", weight)
    _checks.rank("weight", weight, layout)
    terms, dim, _ = sizes = tuple(weight.shape)
    if 0 in sizes:
        raise ValueError(f"weight must have no dimension of size 0, got {sizes}")
    if terms != input.shape[0] or dim != width:
        name, read = ("input", input) if embedding is None else ("embedding[0]", embedding[0])
        raise ValueError(
            f"{name} must have {terms} terms and width {dim} to go with weight ({layout}) = {sizes}, "
            f"got {tuple(read.shape)}"
        )
    _checks.device("weight", weight, "input", input)


def output(out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    _checks.floating("out", out)
    _checks.shape("out", out, "terms, *, out_dim", (*input.shape[:-1], weight.shape[-1]))
    _checks.dtype("out", out, "input", input)
    _checks.device("out", out, "input", input)
    _checks.apart("out", out, {"input": input, "weight": weight, "bias": bias})
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (input, weight, bias, out)):
        raise RuntimeError("out must be None where a gradient is recorded; expected torch.no_grad() around the call")


def parameter_dtype(name: str, value: Tensor, input: Tensor, cast: bool) -> None:
    # where autocast has just cast the input, parameters are rounded to it when they are read
    half_precision = (torch.bfloat16, torch.float16)
    others = (torch.float32, *half_precision) if cast and input.dtype in half_precision else ()
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


def autocast(input: Tensor) -> Tensor:
    """`input` as autocast hands it to a matrix product: float64 stays, as it does in PyTorch."""
    if input.dtype == torch.float64:
        return input
    return input.to(torch.get_autocast_dtype(input.device.type))
