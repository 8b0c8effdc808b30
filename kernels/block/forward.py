"""A residual block forward, y = x + W2 relu(W1 LN(x + h) + b1) + b2 with h the minGRU of x, of F independent terms in
one pass over memory. README.md has the formulas; the backward is block_bwd.py."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch.nn.functional import pad

from ..common.arithmetic import in_elements
from ..common.config import LaunchConfig, resolve_precision
from ..common.flags import code_strides, load_codes
from ..common.lanes import columns, factor, load_lanes, padded_width, project_lanes, row_mask, store_lanes, vector
from ..common.launch import Launch, check_dtypes
from ..common.operands import packed, rows, strides, unit
from ..common.scans import GROUPS, chain_rows
from ..feed_forward.config import MAX_INPUTS, MAX_WIDTH, embedded_columns, parameters, uses_kernel
from ..feed_forward.forward import check_parameters, feed_forward_forward
from ..feed_forward.tiles import load_embedding, load_first, load_second
from ..min_gru.chunks import forward_entries, plan_chunks
from ..min_gru.config import table_config
from ..min_gru.forward import MAX_REGISTERS, min_gru_forward
from ..min_gru.operands import common
from ..min_gru.states import first_state, place_rows, step_map, store_last
from ..min_gru.tiles import load_weight_tile
from .config import block_is_fused, select_block
from .tiles import embed_spread, load_spread, transform, with_one

_NUMBERS = ["B", "T", "length", "count", "stride_w_f", "stride_p_f", *(f"stride_{x}_{d}" for x in "xc" for d in "fbt")]


@triton.jit(do_not_specialize=_NUMBERS)
def _block_fwd_kernel(
    x_ptr, w_ptr, params_ptr, h0_ptr, code_ptr, entry_ptr,  # inputs
    y_ptr, h_ptr, h_last_ptr,  # outputs
    B, T, length, count,  # sizes; only these change with the batch and the sequence
    stride_x_f: tl.int64, stride_x_b: tl.int64, stride_x_t: tl.int64,  # in units of UNIT elements
    stride_c_f: tl.int64, stride_c_b: tl.int64, stride_c_t: tl.int64,
    stride_w_f: tl.int64, stride_p_f: tl.int64,
    K: tl.constexpr, D: tl.constexpr,
    HAS_H0: tl.constexpr, HAS_CODES: tl.constexpr, NEED_H: tl.constexpr, SPLIT: tl.constexpr,
    SEQ: tl.constexpr, EVEN: tl.constexpr, PACKED: tl.constexpr, UNIT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, WIDTH: tl.constexpr, VECTOR: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """h_t = (1 - z_t) h_{t-1} + z_t g(u_t),   z_t = sigmoid(k_t),   (u_t | k_t) = x_t W,   h_0 = h0 or 0;

    y_t = x_t + relu(LN(x_t + h_t) W1 + b1) W2 + b2,   LN(r) = gamma (r - mean) / sqrt(var + eps) + beta.

    K         With K > 0 x has K numbers a row: x W_e + b_e stands for x in y and r, and (u | k) = (x | 1) W with W of
              K + 1 rows.
    Layout    x [F, B, T, D], innermost stride 1, the stride of T is D if PACKED; W [F, D, 2D] and params (gamma, beta,
              W1, b1, W2, b2) [F, 2 D^2 + 4 D] contiguous but for the stride of F; h0 [F, B, D], y and h [F, B, T, D]
              contiguous, h_last [F, B, D] float32. h is written with NEED_H alone.
    Tile      and grid, SEQ, SPLIT, EVEN and codes are those of `_min_gru_fwd_kernel`, with one warp. The first half of
              a tile loads x and makes the maps of its steps, the second gives h of each and what follows from it.
    Columns   of all tiles lie in the same threads, in an order that loads and products share: see lanes.py.
    Identity  LN(r) W1 + b1 = n (gamma W1) + (beta W1 + b1), n the normalized row.
    Numerics  float32 but for the operands of products, which enter in the dtype of x; h is not rounded on its way to
              LN. With tf32x3 an infinite x gives a state of NaN: its remainder is infinity - infinity. A masked row of
              x does not reach the state, but its own y.
    Backward  reads x, W, params and h: block_bwd.py, or that of the halves.
    """
    TILE: tl.constexpr = STEPS if SEQ else ROWS * STEPS
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    f, b, g, row_exists, state_exists, t_row, begin, end, middle = place_rows(B, T, length, count, ROWS, STEPS, SEQ)
    row = f * B + b
    carry = first_state(
        h0_ptr, entry_ptr, row, g, count, state_exists, D, HAS_H0, SPLIT, SEQ, False, ROWS, WIDTH
    )  # fmt: skip

    c = columns(WIDTH, VECTOR)
    params_ptr += f * stride_p_f
    w = load_weight_tile(w_ptr + f * stride_w_f, K + 1 if K > 0 else D, D, WIDTH, WIDTH, DTYPE)
    if K > 0:
        step_x = stride_x_t
        x_rows = f * stride_x_f + b * stride_x_b + t_row.to(tl.int64) * step_x
        x_ptrs = x_ptr + x_rows[None, :, None, None] + 0 * c
        w_e, b_e = load_embedding(params_ptr, K, D, WIDTH, WIDTH, DTYPE)
    else:
        step_x = D if PACKED else in_elements(stride_x_t, UNIT)
        x_rows = (f * stride_x_f + b * stride_x_b) * UNIT + t_row.to(tl.int64) * step_x
        x_ptrs = x_ptr + x_rows[None, :, None, None] + c
    out_rows = (row * T + t_row) * D
    y_ptrs = y_ptr + out_rows[None, :, None, None] + c
    h_ptrs = h_ptr
    if NEED_H:
        h_ptrs = h_ptr + out_rows[None, :, None, None] + c
    code_ptrs = code_ptr
    if HAS_CODES:
        code_ptrs = code_ptr + f * stride_c_f + b * stride_c_b + t_row.to(tl.int64) * stride_c_t
    w = factor(w, VECTOR, 2 * VECTOR, DTYPE, PRECISION)
    w1, b1 = load_first(params_ptr, D, WIDTH, WIDTH, DTYPE)
    w2, b2 = load_second(params_ptr, D, WIDTH, WIDTH, DTYPE)
    w1 = factor(w1, VECTOR, VECTOR, DTYPE, PRECISION)
    w2 = factor(w2, VECTOR, VECTOR, DTYPE, PRECISION)

    # The full tiles are a loop without masks for a tail.
    for MASKED in tl.static_range(1 if EVEN else 2):
        start = middle if MASKED else begin
        stop = end if MASKED or EVEN else middle
        for t0 in tl.range(start, stop, TILE, num_stages=STAGES):
            t_tile = tl.full((), t0, tl.int64)
            xs = ()
            maps_a = ()
            maps_b = ()
            for s in tl.static_range(STEPS):
                exists = tl.arange(0, ROWS) < ROWS
                if MASKED:
                    exists = row_exists & (t_row + (t0 + s) < end)
                code = exists
                if HAS_CODES:
                    code = load_codes(code_ptrs + (t_tile + s) * stride_c_t, exists)
                if K > 0:
                    inputs = load_spread(x_ptrs + (t_tile + s) * step_x, row_mask(exists, D, WIDTH, VECTOR, MASKED), K)
                    x = embed_spread(inputs, w_e, b_e, K)
                    u, k = project_lanes(with_one(inputs, K, DTYPE), w, VECTOR, VECTOR, PRECISION)
                else:
                    x = load_lanes(x_ptrs + (t_tile + s) * step_x, row_mask(exists, D, WIDTH, VECTOR, MASKED))
                    u, k = project_lanes(x, w, VECTOR, VECTOR, PRECISION)
                a, b_t = step_map(u, k, code, exists, HAS_CODES, MASKED, False, False)
                if not SEQ and s > 0:
                    b_t = tl.fma(a, maps_b[s - 1], b_t)
                    a = a * maps_a[s - 1]
                xs += (x,)
                maps_a += (a,)
                maps_b += (b_t,)
            entering = carry
            if not SEQ:
                entering, carry = chain_rows(maps_a[STEPS - 1], maps_b[STEPS - 1], carry, ROWS, WIDTH, False, GROUPS)
            for s in tl.static_range(STEPS):
                h = tl.fma(maps_a[s], entering, maps_b[s])
                if SEQ:
                    entering = h
                mask = row_mask(row_exists & (t_row + (t0 + s) < end), D, WIDTH, VECTOR, MASKED)
                if NEED_H:
                    store_lanes(h_ptrs + (t_tile + s) * D, h, mask)
                y = transform(xs[s], h, w1, b1, w2, b2, D, VECTOR, DTYPE, PRECISION)
                store_lanes(y_ptrs + (t_tile + s) * D, y, mask)
            if SEQ:
                carry = entering

    store_last(h_last_ptr, carry, row, g, count, state_exists, D, SEQ, False, WIDTH)


def embedded_inputs(x: torch.Tensor, weight: torch.Tensor) -> int:
    """K, the numbers in a row of x where they are to be embedded; 0 where a row is as wide as the block."""
    return 0 if 2 * x.shape[3] == weight.shape[2] else x.shape[3]


def block_operands(
    x: torch.Tensor, weight: torch.Tensor, params: torch.Tensor, codes: torch.Tensor | None, dy: torch.Tensor | None,
    precision: str, config: LaunchConfig,
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """(arguments, constants) of both kernels, from x and dy with innermost stride 1."""
    F, B, T, _ = x.shape
    D, K = weight.shape[2] // 2, embedded_inputs(x, weight)
    wide = [t for t in (None if K else x, dy) if t is not None]
    n = unit(*wide) if wide else 1
    weight = weight if weight.stride()[1:] == (2 * D, 1) else weight.contiguous()
    params = params if params.stride(1) == 1 else params.contiguous()
    arguments = dict(x_ptr=x, w_ptr=weight, params_ptr=params, code_ptr=codes, B=B, T=T)
    for name, steps in (("x", strides(x, 3)), ("c", code_strides(codes, F, B, T))):
        each = n if name == "x" and not K else 1
        arguments |= {f"stride_{name}_{d}": s // each for d, s in zip("fbt", steps, strict=True)}
    arguments |= dict(stride_w_f=weight.stride(0), stride_p_f=params.stride(0))
    constants = dict(
        K=K, D=D, HAS_CODES=codes is not None, SEQ=config.seq, EVEN=config.divides(B, T),
        PACKED=all(packed(t) for t in wide), UNIT=n, PRECISION=precision,
        ROWS=config.ROWS, STEPS=config.STEPS, WIDTH=padded_width(D), VECTOR=vector(D, x.element_size()),
        STAGES=config.STAGES,
    )  # fmt: skip
    return arguments, constants


def forward_launches(
    x: torch.Tensor, weight: torch.Tensor, params: torch.Tensor, h0: torch.Tensor | None, codes: torch.Tensor | None,
    y: torch.Tensor, h: torch.Tensor | None, h_last: torch.Tensor,
    *, precision: str | None = None, config: LaunchConfig | None = None,
) -> list[Launch]:  # fmt: skip
    """The launches that fill y and h [F, B, T, D] (unless it is None) and h_last [F, B, 1, D]: one, or three and more
    where a long T is cut, which embedded rows are not."""
    F, B, T, D = y.shape
    precision = resolve_precision(precision, x.dtype)
    config = config or select_block(D, x.dtype, precision, F, B, T)
    x, h0 = rows(x), None if h0 is None else h0.contiguous()
    arguments, constants = block_operands(x, weight, params, codes, None, precision, config)
    launches = []
    entry, length, count = None, T, 1
    if not constants["K"]:
        totals_config = table_config("forward", False, D, D, x.dtype)
        length, count = plan_chunks(F, B, T, config, whole=totals_config.tile)
    if count > 1:
        shared = common(x, weight.contiguous(), codes, None, length, count, precision, totals_config)
        launches, entry = forward_entries(*shared, h0, F, D, totals_config)
    arguments |= dict(h0_ptr=h0, entry_ptr=entry, y_ptr=y, h_ptr=h, h_last_ptr=h_last, length=length, count=count)
    constants |= dict(HAS_H0=h0 is not None, NEED_H=h is not None, SPLIT=count > 1)
    grid = config.grid(F, B, count)
    launches.append(Launch(_block_fwd_kernel, grid, arguments, constants, config.num_warps, MAX_REGISTERS))
    return launches


def block_forward(
    x: torch.Tensor, weight: torch.Tensor, params: torch.Tensor, h0: torch.Tensor | None = None,
    codes: torch.Tensor | None = None,
    *, need_h: bool, precision: str | None = None, config: LaunchConfig | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:  # fmt: skip
    """(y, h, h_last) of F independent residual blocks: `min_gru_forward` of x, then `feed_forward_forward` of x and h.

    x, h0, codes  as those of `min_gru_fwd.min_gru_forward`, 1 <= D <= 32. With x [F, B, T, K], K <= 3 and K < D,
                  x W_e + b_e takes its place.
    weight        [F, D, 2D], params [F, 2 D^2 + 4 D], as those of the two; both may be parts of one tensor. Where x is
                  embedded [F, K + 1, 2D], which is W_e W and b_e W of the minGRU's W, and params has W_e, b_e at its
                  end.
    need_h        without it h is None and is written nowhere.
    precision     of float32 products, as `resolve_precision` in config.py takes it. "ieee" takes two kernels, and so
                  does whatever `block_is_fused` says no to, and a T to be cut of embedded rows.
    y, h          [F, B, T, D] in the dtype of x; h_last [F, B, 1, D] float32. One kernel does not round h before it
                  goes into y; two do.
    """
    D = check_block(x, weight, params)
    check_dtypes(h0=h0)
    F, B, T, _ = x.shape
    fused = block_is_fused(D, x.dtype, precision)
    if fused:
        config = config or select_block(D, x.dtype, resolve_precision(precision, x.dtype), F, B, T)
        fused = not embedded_inputs(x, weight) or plan_chunks(F, B, T, config)[1] == 1
    if not fused:
        h, h_last = min_gru_forward(*columns_of(x, weight), h0, codes, precision=precision)
        y = feed_forward_forward(x.flatten(1, 2), params, h.flatten(1, 2), precision=precision)
        return y.view(h.shape), h if need_h else None, h_last
    y = torch.empty(F, B, T, D, dtype=x.dtype, device=x.device)
    h = torch.empty_like(y) if need_h else None
    h_last = torch.empty(F, B, 1, D, dtype=torch.float32, device=x.device)
    for launch in forward_launches(x, weight, params, h0, codes, y, h, h_last, precision=precision, config=config):
        launch.run()
    return y, h, h_last


def check_block(x: torch.Tensor, weight: torch.Tensor, params: torch.Tensor) -> int:
    """The width of a block; raises where its operands do not fit."""
    check_dtypes(x=x, params=params)
    D, K = weight.shape[2] // 2, embedded_inputs(x, weight)
    if not uses_kernel(D) or K > MAX_INPUTS:
        raise ValueError(
            f"x: expected rows of 1 to {MAX_WIDTH} numbers, or of 1 to {MAX_INPUTS} before an embedding of as many, "
            f"got {x.shape[3]} and a weight of {weight.shape[2]} columns"
        )
    check_parameters(x, params, parameters(D, K))
    wanted = (x.shape[0], K + 1 if K else D, 2 * D)
    if weight.shape != wanted or weight.dtype not in (x.dtype, torch.float32):
        raise ValueError(
            f"weight: expected {wanted} in {x.dtype} or float32, got {tuple(weight.shape)} in {weight.dtype}"
        )
    return D


def columns_of(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x and the weight of the block's minGRU as one of its own: embedded rows get a 1, and columns up to a width that
    the kernels like."""
    K = embedded_inputs(x, weight)
    if not K:
        return x, weight
    missing = embedded_columns(K, x.element_size()) - (K + 1)
    return pad(x, (0, 1 + missing), value=1.0), pad(weight, (0, 0, 0, missing))
