"""F independent linear layers y[f] = act(x[f] W[f] + bias[f]): one kernel each way while W fits a warp's registers,
else cuBLAS.

The backward saves x and W only. With an activation it computes x W + bias again: storing it would cost 8 bytes per
element of y (a write and a read), where the product costs tensor-core time that these kernels, bound by memory, have to
spare.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from . import matmul
from .activations import activate, activation_slope
from .config import resolve_precision
from .launch import Launch, check_dtypes
from .operands import rows, strides, unit
from .tiles import multiply

ACTIVATIONS = (None, "relu", "gelu", "silu")

# Inputs up to this many are a broadcast multiply: tl.dot would pad them to 16, and their loads to 16 lanes per number.
BROADCAST_D = tl.constexpr(2)

# 32 x 32 float32 are 32 registers per lane of one warp, and the backward holds five such tiles: W, its gradient, and
# one each of x, the product and its gradient at 16 to 32 rows. 64 x 64 would be 128 registers each.
KERNEL_MAX = 32
BROADCAST_MAX_H = 128

# Elements or bytes of a tile of one warp, from registers per lane as compiled for sm_90 (no spill at any of them): 64
# elements per lane forward and 16 backward where W is broadcast, which keeps D + 1 accumulators of that size; 16
# float32 or 32 halves per lane around tl.dot (84 to 128 and 76 to 240 registers). The backward above 16 columns would
# spill on one warp, 17 instructions in float32 with 16 rows: two warps take 32 rows.
BROADCAST_TILE = 2048
BROADCAST_BACKWARD_TILE = 512
DOT_TILE_BYTES = 2048
WIDE_BACKWARD = (32, 2)

# Rows that are no whole 16-byte pieces take a 64-bit address per element: at D = 3, H = 5 the backward spilled 3 to
# 26 instructions with 255 registers, and with half of the rows takes 125 to 180.
ACCESS_BYTES = 16

# Instructions that touch local memory in a backward, at most. Where ptxas settles for fewer registers (80 to 168), it
# leaves 2 or 3 at several widths on one architecture, and 6 at 32 x 32 in bfloat16 on sm_100. No forward has any.
BACKWARD_SPILLS = 6

# 132 SMs times 16 warps of up to 128 registers; twice that so that the last wave is short.
PROGRAMS = 4096

# All partial dW together stay under 1 / 20 of the bytes of x.
PARTIAL_SHARE = 20


@dataclass(frozen=True)
class LinearConfig:
    """A program owns `span` rows of one layer, BLOCK_N at a time."""

    span: int
    BLOCK_N: int
    BLOCK_D: int
    BLOCK_H: int
    num_warps: int


def uses_kernel(D: int, H: int) -> bool:
    """Whether the kernels of this file run, and not torch.bmm.

    Kernel: a small layer is bound by memory, its bias and activation would be two more passes over y, and the tiles of
    a batched matmul (64 to 128 wide) are mostly padding. cuBLAS: above 32 the operands leave a warp's registers, and
    from about there its tiles fill up.
    """
    return (D <= KERNEL_MAX and H <= KERNEL_MAX) or (BROADCAST_D.value >= D and H <= BROADCAST_MAX_H)


def select_linear(F: int, N: int, D: int, H: int, itemsize: int, *, backward: bool) -> LinearConfig:
    """Tile and rows per program; neither depends on the device."""
    block_d = D if BROADCAST_D.value >= D else max(16, 1 << (D - 1).bit_length())
    block_h = max(16, 1 << (H - 1).bit_length())
    warps = 1
    if BROADCAST_D.value >= D:
        block_n = max(4, min(64, (BROADCAST_BACKWARD_TILE if backward else BROADCAST_TILE) // block_h))
    else:
        width = max(block_d, block_h)
        block_n = max(16, min(64, DOT_TILE_BYTES // itemsize // width))
        if backward and width > 16:
            block_n, warps = WIDE_BACKWARD
        if backward and any(n * itemsize % ACCESS_BYTES for n in (D, H)):
            block_n = max(16, block_n // 2)
    span = -(-F * N // PROGRAMS)
    if backward:  # partials of one layer have 4 D H bytes each, its x has N D itemsize
        most = max(1, N * itemsize // (4 * PARTIAL_SHARE * H))
        span = max(span, -(-N // most))
    return LinearConfig(
        span=-(-span // block_n) * block_n, BLOCK_N=block_n, BLOCK_D=block_d, BLOCK_H=block_h, num_warps=warps
    )


@triton.jit
def _load_weight(
    w_ptr, D: tl.constexpr, H: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, DTYPE: tl.constexpr
):
    """W rounded to the type of x and padded with zeros: a tile [BLOCK_D, BLOCK_H], or D rows [BLOCK_H] of float32."""
    h = tl.arange(0, BLOCK_H)
    if D <= BROADCAST_D:
        w = ()
        for d in tl.static_range(D):
            w += (tl.load(w_ptr + d * H + h, mask=h < H, other=0.0).to(DTYPE).to(tl.float32),)
        return w
    else:
        d = tl.arange(0, BLOCK_D)[:, None]
        return tl.load(w_ptr + d * H + h[None, :], mask=(d < D) & (h < H)[None, :], other=0.0).to(DTYPE)


@triton.jit
def _load_input(row_ptr, mask, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Rows of x: a tile [BLOCK_N, BLOCK_D], or D columns [BLOCK_N] of float32."""
    if D <= BROADCAST_D:
        x = ()
        for d in tl.static_range(D):
            x += (tl.load(row_ptr + d, mask=mask, other=0.0).to(tl.float32),)
        return x
    else:
        d = tl.arange(0, BLOCK_D)[None, :]
        return tl.load(row_ptr[:, None] + d, mask=mask[:, None] & (d < D), other=0.0)


