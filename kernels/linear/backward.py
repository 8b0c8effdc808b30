"""The backward of forward.py: gradients of x, the weight and the bias in one pass over memory."""

import torch
import triton
import triton.language as tl

from ..common import matmul
from ..common.activations import activation_slope
from ..common.config import resolve_precision
from ..common.launch import Launch, check_dtypes
from ..common.operands import rows, strides, unit
from ..common.tiles import multiply
from .config import BROADCAST_D, select_linear, uses_kernel
from .tiles import _load_input, _load_weight, _product


@triton.jit(do_not_specialize=["N", "span", "count", "stride_x_f", "stride_x_n", "stride_dy_f", "stride_dy_n"])
def _grouped_linear_bwd_kernel(
    x_ptr, w_ptr, bias_ptr, dy_ptr,
    dx_ptr, dw_ptr, db_ptr,
    N, span, count,
    stride_x_f: tl.int64, stride_x_n: tl.int64,  # in units of UNIT_X elements
    stride_dy_f: tl.int64, stride_dy_n: tl.int64,  # in units of UNIT_DY elements
    D: tl.constexpr, H: tl.constexpr,
    HAS_BIAS: tl.constexpr, ACTIVATION: tl.constexpr, NEED_X: tl.constexpr, NEED_W: tl.constexpr, NEED_B: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, UNIT_X: tl.constexpr, UNIT_DY: tl.constexpr,
):  # fmt: skip
    """e = dy act'(x W + bias), dx = e W^T, dW = x^T e, db = the sum of e.

    Layout    x [F, N, D], dy [F, N, H], innermost stride 1; W, bias and dx contiguous; dw [F, count, D, H] and
              db [F, count, H] float32 hold one partial per program, to be summed in order.
    Grid      F * count on axis 0, as in the forward. dW and db stay in registers over the rows of a program.
    Numerics  as in the forward; e is rounded to x's type for the products. x is not read when nothing needs it.
    """
    f = (tl.program_id(0) // count).to(tl.int64)
    begin = tl.program_id(0) % count * span
    end = tl.minimum(begin + span, N)
    h = tl.arange(0, BLOCK_H)[None, :]
    DTYPE: tl.constexpr = dy_ptr.dtype.element_ty
    w = _load_weight(w_ptr + f * D * H, D, H, BLOCK_D, BLOCK_H, DTYPE)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + f * H + h, mask=h < H, other=0.0).to(tl.float32)
    db = tl.zeros((BLOCK_N, BLOCK_H), tl.float32)
    if D <= BROADCAST_D:
        dw = ()
        for _ in tl.static_range(D):
            dw += (tl.zeros((BLOCK_N, BLOCK_H), tl.float32),)
    else:
        dw = tl.zeros((BLOCK_D, BLOCK_H), tl.float32)
    for start in range(begin, end, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        mask = n < end
        if NEED_W or ACTIVATION is not None:
            x = _load_input(x_ptr + (f * stride_x_f + n.to(tl.int64) * stride_x_n) * UNIT_X, mask, D, BLOCK_D)
        dy_ptrs = dy_ptr + (f * stride_dy_f + n.to(tl.int64)[:, None] * stride_dy_n) * UNIT_DY + h
        e = tl.load(dy_ptrs, mask=mask[:, None] & (h < H), other=0.0).to(tl.float32)
        if ACTIVATION is not None:
            y = _product(x, w, D, PRECISION)
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
                dw = multiply(tl.trans(x), e, dw, PRECISION)
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


def linear_backward_launch(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    dy: torch.Tensor,
    activation: str | None,
    precision: str,
    *,
    need_x: bool,
    need_weight: bool,
    need_bias: bool,
) -> Launch:
    """What fills dx_ptr, dw_ptr [F, count, D, H] and db_ptr [F, count, H] of its arguments, those that are needed."""
    (F, N, D), H = x.shape, dy.shape[2]
    config = select_linear(F, N, D, H, x.element_size(), backward=True)
    unit_x, unit_dy = unit(x), unit(dy)
    count = triton.cdiv(N, config.span)
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device) if need_x else None
    dw = torch.empty(F, count, D, H, dtype=torch.float32, device=x.device) if need_weight else None
    db = torch.empty(F, count, H, dtype=torch.float32, device=x.device) if need_bias else None
    (stride_x_f, stride_x_n), (stride_dy_f, stride_dy_n) = strides(x, 2), strides(dy, 2)
    arguments = dict(
        x_ptr=x, w_ptr=weight, bias_ptr=bias, dy_ptr=dy, dx_ptr=dx, dw_ptr=dw, db_ptr=db,
        N=N, span=config.span, count=count,
        stride_x_f=stride_x_f // unit_x, stride_x_n=stride_x_n // unit_x,
        stride_dy_f=stride_dy_f // unit_dy, stride_dy_n=stride_dy_n // unit_dy,
    )  # fmt: skip
    constants = dict(
        D=D, H=H, HAS_BIAS=bias is not None, ACTIVATION=activation,
        NEED_X=need_x, NEED_W=need_weight, NEED_B=need_bias, PRECISION=precision,
        BLOCK_N=config.BLOCK_N, BLOCK_D=config.BLOCK_D, BLOCK_H=config.BLOCK_H, UNIT_X=unit_x, UNIT_DY=unit_dy,
    )  # fmt: skip
    return Launch(_grouped_linear_bwd_kernel, (F * count,), arguments, constants, config.num_warps)


def grouped_linear_backward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, dy: torch.Tensor, activation: str | None = None,
    *, need_x: bool = True, need_weight: bool = True, need_bias: bool = True, precision: str | None = None,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
    """(dx, dW, db) in the dtypes of x, weight and bias; None where not needed. Bitwise the same from run to run."""
    check_dtypes(x=x, weight=weight, bias=bias, dy=dy)
    need_bias = need_bias and bias is not None
    if 0 in (*x.shape, *dy.shape) or not uses_kernel(x.shape[2], dy.shape[2]):
        return matmul.linear_backward(
            x, weight, bias, dy, activation, need_x=need_x, need_weight=need_weight, need_bias=need_bias
        )
    contiguous_bias = None if bias is None else bias.contiguous()
    launch = linear_backward_launch(
        rows(x), weight.contiguous(), contiguous_bias, rows(dy), activation, resolve_precision(precision, x.dtype),
        need_x=need_x, need_weight=need_weight, need_bias=need_bias,
    )  # fmt: skip
    launch.run()
    dw, db = launch.arguments["dw_ptr"], launch.arguments["db_ptr"]
    return (
        launch.arguments["dx_ptr"],
        None if dw is None else dw.sum(1).to(weight.dtype),
        None if db is None or bias is None else db.sum(1, keepdim=True).to(bias.dtype),
    )
