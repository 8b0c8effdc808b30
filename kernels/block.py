"""A residual block forward, y = x + W2 relu(W1 LN(x + h) + b1) + b2 with h the minGRU of x, of F independent terms in
one pass over memory. README.md has the formulas; the backward is that of its two halves, min_gru_bwd.py and
feed_forward_bwd.py."""

import torch
import triton
import triton.language as tl

from .config import LaunchConfig, resolve_precision, table_config
from .config_block import block_is_fused, padded_width, select_block, vector
from .config_feed_forward import MAX_WIDTH, parameters, uses_kernel
from .feed_forward import check_parameters, feed_forward_forward
from .feed_forward_tiles import load_first, load_second, normalize
from .lanes import columns, factor, load_lanes, product, restored, row_mask, store_lanes
from .launch import Launch, check_dtypes
from .min_gru_fwd import MAX_REGISTERS, min_gru_forward
from .operands import common, rows
from .primitives import chain_rows, in_elements, load_codes
from .recurrence import first_state, place_rows, step_map, store_last
from .split_t import entry_launches, plan_chunks, totals_launch
from .tiles import load_weight_tile

_NUMBERS = ["B", "T", "length", "count", "stride_w_f", "stride_p_f", *(f"stride_{x}_{d}" for x in "xc" for d in "fbt")]