@triton.jit
def _product(x, w, D: tl.constexpr, PRECISION: tl.constexpr):
    """x W, float32."""
    if D <= BROADCAST_D:
        y = x[0][:, None] * w[0][None, :]
        if D == 2:
            y = tl.fma(x[1][:, None], w[1][None, :], y)
        return y
    else:
        return multiply(x, w, None, PRECISION)


@triton.jit(do_not_specialize=["N", "span", "count", "stride_x_f", "stride_x_n"])
def _grouped_linear_fwd_kernel(
    x_ptr, w_ptr, bias_ptr,
    y_ptr,
    N, span, count,
    stride_x_f: tl.int64, stride_x_n: tl.int64,  # in units of UNIT elements
    D: tl.constexpr, H: tl.constexpr,
    HAS_BIAS: tl.constexpr, ACTIVATION: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """y = act(x W + bias).

    Layout    x [F, N, D], innermost stride 1; W [F, D, H], bias [F, H] and y [F, N, H] contiguous.
    Grid      F * count on axis 0: a program owns `span` rows of one layer, and its W stays in registers.
    Numerics  products of x's type at PRECISION with float32 sums; bias and activation in float32. W is rounded to x's
              type.
    Backward  reads x, W and dy.
    """
    f = (tl.program_id(0) // count).to(tl.int64)
    begin = tl.program_id(0) % count * span
    end = tl.minimum(begin + span, N)
    h = tl.arange(0, BLOCK_H)[None, :]
    w = _load_weight(w_ptr + f * D * H, D, H, BLOCK_D, BLOCK_H, x_ptr.dtype.element_ty)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + f * H + h, mask=h < H, other=0.0).to(tl.float32)
    for start in range(begin, end, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        x = _load_input(x_ptr + (f * stride_x_f + n.to(tl.int64) * stride_x_n) * UNIT, n < end, D, BLOCK_D)
        y = _product(x, w, D, PRECISION)
        if HAS_BIAS:
            y += bias
        y = activate(y, ACTIVATION)
        y_ptrs = y_ptr + (f * N + n.to(tl.int64)[:, None]) * H + h
        tl.store(y_ptrs, y.to(y_ptr.dtype.element_ty), mask=(n < end)[:, None] & (h < H))


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


def linear_forward_launch(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    y: torch.Tensor,
    activation: str | None,
    precision: str,
) -> Launch:
    """What fills y [F, N, H]."""
    (F, N, D), H = x.shape, y.shape[2]
    config, n = select_linear(F, N, D, H, x.element_size(), backward=False), unit(x)
    count = triton.cdiv(N, config.span)
    stride_f, stride_n = strides(x, 2)
    arguments = dict(
        x_ptr=x,
        w_ptr=weight,
        bias_ptr=bias,
        y_ptr=y,
        N=N,
        span=config.span,
        count=count,
        stride_x_f=stride_f // n,
        stride_x_n=stride_n // n,
    )
    constants = dict(
        D=D, H=H, HAS_BIAS=bias is not None, ACTIVATION=activation, PRECISION=precision,
        BLOCK_N=config.BLOCK_N, BLOCK_D=config.BLOCK_D, BLOCK_H=config.BLOCK_H, UNIT=n,
    )  # fmt: skip
    return Launch(_grouped_linear_fwd_kernel, (F * count,), arguments, constants, config.num_warps)


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


def grouped_linear_forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    activation: str | None = None,
    *,
    precision: str | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """act(x W + bias) [F, N, H] in x's dtype from x [F, N, D], weight [F, D, H] and bias [F, 1, H].

    activation is None, "relu", "gelu" (with erf) or "silu". The result is written to `out` (contiguous) if given.
    precision as in `resolve_precision`; cuBLAS has its own setting.
    """
    check_dtypes(x=x, weight=weight, bias=bias)
    (F, N, D), H = x.shape, weight.shape[2]
    if 0 in (F, N, D, H) or not uses_kernel(D, H):
        y = matmul.activate(matmul.affine(x, weight, bias), activation)
        return y if out is None else out.copy_(y)
    y = torch.empty(F, N, H, dtype=x.dtype, device=x.device) if out is None else out
    bias = None if bias is None else bias.contiguous()
    precision = resolve_precision(precision, x.dtype)
    linear_forward_launch(rows(x), weight.contiguous(), bias, y, activation, precision).run()
    return y


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
