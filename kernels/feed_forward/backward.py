"""The backward of forward.py: gradients of x, h and the parameters in one pass over memory, from x and h."""

import torch
import triton.language as tl

from ..common.arithmetic import in_elements
from ..common.call import Gradients, Needs
from ..common.device import kernel
from ..common.launch import Launch
from ..common.operands import stride_arguments, unit_stride
from ..common.plan import planned
from ..common.tiles import add_lines, load_existing, multiply, own_layout, store_existing
from .config import select_feed_forward
from .forward import check_operands, embedded, shared_operands
from .tiles import (
    add_embedding_gradient,
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
    row_mean,
    row_numbers,
    spread,
    store_embedding_gradient,
    store_gradient,
    store_input_gradient,
    with_nan_of,
)


@kernel
def _feed_forward_bwd_kernel(
    x_ptr, params_ptr, h_ptr, dy_ptr,  # inputs
    dx_ptr, dparams_ptr, dh_ptr,  # outputs
    N, span, num_spans,  # sizes
    stride_x_f: tl.int64, stride_x_n: tl.int64,  # in units of UNIT elements, as stride_h and stride_dy
    stride_h_f: tl.int64, stride_h_n: tl.int64,
    stride_dy_f: tl.int64, stride_dy_n: tl.int64,
    K: tl.constexpr, D: tl.constexpr, NUM_PARAMETERS: tl.constexpr, WIDTH: tl.constexpr,
    NEED_X: tl.constexpr, NEED_PARAMS: tl.constexpr, NEED_H: tl.constexpr,
    PACKED: tl.constexpr, UNIT: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """With n the normalized row, a = n W + b (W = gamma W1, b = beta W1 + b1) and s = relu(a):

    da = dy W2^T where a > 0, else 0;   dn = da W^T;   dr = (dn - mean(dn) - n mean(n dn)) / sqrt(var + eps)
    dh = dr;   dx = dr + dy;   dW2 = s^T dy;   db2 = sum dy;   db1 = sum da;   M = n^T da
    dW1 = gamma M + beta db1;   dgamma = the row sums of W1 M;   dbeta = W1 db1

    K         With K > 0 and de = dr + dy: dW_e = x^T de, db_e = sum de, dx = de W_e^T.
    Layout    as in the forward; dy [F, N, D] through its strides, dx (as x) and dh [F, N, D] contiguous;
              dparams [F, num_spans, as params] float32 holds one partial per program, to be summed in order.
    Grid      F * num_spans on axis 0. M, dW2, db1, db2, dW_e and db_e stay in registers over the rows of a program.
    Numerics  float32; n, s, dy, da and the weights enter products in the dtype of x. The slope of relu at 0 is 0.
    """
    f = (tl.program_id(0) // num_spans).to(tl.int64)
    begin = tl.program_id(0) % num_spans * span
    end = tl.minimum(begin + span, N)
    TILE: tl.constexpr = BLOCK_N * (BLOCK_D // WIDTH)
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    # The compiler leaves the load of dy out of its pipeline here. At D = 32 in tf32 without an embedding it does not,
    # and would spill 58 numbers, not 16.
    OWN_LAYOUT: tl.constexpr = tl.float32 == DTYPE and (WIDTH == 8 or PRECISION == "tf32x3" or K > 0)
    params_ptr += f * NUM_PARAMETERS
    w1, b1 = load_first(params_ptr, D, WIDTH, BLOCK_D, DTYPE)
    w2, _ = load_second(params_ptr, D, WIDTH, BLOCK_D, DTYPE)
    step_h = D if PACKED else in_elements(stride_h_n, UNIT)
    step_dy = D if PACKED else in_elements(stride_dy_n, UNIT)
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
    dy_ptr += f * stride_dy_f * UNIT
    h_offsets = line_offsets(step_h, D, WIDTH, BLOCK_N, BLOCK_D, PACKED)
    dy_offsets = line_offsets(step_dy, D, WIDTH, BLOCK_N, BLOCK_D, PACKED)
    out_offsets = line_offsets(D, D, WIDTH, BLOCK_N, BLOCK_D, True)
    out = f * N * D

    m = tl.zeros((BLOCK_D, BLOCK_D), tl.float32)
    dw2 = tl.zeros((BLOCK_D, BLOCK_D), tl.float32)
    db1 = tl.zeros((8, BLOCK_D), tl.float32)
    db2 = tl.zeros((8, BLOCK_D), tl.float32)
    d_embedding = ()
    for _ in tl.static_range(K + 1 if K > 0 else 0):
        d_embedding += (tl.zeros((8, BLOCK_D), tl.float32),)
    middle = begin + (end - begin) // TILE * TILE
    for TAIL in tl.static_range(2):
        for start in tl.range(middle if TAIL else begin, end if TAIL else middle, TILE, num_stages=2):
            exists = line_mask(end - start, D, WIDTH, BLOCK_N, BLOCK_D, TAIL)
            at = tl.full((), start, tl.int64)
            if K > 0:
                inputs = load_inputs(x_ptr + at * step_x + x_offsets, row < end - start, K, TAIL)
                x = embed(inputs, w_e, b_e, K)
            else:
                x = load_existing(x_ptr + at * step_x + x_offsets, exists).to(tl.float32)
            h = load_existing(h_ptr + at * step_h + h_offsets, exists).to(tl.float32)
            dy = load_existing(dy_ptr + at * step_dy + dy_offsets, exists)
            n, rstd, mean = normalize(x + h, D, WIDTH)
            n_ = n.to(DTYPE)
            a = hidden(n_, w1, b1, PRECISION)
            dy_ = contained(dy, WIDTH, DTYPE)
            da = tl.where(a <= 0.0, 0.0, multiply(dy_, tl.trans(w2), None, PRECISION))
            da_ = contained(da, WIDTH, DTYPE)
            if OWN_LAYOUT:
                dy_ = own_layout(dy_)
                if K > 0 and WIDTH == BLOCK_D:  # de wants a third layout
                    dy = dy_
            if NEED_PARAMS:
                s = tl.maximum(a, 0.0, propagate_nan=tl.PropagateNan.ALL)
                dw2 = multiply(tl.trans(contained(s, WIDTH, DTYPE)), dy_, dw2, PRECISION)
                m = multiply(tl.trans(n_), da_, m, PRECISION)
                db1 = add_lines(db1, da)
                db2 = add_lines(db2, with_nan_of(dy.to(tl.float32), spread(mean, BLOCK_D), WIDTH, tl.float32))
            if NEED_X or NEED_H or (NEED_PARAMS and K > 0):
                dn = with_nan_of(multiply(da_, tl.trans(w1), None, PRECISION), da, WIDTH, DTYPE)
                dy = dy.to(tl.float32)
                along = (
                    row_mean(with_nan_of(dn, dy, WIDTH, tl.float32), D, WIDTH) + mean * 0.0
                )  # NaN where normalize gave 0
                across = row_mean(dn * n, D, WIDTH)
                dr = (dn - spread(along, BLOCK_D) - n * spread(across, BLOCK_D)) * spread(rstd, BLOCK_D)
                if NEED_H:
                    store_existing(dh_ptr + out + at * D + out_offsets, dr, exists)
                if K == 0:
                    if NEED_X:
                        store_existing(dx_ptr + out + at * D + out_offsets, dr + dy, exists)
                else:
                    de = dr + dy
                    if NEED_PARAMS:
                        d_embedding = add_embedding_gradient(d_embedding, inputs, de, K)
                    if NEED_X:
                        dx = dx_ptr + (f * N + at) * K + row * K
                        store_input_gradient(dx, de, w_e, row < end - start, K, WIDTH, TAIL)
    if NEED_PARAMS:
        partial = dparams_ptr + tl.program_id(0).to(tl.int64) * NUM_PARAMETERS
        store_gradient(partial, params_ptr, m, dw2, tl.sum(db1, 0), tl.sum(db2, 0), D, WIDTH, BLOCK_D, DTYPE)
        if K > 0:
            store_embedding_gradient(partial, d_embedding, K, D, WIDTH)


def backward_launch(
    x: torch.Tensor, params: torch.Tensor, h: torch.Tensor, dy: torch.Tensor,
    *, needs: Needs, precision: str | None = None,
) -> Launch:  # fmt: skip
    """The launch that fills those of its arguments that are needed: dx_ptr, dh_ptr, contiguous, and dparams_ptr
    [F, num_spans, P]."""
    F, N, D = h.shape
    config, dy = select_feed_forward(F, N, D, x.element_size(), backward=True, K=embedded(x, h)), unit_stride(dy)
    arguments, constants = shared_operands(x, params, h, precision, config, dy)
    num_spans = arguments["num_spans"]
    dparams = x.new_empty(F, num_spans, params.shape[1], dtype=torch.float32) if needs[1] else None
    arguments |= stride_arguments("fn", constants["UNIT"], dy=dy) | dict(
        dy_ptr=dy,
        dx_ptr=x.new_empty(x.shape) if needs[0] else None,
        dparams_ptr=dparams,
        dh_ptr=h.new_empty(h.shape) if needs[2] else None,
    )
    constants |= dict(NEED_X=needs[0], NEED_PARAMS=needs[1], NEED_H=needs[2])
    return Launch(_feed_forward_bwd_kernel, (F * num_spans,), arguments, constants, 1)


@planned
def feed_forward_backward(
    x: torch.Tensor, params: torch.Tensor, h: torch.Tensor, dy: torch.Tensor,
    *, needs: Needs = (True, True, True), precision: str | None = None,
) -> Gradients:  # fmt: skip
    """(dx, dparams, dh) from the arguments of `feed_forward_forward` and the gradient of y; None where not needed.

    dx and dh have the dtype of x, dparams the one of the parameters. Bitwise the same from run to run.
    """
    check_operands(x, params, h, dy)
    if not any(needs):
        return None, None, None
    if not h.numel():
        dx, dparams, dh = (torch.zeros_like(t) if need else None for t, need in zip((x, params, h), needs, strict=True))
        return dx, dparams, dh
    launch = backward_launch(x, params, h, dy, needs=needs, precision=precision)
    launch.run()
    dx, partials, dh = (launch.arguments[name] for name in ("dx_ptr", "dparams_ptr", "dh_ptr"))
    return dx, None if partials is None else partials.sum(1).to(params.dtype), dh