@triton.jit(do_not_specialize=_NUMBERS)
def _block_fwd_kernel(
    x_ptr, w_ptr, params_ptr, h0_ptr, code_ptr, entry_ptr,  # inputs
    y_ptr, h_ptr, h_last_ptr,  # outputs
    B, T, length, count,  # sizes; only these change with the batch and the sequence
    stride_x_f: tl.int64, stride_x_b: tl.int64, stride_x_t: tl.int64,  # in units of UNIT elements
    stride_c_f: tl.int64, stride_c_b: tl.int64, stride_c_t: tl.int64,
    stride_w_f: tl.int64, stride_p_f: tl.int64,
    D: tl.constexpr,
    HAS_H0: tl.constexpr, HAS_CODES: tl.constexpr, NEED_H: tl.constexpr, SPLIT: tl.constexpr,
    SEQ: tl.constexpr, EVEN: tl.constexpr, PACKED: tl.constexpr, UNIT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, WIDTH: tl.constexpr, VECTOR: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """h_t = (1 - z_t) h_{t-1} + z_t g(u_t),   z_t = sigmoid(k_t),   (u_t | k_t) = x_t W,   h_0 = h0 or 0;

    y_t = x_t + relu(LN(x_t + h_t) W1 + b1) W2 + b2,   LN(r) = gamma (r - mean) / sqrt(var + eps) + beta.

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
    Backward  None: it is that of the halves, which needs h.
    """
    TILE: tl.constexpr = STEPS if SEQ else ROWS * STEPS
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    f, b, g, row_exists, state_exists, t_row, begin, end, middle = place_rows(B, T, length, count, ROWS, STEPS, SEQ)
    row = f * B + b
    carry = first_state(
        h0_ptr, entry_ptr, row, g, count, state_exists, D, HAS_H0, SPLIT, SEQ, False, ROWS, WIDTH
    )  # fmt: skip

    step_x = D if PACKED else in_elements(stride_x_t, UNIT)
    c = columns(WIDTH, VECTOR)
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
    w = load_weight_tile(w_ptr + f * stride_w_f, D, D, WIDTH, WIDTH, DTYPE)
    w = factor(w, VECTOR, 2 * VECTOR, DTYPE, PRECISION)
    params_ptr += f * stride_p_f
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
                x = load_lanes(x_ptrs + (t_tile + s) * step_x, row_mask(exists, D, WIDTH, VECTOR, MASKED))
                u, k = project_lanes(x, w, VECTOR, PRECISION)
                a, b_t = step_map(u, k, code, exists, HAS_CODES, MASKED, False)
                if not SEQ and s > 0:
                    b_t = tl.fma(a, maps_b[s - 1], b_t)
                    a = a * maps_a[s - 1]
                xs += (x,)
                maps_a += (a,)
                maps_b += (b_t,)
            entering = carry
            if not SEQ:
                entering, carry = chain_rows(maps_a[STEPS - 1], maps_b[STEPS - 1], carry, ROWS, WIDTH, False)
            for s in tl.static_range(STEPS):
                h = tl.fma(maps_a[s], entering, maps_b[s])
                if SEQ:
                    entering = h
                mask = row_mask(row_exists & (t_row + (t0 + s) < end), D, WIDTH, VECTOR, MASKED)
                if NEED_H:
                    store_lanes(h_ptrs + (t_tile + s) * D, h, mask)
                y = transform(xs[s], h, w1, b1, w2, b2, D, VECTOR, PRECISION)
                store_lanes(y_ptrs + (t_tile + s) * D, y, mask)
            if SEQ:
                carry = entering

    store_last(h_last_ptr, carry, row, g, count, state_exists, D, SEQ, False, WIDTH)


@triton.jit
def project_lanes(x, w, VECTOR: tl.constexpr, PRECISION: tl.constexpr):
    """(u, k) = x W of a tile x [ROWS, WIDTH], float32, with the columns of W in the order u0, k0, u1, k1, ..."""
    p = product(x, w, VECTOR, x.dtype, PRECISION)
    u, k = tl.split(tl.reshape(p, (x.shape[0], x.shape[1], 2)))
    return restored(u, VECTOR, 1), restored(k, VECTOR, 1)


@triton.jit
def transform(x, h, w1, b1, w2, b2, D: tl.constexpr, VECTOR: tl.constexpr, PRECISION: tl.constexpr):
    """y = x + relu(n W1 + b1) W2 + b2 with n the normalized x + h, float32."""
    WIDTH: tl.constexpr = x.shape[1]
    DTYPE: tl.constexpr = x.dtype
    x = x.to(tl.float32)
    r = x + h
    if D < WIDTH:  # a channel of padding has the gates of 0
        r = tl.where(tl.arange(0, WIDTH)[None, :] < D, r, 0.0)
    n, _, _ = normalize(r, D, WIDTH)
    s = restored(product(n, w1, VECTOR, DTYPE, PRECISION), VECTOR, 2) + b1
    s = tl.maximum(s, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return x + (restored(product(s, w2, VECTOR, DTYPE, PRECISION), VECTOR, 2) + b2)


def forward_launches(
    x: torch.Tensor, weight: torch.Tensor, params: torch.Tensor, h0: torch.Tensor | None, codes: torch.Tensor | None,
    y: torch.Tensor, h: torch.Tensor | None, h_last: torch.Tensor,
    *, precision: str | None = None, config: LaunchConfig | None = None,
) -> list[Launch]:  # fmt: skip
    """The launches that fill y and h [F, B, T, D] (unless it is None) and h_last [F, B, 1, D]: one, or three and more
    where a long T is cut."""
    F, B, T, D = x.shape
    precision = resolve_precision(precision, x.dtype)
    config = config or select_block(D, x.dtype, precision, F, B, T)
    x, h0 = rows(x), None if h0 is None else h0.contiguous()
    weight = weight if weight.stride()[1:] == (2 * D, 1) else weight.contiguous()
    params = params if params.stride(1) == 1 else params.contiguous()
    totals_config = table_config("forward", False, D, D, x.dtype)
    length, count = plan_chunks(F, B, T, config, whole=totals_config.tile)
    launches = []
    entry = None
    if count > 1:
        totals = [torch.empty(F * B, count, D, dtype=torch.float32, device=x.device) for _ in range(2)]
        entry = torch.empty_like(totals[0])
        shared = common(x, weight.contiguous(), codes, None, length, count, precision, totals_config)
        launches.append(totals_launch(*shared, totals, None, F, totals_config))
        launches += entry_launches(totals, h0, entry)
    arguments, constants = common(x, weight, codes, None, length, count, precision, config)
    arguments |= dict(
        params_ptr=params, h0_ptr=h0, entry_ptr=entry, y_ptr=y, h_ptr=h, h_last_ptr=h_last,
        stride_w_f=weight.stride(0), stride_p_f=params.stride(0),
    )  # fmt: skip
    constants = {name: value for name, value in constants.items() if name not in ("H", "BLOCK_D", "BLOCK_H")}
    constants |= dict(
        HAS_H0=h0 is not None, NEED_H=h is not None, SPLIT=count > 1, SEQ=config.seq,
        WIDTH=padded_width(D), VECTOR=vector(D, x.element_size()),
    )  # fmt: skip
    grid = config.grid(F, B, count)
    launches.append(Launch(_block_fwd_kernel, grid, arguments, constants, config.num_warps, MAX_REGISTERS))
    return launches


def block_forward(
    x: torch.Tensor, weight: torch.Tensor, params: torch.Tensor, h0: torch.Tensor | None = None,
    codes: torch.Tensor | None = None,
    *, need_h: bool, precision: str | None = None, config: LaunchConfig | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:  # fmt: skip
    """(y, h, h_last) of F independent residual blocks: `min_gru_forward` of x, then `feed_forward_forward` of x and h.

    x, h0, codes  as those of `min_gru_fwd.min_gru_forward`, 1 <= D <= 32.
    weight        [F, D, 2D], params [F, 2 D^2 + 4 D], as those of the two; both may be parts of one tensor.
    need_h        without it h is None and is written nowhere.
    precision     of float32 products, as `resolve_precision` in config.py takes it. "ieee" takes two kernels, and so
                  does whatever `block_is_fused` says no to.
    y, h          [F, B, T, D] in the dtype of x; h_last [F, B, 1, D] float32. One kernel does not round h before it
                  goes into y; two do.
    """
    check_dtypes(x=x, params=params, h0=h0)
    F, B, _, D = x.shape
    if not uses_kernel(D):
        raise ValueError(f"x: expected rows of 1 to {MAX_WIDTH} numbers, got {D}")
    check_parameters(x, params, parameters(D))
    if weight.shape != (F, D, 2 * D) or weight.dtype not in (x.dtype, torch.float32):
        raise ValueError(
            f"weight: expected {(F, D, 2 * D)} in {x.dtype} or float32, got {tuple(weight.shape)} in {weight.dtype}"
        )
    if not block_is_fused(D, x.dtype, precision):
        h, h_last = min_gru_forward(x, weight, h0, codes, precision=precision)
        y = feed_forward_forward(x.flatten(1, 2), params, h.flatten(1, 2), precision=precision)
        return y.view(x.shape), h if need_h else None, h_last
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    h = torch.empty_like(y) if need_h else None
    h_last = torch.empty(F, B, 1, D, dtype=torch.float32, device=x.device)
    for launch in forward_launches(x, weight, params, h0, codes, y, h, h_last, precision=precision, config=config):
        launch.run()
    return y, h, h_last
