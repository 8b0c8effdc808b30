"""F independent linear layers y[f] = act(x[f] W[f] + bias[f]): one kernel each way while W fits a warp's registers,
else cuBLAS.

The backward saves x and W only. With an activation it computes x W + bias again: storing it would cost 8 bytes per
element of y (a write and a read), where the product costs tensor-core time that these kernels, bound by memory, have to
spare.
"""

import torch
import triton
import triton.language as tl

from ..common import matmul
from ..common.activations import activate, check_activation
from ..common.config import resolve_precision
from ..common.device import kernel
from ..common.launch import Launch, check_dtypes
from ..common.operands import stride_arguments, unit_stride, vector_unit
from ..common.plan import planned
from .config import select_linear, uses_kernel
from .tiles import load_input, load_weight, product


@kernel
def _grouped_linear_fwd_kernel(
    x_ptr, w_ptr, bias_ptr,
    y_ptr,
    N, span, num_spans,
    stride_x_f: tl.int64, stride_x_n: tl.int64,  # in units of UNIT elements
    D: tl.constexpr, H: tl.constexpr,
    HAS_BIAS: tl.constexpr, ACTIVATION: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """y = act(x W + bias).

    Layout    x [F, N, D], innermost stride 1; W [F, D, H], bias [F, H] and y [F, N, H] contiguous.
    Grid      F * num_spans on axis 0: a program owns `span` rows of one layer, and its W stays in registers.
    Numerics  products of x's type at PRECISION with float32 sums; bias and activation in float32. W is rounded to x's
              type.
    Backward  reads x, W and dy.
    """
    f = (tl.program_id(0) // num_spans).to(tl.int64)
    begin = tl.program_id(0) % num_spans * span
    end = tl.minimum(begin + span, N)
    h = tl.arange(0, BLOCK_H)[None, :]
    w = load_weight(w_ptr + f * D * H, D, H, BLOCK_D, BLOCK_H, x_ptr.dtype.element_ty)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + f * H + h, mask=h < H, other=0.0).to(tl.float32)
    for start in range(begin, end, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        x = load_input(x_ptr + (f * stride_x_f + n.to(tl.int64) * stride_x_n) * UNIT, n < end, D, BLOCK_D)
        y = product(x, w, D, PRECISION)
        if HAS_BIAS:
            y += bias
        y = activate(y, ACTIVATION)
        y_ptrs = y_ptr + (f * N + n.to(tl.int64)[:, None]) * H + h
        tl.store(y_ptrs, y.to(y_ptr.dtype.element_ty), mask=(n < end)[:, None] & (h < H))


def forward_launch(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str | None, y: torch.Tensor,
    precision: str,
) -> Launch:  # fmt: skip
    """The launch that fills y [F, N, H]."""
    (F, N, D), H = x.shape, y.shape[2]
    config, unit = select_linear(F, N, D, H, x.element_size(), backward=False), vector_unit(x)
    num_spans = triton.cdiv(N, config.span)
    arguments = dict(
        x_ptr=x, w_ptr=weight, bias_ptr=bias, y_ptr=y, N=N, span=config.span, num_spans=num_spans,
        **stride_arguments("fn", unit, x=x),
    )  # fmt: skip
    constants = dict(
        D=D, H=H, HAS_BIAS=bias is not None, ACTIVATION=activation, PRECISION=precision,
        BLOCK_N=config.BLOCK_N, BLOCK_D=config.BLOCK_D, BLOCK_H=config.BLOCK_H, UNIT=unit,
    )  # fmt: skip
    return Launch(_grouped_linear_fwd_kernel, (F * num_spans,), arguments, constants, config.num_warps)


@planned
def grouped_linear_forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, activation: str | None = None,
    *, precision: str | None = None, out: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """act(x W + bias) [F, N, H] in x's dtype from x [F, N, D], weight [F, D, H] and bias [F, 1, H].

    activation is None, "relu", "gelu" (with erf) or "silu". The result is written to `out` (contiguous) if given.
    precision as in `resolve_precision`; cuBLAS has its own setting.
    """
    check_dtypes(x=x, weight=weight, bias=bias)
    check_activation(activation)
    (F, N, D), H = x.shape, weight.shape[2]
    if 0 in (F, N, D, H) or not uses_kernel(D, H):
        y = matmul.linear(x, weight, bias, activation)
        return y if out is None else out.copy_(y)
    y = x.new_empty(F, N, H) if out is None else out
    bias = None if bias is None else bias.contiguous()
    precision = resolve_precision(precision, x.dtype)
    forward_launch(unit_stride(x), weight.contiguous(), bias, activation, y, precision).run()
    return y
