"""A residual block forward, y = x + W2 relu(W1 LN(x + h) + b1) + b2 with h the minGRU of x, of F independent terms in
one pass over memory. README.md has the formulas."""

from typing import Any

import torch
import triton.language as tl
from torch.nn.functional import pad

from ..common.arithmetic import in_elements
from ..common.call import Recurrence
from ..common.config import Chunks, LaunchConfig, resolve_precision
from ..common.device import kernel
from ..common.elapsed import load_elapsed
from ..common.flags import is_masked, load_words, step_flags, word_rows
from ..common.lanes import columns, factor, load_lanes, padded_width, project_lanes, row_mask, store_lanes, vector
from ..common.launch import Launch, check_dtypes
from ..common.operands import (
    contiguous_layers,
    has_bias,
    packed,
    readable,
    step_arguments,
    stride_arguments,
    unit_stride,
    vector_unit,
)
from ..common.plan import planned
from ..common.scans import chain_rows
from ..feed_forward.config import MAX_INPUTS, MAX_WIDTH, embedded_columns, num_parameters, uses_kernel
from ..feed_forward.forward import check_parameters, feed_forward_forward
from ..feed_forward.tiles import load_embedding, load_first, load_second
from ..min_gru.chunks import cut_launches, plan_chunks
from ..min_gru.forward import MAX_REGISTERS, min_gru_forward
from ..min_gru.states import first_state, place_rows, step_map, store_last
from ..min_gru.tiles import add_bias, load_bias, load_weight_tile
from .config import block_is_fused, select_block
from .tiles import embed_spread, feed_forward, load_spread, with_one


