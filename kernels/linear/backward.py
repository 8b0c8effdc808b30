"""The backward of forward.py: gradients of x, the weight and the bias in one pass over memory."""

import torch
import triton
import triton.language as tl

from ..common import matmul
from ..common.activations import activation_slope, check_activation
from ..common.call import Gradients, Needs
from ..common.config import resolve_precision
from ..common.device import kernel
from ..common.launch import Launch, check_dtypes
from ..common.operands import stride_arguments, unit_stride, vector_unit
from ..common.plan import planned
from ..common.tiles import multiply, own_layout
from .config import select_linear, uses_kernel
from .tiles import BROADCAST_D, load_input, load_weight, product


@kernel
def _grouped_linear_bwd_kernel(
    x_ptr, w_ptr, bias_ptr, dy_ptr,
    dx_ptr, dw_ptr, db_ptr,
    N, span, num_spans,
    stride_x_f: tl.int64, stride_x_n: tl.int64,  # in units of UNIT_X elements
    stride_dy_f: tl.int64, stride_dy_n: tl.int64,  # in units of UNIT_DY elements
    D: tl.constexpr, H: tl.constexpr,
    HAS_BIAS: tl.constexpr, ACTIVATION: tl.constexpr, NEED_X: tl.constexpr, NEED_W: tl.constexpr, NEED_B: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, UNIT_X: tl.constexpr, UNIT_DY: tl.constexpr,
):  # fmt: skip
    """e = dy act'(x W + bias), dx = e W^T, dW = x^T e, db = the sum of e.

    Layout    x [F, N, D], dy [F, N, H], innermost stride 1; W, bias and dx contiguous; dw [F, num_spans, D, H] and
              db [F, num_spans, H] float32 hold one partial per program, to be summed in order.
    Grid      F * num_spans on axis 0, as in the forward. dW and db stay in registers over the rows of a program.
    Numerics  as in the forward; e is rounded to x's type for the products. x is not read when nothing needs it.
    """
    f = (tl.program_id(0) // num_spans).to(tl.int64)
    begin = tl.program_id(0) % num_spans * span
    end = tl.minimum(begin + span, N)
    h = tl.arange(0, BLOCK_H)[None, :]
    DTYPE: tl.constexpr = dy_ptr.dtype.element_ty
    w = load_weight(w_ptr + f * D * H, D, H, BLOCK_D, BLOCK_H, DTYPE)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + f * H + h, mask=h < H, other=0.0).to(tl.float32)
    db = tl.zeros((BLOCK_N, BLOCK_H), tl.float32)
    if D <= BROADCAST_D:
        dw = ()
        for _ in tl.static_range(D):
            dw += (tl.zeros((BLOCK_N, BLOCK_H), tl.float32),)
    else:
        dw = tl.zeros((BLOCK_D, BLOCK_H), tl.float32)
    # Without products, as at D = 1, a loop is pipelined only where it names its stages.
    for start in tl.range(begin, end, BLOCK_N, num_stages=3):
        n = start + tl.arange(0, BLOCK_N)
        mask = n < end
        if NEED_W or ACTIVATION is not None:
            x = load_input(x_ptr + (f * stride_x_f + n.to(tl.int64) * stride_x_n) * UNIT_X, mask, D, BLOCK_D)
        dy_ptrs = dy_ptr + (f * stride_dy_f + n.to(tl.int64)[:, None] * stride_dy_n) * UNIT_DY + h
        e = tl.load(dy_ptrs, mask=mask[:, None] & (h < H), other=0.0).to(tl.float32)
        if ACTIVATION is not None:
            y = product(x, w, D, PRECISION)
            if HAS_BIAS:
                y += bias
            e *= activation_slope(y, ACTIVATION)
        if NEED_B:
            db += e
        if NEED_X:
            dx_row = dx_ptr + (f * N + n.to(tl.int64)) * D
        if D <= BROADCAST_D:
            if NEED_W:
                if D == 1:
                    dw = (tl.fma(x[0][:, None], e, dw[0]),)
                else:
                    dw = (tl.fma(x[0][:, None], e, dw[0]), tl.fma(x[1][:, None], e, dw[1]))
            if NEED_X:
                for d in tl.static_range(D):
                    tl.store(dx_row + d, tl.sum(e * w[d][None, :], 1).to(dx_ptr.dtype.element_ty), mask=mask)
        else:
            e = e.to(DTYPE)
            if NEED_W:
                dw = multiply(tl.trans(own_layout(x)), e, dw, PRECISION)
            if NEED_X:
                d = tl.arange(0, BLOCK_D)[None, :]
                dx = multiply(e, tl.trans(w), None, PRECISION)
                tl.store(dx_row[:, None] + d, dx.to(dx_ptr.dtype.element_ty), mask=mask[:, None] & (d < D))
    partial = tl.program_id(0).to(tl.int64)
    if NEED_B:
        h = tl.arange(0, BLOCK_H)
        tl.store(db_ptr + partial * H + h, tl.sum(db, 0), mask=h < H)
    if NEED_W:
        h = tl.arange(0, BLOCK_H)
        if D <= BROADCAST_D:
            for d in tl.static_range(D):
                tl.store(dw_ptr + (partial * D + d) * H + h, tl.sum(dw[d], 0), mask=h < H)
        else:
            d = tl.arange(0, BLOCK_D)[:, None]
            tl.store(dw_ptr + (partial * D + d) * H + h[None, :], dw, mask=(d < D) & (h < H)[None, :])


