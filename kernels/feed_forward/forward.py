"""The feed-forward half of a residual block, y = x + W2 relu(W1 LN(x + h) + b1) + b2, of F independent terms in one
pass over memory. README.md has the formulas."""

from typing import Any

import torch
import triton.language as tl

from ..common.arithmetic import in_elements
from ..common.config import resolve_precision
from ..common.device import kernel
from ..common.launch import Launch, check_dtypes
from ..common.operands import packed, stride_arguments, unit_stride, vector_unit
from ..common.plan import planned
from ..common.tiles import load_existing, multiply, store_existing
from .config import MAX_INPUTS, MAX_WIDTH, FeedForwardConfig, num_parameters, select_feed_forward, uses_kernel
from .tiles import (
    contained,
    embed,
    hidden,
    line_mask,
    line_offsets,
    load_embedding,
    load_first,
    load_inputs,
    load_second,
    normalize,
    row_numbers,
    spread,
    with_nan_of,
)


@kernel
def _feed_forward_fwd_kernel(
    x_ptr, params_ptr, h_ptr,  # inputs
    y_ptr,  # output
    N, span, num_spans,  # sizes
    stride_x_f: tl.int64, stride_x_n: tl.int64,  # in units of UNIT elements, as stride_h
    stride_h_f: tl.int64, stride_h_n: tl.int64,
    K: tl.constexpr, D: tl.constexpr, NUM_PARAMETERS: tl.constexpr, WIDTH: tl.constexpr,
    PACKED: tl.constexpr, UNIT: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """y = x + relu(LN(x + h) W1 + b1) W2 + b2,   LN(r) = gamma (r - mean) / sqrt(var + eps) + beta.

    Layout    x, h [F, N, D], innermost stride 1, the stride of N is D if PACKED; params [F, 2 D^2 + 4 D] holds gamma,
              beta, W1 [D, D], b1, W2 [D, D], b2; y [F, N, D] contiguous.
    K         With K > 0 x is [F, N, K] through its strides in elements, innermost 1, and x W_e + b_e takes its place,
              made in registers; params [F, 2 D^2 + 5 D + K D] then ends with W_e [K, D], b_e.
    Grid      F * num_spans on axis 0: a program owns `span` rows of one term and keeps its parameters in registers.
    Tile      BLOCK_N lines of BLOCK_D / WIDTH rows. The full ones are a loop without masks for a tail.
    Identity  LN(r) W1 + b1 = n (gamma W1) + (beta W1 + b1), n the normalized row: gamma and beta cost nothing here.
    Numerics  float32; n, the hidden layer and the weights enter products in the dtype of x. var is the mean of the
              squares of r - mean.
    Backward  reads x, h and the parameters; nothing is saved.
    """
    f = (tl.program_id(0) // num_spans).to(tl.int64)
    begin = tl.program_id(0) % num_spans * span
    end = tl.minimum(begin + span, N)
    TILE: tl.constexpr = BLOCK_N * (BLOCK_D // WIDTH)
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    params_ptr += f * NUM_PARAMETERS
    w1, b1 = load_first(params_ptr, D, WIDTH, BLOCK_D, DTYPE)
    w2, b2 = load_second(params_ptr, D, WIDTH, BLOCK_D, DTYPE)
    step_h = D if PACKED else in_elements(stride_h_n, UNIT)
    if K > 0:
        w_e, b_e = load_embedding(params_ptr, K, D, WIDTH, BLOCK_D, DTYPE)
        row = row_numbers(BLOCK_N, BLOCK_D // WIDTH)
        step_x = stride_x_n
        x_ptr += f * stride_x_f
        x_offsets = row * step_x
    else:
        step_x = D if PACKED else in_elements(stride_x_n, UNIT)
        x_ptr += f * stride_x_f * UNIT
        x_offsets = line_offsets(step_x, D, WIDTH, BLOCK_N, BLOCK_D, PACKED)
    h_ptr += f * stride_h_f * UNIT
    y_ptr += f * N * D
    h_offsets = line_offsets(step_h, D, WIDTH, BLOCK_N, BLOCK_D, PACKED)
    y_offsets = line_offsets(D, D, WIDTH, BLOCK_N, BLOCK_D, True)

    middle = begin + (end - begin) // TILE * TILE
    for TAIL in tl.static_range(2):
        for start in tl.range(middle if TAIL else begin, end if TAIL else middle, TILE, num_stages=2):
            exists = line_mask(end - start, D, WIDTH, BLOCK_N, BLOCK_D, TAIL)
            at = tl.full((), start, tl.int64)
            if K > 0:
                x = embed(load_inputs(x_ptr + at * step_x + x_offsets, row < end - start, K, TAIL), w_e, b_e, K)
            else:
                x = load_existing(x_ptr + at * step_x + x_offsets, exists).to(tl.float32)
            h = load_existing(h_ptr + at * step_h + h_offsets, exists).to(tl.float32)
            n, _, mean = normalize(x + h, D, WIDTH)
            s = tl.maximum(hidden(n.to(DTYPE), w1, b1, PRECISION), 0.0, propagate_nan=tl.PropagateNan.ALL)
            y = with_nan_of(multiply(contained(s, WIDTH, DTYPE), w2, None, PRECISION) + b2, s, WIDTH, DTYPE)
            y = with_nan_of(x + y, spread(mean, BLOCK_D), WIDTH, tl.float32)
            store_existing(y_ptr + at * D + y_offsets, y, exists)


def shared_operands(
    x: torch.Tensor, params: torch.Tensor, h: torch.Tensor, precision: str | None, config: FeedForwardConfig,
    dy: torch.Tensor | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """(arguments, constants) of both kernels."""
    (_, N, D), K = h.shape, embedded(x, h)
    x, h, params = unit_stride(x), unit_stride(h), params.contiguous()
    wide = (h, dy) if K else (x, h, dy)
    unit = vector_unit(*wide)
    arguments = dict(
        x_ptr=x, params_ptr=params, h_ptr=h, N=N, span=config.span, num_spans=-(-N // config.span),
        **stride_arguments("fn", 1 if K else unit, x=x), **stride_arguments("fn", unit, h=h),
    )  # fmt: skip
    constants = dict(
        K=K, D=D, NUM_PARAMETERS=num_parameters(D, K),
        PACKED=all(packed(t) for t in wide), UNIT=unit, PRECISION=resolve_precision(precision, x.dtype),
        BLOCK_N=config.BLOCK_N, BLOCK_D=config.BLOCK_D, WIDTH=config.WIDTH,
    )  # fmt: skip
    return arguments, constants


def forward_launch(
    x: torch.Tensor, params: torch.Tensor, h: torch.Tensor, y: torch.Tensor, *, precision: str | None = None
) -> Launch:
    """The launch that fills y [F, N, D]."""
    F, N, D = h.shape
    config = select_feed_forward(F, N, D, x.element_size(), backward=False)
    arguments, constants = shared_operands(x, params, h, precision, config)
    return Launch(_feed_forward_fwd_kernel, (F * arguments["num_spans"],), arguments | dict(y_ptr=y), constants, 1)


def embedded(x: torch.Tensor, h: torch.Tensor) -> int:
    """K, the numbers in a row of x where it is to be embedded; 0 where it is as wide as h."""
    return 0 if x.shape[2] == h.shape[2] else x.shape[2]


def check_parameters(x: torch.Tensor, params: torch.Tensor, size: int) -> None:
    """Raises unless params holds `size` numbers for each term of x, in the dtype of x or float32."""
    wanted = (x.shape[0], size)
    if params.shape != wanted or params.dtype not in (x.dtype, torch.float32):
        raise ValueError(
            f"params: expected {wanted} in {x.dtype} or float32, got {tuple(params.shape)} in {params.dtype}"
        )


def check_operands(x: torch.Tensor, params: torch.Tensor, h: torch.Tensor, dy: torch.Tensor | None = None) -> None:
    """Raises for what no kernel takes, and where shapes or dtypes do not fit."""
    check_dtypes(x=x, params=params, h=h, dy=dy)
    D, K = h.shape[2], embedded(x, h)
    if not uses_kernel(D) or K > MAX_INPUTS:
        raise ValueError(
            f"x: expected rows of 1 to {MAX_WIDTH} numbers, or of 1 to {MAX_INPUTS} before an embedding of as many, "
            f"got {x.shape[2]} and h of {D}"
        )
    check_parameters(x, params, num_parameters(D, K))
    for name, given in (("h", h), ("dy", dy)):
        shape = (*x.shape[:2], D)
        if given is not None and (given.shape != shape or given.dtype != x.dtype):
            raise ValueError(f"{name}: expected {shape} in {x.dtype}, got {tuple(given.shape)} in {given.dtype}")


@planned
def feed_forward_forward(
    x: torch.Tensor, params: torch.Tensor, h: torch.Tensor, *, precision: str | None = None
) -> torch.Tensor:
    """y = x + relu(LN(x + h) W1 + b1) W2 + b2 of F terms, in one pass over memory.

    x, h       [F, N, D] float32, bfloat16 or float16, 1 <= D <= 32; copied unless the innermost stride is 1. With x
               [F, N, K], K <= 3 and K < D, x W_e + b_e takes its place.
    params     [F, 2 D^2 + 4 D], float32 or the dtype of x: gamma, beta (D each), W1 (D x D, in x out), b1 (D), W2, b2;
               then W_e (K x D), b_e where x is embedded. The weights are rounded to the dtype of x where they are
               loaded.
    precision  of float32 products, as `resolve_precision` in common/config.py takes it.
    y          [F, N, D] in the dtype of x, contiguous.
    """
    check_operands(x, params, h)
    y = x.new_empty(h.shape)
    if y.numel():
        forward_launch(x, params, h, y, precision=precision).run()
    return y