@kernel
def _block_fwd_kernel(
    x_ptr, w_ptr, params_ptr, h0_ptr, elapsed_ptr, flags_ptr, entry_ptr,  # inputs
    y_ptr, h_ptr, h_last_ptr,  # outputs
    B, T, chunk_steps, num_chunks,  # sizes; only these change with the batch and the sequence
    stride_x_f: tl.int64, stride_x_b: tl.int64, stride_x_t: tl.int64,  # in units of UNIT elements
    stride_elapsed_f: tl.int64, stride_elapsed_b: tl.int64, stride_elapsed_t: tl.int64,
    stride_flags_f: tl.int64, stride_flags_b: tl.int64,
    stride_w_f: tl.int64, stride_params_f: tl.int64,
    K: tl.constexpr, D: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_H0: tl.constexpr, HAS_ELAPSED: tl.constexpr, HAS_FLAGS: tl.constexpr, NEED_H: tl.constexpr, SPLIT: tl.constexpr,
    BATCH_ROWS: tl.constexpr, EVEN: tl.constexpr, PACKED: tl.constexpr, UNIT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, WIDTH: tl.constexpr, VECTOR: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """h_t = (1 - z_t) h_{t-1} + z_t g(u_t),   z_t = sigmoid(k_t),   (u_t | k_t) = x_t W + bias,   h_0 = h0 or 0;

    y_t = x_t + relu(LN(x_t + h_t) W1 + b1) W2 + b2,   LN(r) = gamma (r - mean) / sqrt(var + eps) + beta.

    HAS_BIAS  W has D + 1 rows, and its last is the bias; else there is none.
    K         With K > 0 x has K numbers a row: x W_e + b_e stands for x in y and r, and (u | k) = (x | 1) W with W of
              K + 1 rows.
    Layout    x [F, B, T, D], innermost stride 1, the stride of T is D if PACKED; W [F, D, 2D] and params (gamma, beta,
              W1, b1, W2, b2) [F, 2 D^2 + 4 D] contiguous but for the stride of F; h0 [F, B, D], y and h [F, B, T, D]
              contiguous, h_last [F, B, D] float32. h is written with NEED_H alone.
    Tile      Rows, grid, SPLIT, EVEN, elapsed times and flags are those of `_min_gru_fwd_kernel`, with one warp. The
              first part of the loop loads x and makes the maps of its steps, the second gives h of each and what
              follows from it.
    Columns   Those of all tiles lie in the same threads, in an order that loads and products share: see lanes.py.
    Identity  LN(r) W1 + b1 = n (gamma W1) + (beta W1 + b1), n the normalized row.
    Numerics  float32 but for the operands of products, which enter in the dtype of x; h is not rounded on its way to
              LN. With tf32x3 an infinite x gives a state of NaN: its remainder is infinity - infinity. A masked row of
              x does not reach the state, but its own y.
    Backward  reads x, W, params and h: backward.py, in one kernel or two.
    """
    TILE: tl.constexpr = STEPS if BATCH_ROWS else ROWS * STEPS
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    f, b, chunk, row_exists, state_exists, t_row, begin, end, middle = place_rows(
        B, T, chunk_steps, num_chunks, ROWS, STEPS, BATCH_ROWS
    )
    row = f * B + b
    carry = first_state(
        h0_ptr, entry_ptr, row, chunk, num_chunks, state_exists, D, HAS_H0, SPLIT, BATCH_ROWS, False, ROWS, WIDTH
    )  # fmt: skip

    c = columns(WIDTH, VECTOR)
    params_ptr += f * stride_params_f
    w_ptr += f * stride_w_f
    w = load_weight_tile(w_ptr, K + 1 if K > 0 else D, D, WIDTH, WIDTH, DTYPE)
    bias = load_bias(w_ptr, D, D, WIDTH, HAS_BIAS)
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
    elapsed_ptrs = elapsed_ptr
    if HAS_ELAPSED:
        elapsed_ptrs = elapsed_ptr + f * stride_elapsed_f + b * stride_elapsed_b + t_row.to(tl.int64) * stride_elapsed_t
    ahead = ()
    if HAS_FLAGS:
        flags_ptr, flags_rows = word_rows(flags_ptr, f, b, t_row, stride_flags_f, stride_flags_b, BATCH_ROWS)
        ahead = load_words(flags_ptr, begin, flags_rows, t_row, row_exists, end, STEPS, not EVEN)
        last = begin + (end - 1 - begin) // TILE * TILE
    w = factor(w, VECTOR, 2 * VECTOR, DTYPE, PRECISION)
    w1, b1 = load_first(params_ptr, D, WIDTH, WIDTH, DTYPE)
    w2, b2 = load_second(params_ptr, D, WIDTH, WIDTH, DTYPE)
    w1 = factor(w1, VECTOR, VECTOR, DTYPE, PRECISION)
    w2 = factor(w2, VECTOR, VECTOR, DTYPE, PRECISION)

    # The full tiles are a loop without masks for a tail.
    for TAIL in tl.static_range(1 if EVEN else 2):
        start = middle if TAIL else begin
        stop = end if TAIL or EVEN else middle
        for t0 in tl.range(start, stop, TILE, num_stages=STAGES):
            t_tile = tl.full((), t0, tl.int64)
            xs = ()
            maps_a = ()
            maps_b = ()
            if HAS_FLAGS:
                words = ahead
                t_next = tl.minimum(t0 + TILE, last)
                ahead = load_words(flags_ptr, t_next, flags_rows, t_row, row_exists, end, STEPS, not EVEN)
            for s in tl.static_range(STEPS):
                exists = tl.arange(0, ROWS) < ROWS
                if TAIL:
                    exists = row_exists & (t_row + (t0 + s) < end)
                flags = exists
                if HAS_FLAGS:
                    flags = step_flags(words, t_row, t0, s, STEPS)
                if K > 0:
                    inputs = load_spread(x_ptrs + (t_tile + s) * step_x, row_mask(exists, D, WIDTH, VECTOR, TAIL), K)
                    x = embed_spread(inputs, w_e, b_e, K)
                    u, k = project_lanes(with_one(inputs, K, DTYPE), w, VECTOR, VECTOR, PRECISION)
                else:
                    x = load_lanes(x_ptrs + (t_tile + s) * step_x, row_mask(exists, D, WIDTH, VECTOR, TAIL))
                    u, k = add_bias(*project_lanes(x, w, VECTOR, VECTOR, PRECISION), bias)
                times = ()
                if HAS_ELAPSED:
                    read = exists
                    if HAS_FLAGS:
                        read = exists & ~is_masked(flags)
                    times = (load_elapsed(elapsed_ptrs + (t_tile + s) * stride_elapsed_t, read),)
                a, b_t = step_map(u, k, times, flags, exists, HAS_FLAGS, TAIL, False, False)
                if not BATCH_ROWS and s > 0:
                    b_t = tl.fma(a, maps_b[s - 1], b_t)
                    a = a * maps_a[s - 1]
                xs += (x,)
                maps_a += (a,)
                maps_b += (b_t,)
            entering = carry
            if not BATCH_ROWS:
                entering, carry = chain_rows(maps_a[STEPS - 1], maps_b[STEPS - 1], carry, ROWS, WIDTH, False)
            for s in tl.static_range(STEPS):
                h = tl.fma(maps_a[s], entering, maps_b[s])
                if BATCH_ROWS:
                    entering = h
                mask = row_mask(row_exists & (t_row + (t0 + s) < end), D, WIDTH, VECTOR, TAIL)
                if NEED_H:
                    store_lanes(h_ptrs + (t_tile + s) * D, h, mask)
                y = feed_forward(xs[s], h, w1, b1, w2, b2, D, VECTOR, DTYPE, PRECISION)
                store_lanes(y_ptrs + (t_tile + s) * D, y, mask)
            if BATCH_ROWS:
                carry = entering

    store_last(h_last_ptr, carry, row, chunk, num_chunks, state_exists, D, BATCH_ROWS, False, WIDTH)


def embedded_inputs(call: Recurrence) -> int:
    """K, the numbers in a row of x where they are to be embedded; 0 where a row is as wide as the block."""
    K = call.input.shape[3]
    return 0 if call.weight.shape[2] == 2 * K else K


def shared_operands(
    call: Recurrence, params: torch.Tensor, precision: str, config: LaunchConfig, dy: torch.Tensor | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arguments, constants) of both kernels, of a `readable` call and of dy with an innermost stride of 1."""
    x, weight = call.input, call.weight
    (F, B, T, _), D, K = x.shape, weight.shape[2] // 2, embedded_inputs(call)
    wide = [t for t in (None if K else x, dy) if t is not None]
    unit = vector_unit(*wide) if wide else 1
    params = unit_stride(params)
    arguments = dict(
        x_ptr=x, w_ptr=weight, params_ptr=params, B=B, T=T,
        **stride_arguments("fbt", 1 if K else unit, x=x), **step_arguments(call, F, B, T),
        **stride_arguments("f", w=weight, params=params),
    )  # fmt: skip
    constants = dict(
        K=K, D=D, HAS_BIAS=not K and has_bias(call), HAS_ELAPSED=call.elapsed is not None,
        HAS_FLAGS=call.flags is not None,
        BATCH_ROWS=config.batch_rows, EVEN=config.divides(B, T),
        PACKED=all(packed(t) for t in wide), UNIT=unit, PRECISION=precision,
        ROWS=config.ROWS, STEPS=config.STEPS, WIDTH=padded_width(D), VECTOR=vector(D, x.element_size()),
        STAGES=config.STAGES,
    )  # fmt: skip
    return arguments, constants


def forward_launches(
    call: Recurrence, params: torch.Tensor, y: torch.Tensor, h: torch.Tensor | None, h_last: torch.Tensor,
    *, precision: str | None = None, config: LaunchConfig | None = None,
) -> list[Launch]:  # fmt: skip
    """The launches that fill y and h [F, B, T, D] (unless it is None) and h_last [F, B, 1, D]: one, or three and more
    where a long T is cut, which embedded rows are not."""
    F, B, T, D = y.shape
    precision = resolve_precision(precision, y.dtype)
    config = config or select_block(D, y.dtype, precision, F, B, T)
    call = readable(call, contiguous_layers(call.weight))
    arguments, constants = shared_operands(call, params, precision, config)
    chunks, launches, entry = Chunks(T, 1), list[Launch](), None
    if not constants["K"]:
        chunks, launches, entry = cut_launches(call, precision, config)
    arguments |= chunks._asdict()
    arguments |= dict(h0_ptr=call.h0, entry_ptr=entry, y_ptr=y, h_ptr=h, h_last_ptr=h_last)
    constants |= dict(HAS_H0=call.h0 is not None, NEED_H=h is not None, SPLIT=entry is not None)
    grid = config.grid(F, B, chunks.num_chunks)
    return [*launches, Launch(_block_fwd_kernel, grid, arguments, constants, config.num_warps, MAX_REGISTERS)]


@planned
def block_forward(
    call: Recurrence, params: torch.Tensor, *, precision: str | None = None, config: LaunchConfig | None = None
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """(y, h, h_last) of F independent residual blocks: `min_gru_forward`, then `feed_forward_forward` of x and h.

    call        1 <= D <= 32. Its weight is [F, D, 2D], or [F, D + 1, 2D] with a bias. With an input [F, B, T, K] of K
                <= 3 and K < D x W_e + b_e takes the place of x; the weight is then [F, K + 1, 2D], W_e W and b_e W of
                the minGRU's W, and its bias is added to the last row.
    params      [F, 2 D^2 + 4 D], as those of the feed-forward; W_e, b_e at its end where x is embedded. It and the
                weight may lie in one tensor.
    precision   of float32 products, as `resolve_precision` in common/config.py takes it. "ieee" takes two kernels, and
                so does whatever `block_is_fused` says no to, and a T to be cut of embedded rows.
    y, h        [F, B, T, D] in the dtype of x, h None without need_h; h_last [F, B, 1, D] float32. One kernel does not
                round h before it goes into y; two do.
    """
    D = check_block(call, params)
    check_dtypes(h0=call.h0)
    x = call.input
    F, B, T, _ = x.shape
    fused = block_is_fused(D, x.dtype, precision)
    if fused:
        config = config or select_block(D, x.dtype, resolve_precision(precision, x.dtype), F, B, T)
        fused = not embedded_inputs(call) or plan_chunks(F, B, T, config).num_chunks == 1
    if not fused:
        h, h_last = min_gru_forward(min_gru_call(call)._replace(need_h=True), precision=precision)
        assert h is not None
        y = feed_forward_forward(x.flatten(1, 2), params, h.flatten(1, 2), precision=precision)
        return y.view(h.shape), h if call.need_h else None, h_last
    y, h_last = x.new_empty(F, B, T, D), x.new_empty(F, B, 1, D, dtype=torch.float32)
    h = torch.empty_like(y) if call.need_h else None
    for launch in forward_launches(call, params, y, h, h_last, precision=precision, config=config):
        launch.run()
    return y, h, h_last


def check_block(call: Recurrence, params: torch.Tensor) -> int:
    """The width of a block; raises where its operands do not fit."""
    x, weight = call.input, call.weight
    check_dtypes(x=x, params=params, elapsed=call.elapsed)
    D, K = weight.shape[2] // 2, embedded_inputs(call)
    if not uses_kernel(D) or K > MAX_INPUTS:
        raise ValueError(
            f"x: expected rows of 1 to {MAX_WIDTH} numbers, or of 1 to {MAX_INPUTS} before an embedding of as many, "
            f"got {x.shape[3]} and a weight of {weight.shape[2]} columns"
        )
    check_parameters(x, params, num_parameters(D, K))
    wanted = (x.shape[0], K + 1 if K else D + has_bias(call), 2 * D)
    if weight.shape != wanted or weight.dtype not in (x.dtype, torch.float32):
        raise ValueError(
            f"weight: expected {wanted} in {x.dtype} or float32, got {tuple(weight.shape)} in {weight.dtype}"
        )
    return D


def min_gru_call(call: Recurrence) -> Recurrence:
    """The call of the block's minGRU alone: embedded rows get a 1, and columns up to a width that the kernels like."""
    K = embedded_inputs(call)
    if not K:
        return call
    missing = embedded_columns(K, call.input.element_size()) - (K + 1)
    x = pad(call.input, (0, 1 + missing), value=1.0)
    return call._replace(input=x, weight=pad(call.weight, (0, 0, 0, missing)))