def backward_launch(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str | None, dy: torch.Tensor,
    precision: str,
    *, needs: Needs,
) -> Launch:  # fmt: skip
    """The launch that fills those of its arguments that are needed: dx_ptr, dw_ptr [F, num_spans, D, H] and db_ptr
    [F, num_spans, H]."""
    (F, N, D), H = x.shape, dy.shape[2]
    need_x, need_weight, need_bias = needs
    config = select_linear(F, N, D, H, x.element_size(), backward=True)
    unit_x, unit_dy = vector_unit(x), vector_unit(dy)
    num_spans = triton.cdiv(N, config.span)
    arguments = dict(
        x_ptr=x, w_ptr=weight, bias_ptr=bias, dy_ptr=dy,
        dx_ptr=x.new_empty(x.shape) if need_x else None,
        dw_ptr=x.new_empty(F, num_spans, D, H, dtype=torch.float32) if need_weight else None,
        db_ptr=x.new_empty(F, num_spans, H, dtype=torch.float32) if need_bias else None,
        N=N, span=config.span, num_spans=num_spans,
        **stride_arguments("fn", unit_x, x=x), **stride_arguments("fn", unit_dy, dy=dy),
    )  # fmt: skip
    constants = dict(
        D=D, H=H, HAS_BIAS=bias is not None, ACTIVATION=activation,
        NEED_X=need_x, NEED_W=need_weight, NEED_B=need_bias, PRECISION=precision,
        BLOCK_N=config.BLOCK_N, BLOCK_D=config.BLOCK_D, BLOCK_H=config.BLOCK_H, UNIT_X=unit_x, UNIT_DY=unit_dy,
    )  # fmt: skip
    return Launch(_grouped_linear_bwd_kernel, (F * num_spans,), arguments, constants, config.num_warps)


@planned
def grouped_linear_backward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str | None, dy: torch.Tensor,
    *, needs: Needs = (True, True, True), precision: str | None = None,
) -> Gradients:  # fmt: skip
    """(dx, dW, db) from the arguments of `grouped_linear_forward` and the gradient of y, in the dtypes of x, weight and
    bias; None where not needed. Bitwise the same from run to run."""
    check_dtypes(x=x, weight=weight, bias=bias, dy=dy)
    check_activation(activation)
    needs = (needs[0], needs[1], needs[2] and bias is not None)
    if 0 in (*x.shape, *dy.shape) or not uses_kernel(x.shape[2], dy.shape[2]):
        return matmul.linear_backward(x, weight, bias, activation, dy, needs=needs)
    launch = backward_launch(
        unit_stride(x), weight.contiguous(), None if bias is None else bias.contiguous(), activation, unit_stride(dy),
        resolve_precision(precision, x.dtype), needs=needs,
    )  # fmt: skip
    launch.run()
    dw, db = launch.arguments["dw_ptr"], launch.arguments["db_ptr"]
    return (
        launch.arguments["dx_ptr"],
        None if dw is None else dw.sum(1).to(weight.dtype),
        None if db is None or bias is None else db.sum(1, keepdim=True).to(bias.dtype),
    )
