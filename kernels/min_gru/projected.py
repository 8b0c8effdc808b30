"""minGRU forward and the projection of its state, y = h W_out, of F independent layers in one pass over memory: h is
written nowhere. README.md has the figures. There is no backward: it would read h."""

import torch
import triton.language as tl

from ..common.arithmetic import in_elements
from ..common.call import Recurrence
from ..common.config import LaunchConfig, resolve_precision
from ..common.device import device, kernel
from ..common.elapsed import load_elapsed
from ..common.flags import is_masked, load_words, step_flags, word_rows
from ..common.lanes import (
    columns,
    factor,
    load_lanes,
    padded_width,
    product,
    project_lanes,
    restored,
    row_mask,
    store_lanes,
    vector,
)
from ..common.launch import Launch, check_dtypes
from ..common.operands import contiguous_layers, has_bias, readable, shared_operands, stride_arguments
from ..common.plan import planned
from ..common.scans import chain_rows
from .chunks import cut_launches
from .forward import MAX_REGISTERS
from .projected_config import MAX_WIDTH, MIN_WIDTH, is_projected, select_projected
from .states import first_state, place_rows, step_map, store_last
from .tiles import add_bias, load_bias, load_weight_tile


@kernel
def _min_gru_projected_kernel(
    x_ptr, w_ptr, out_ptr, h0_ptr, elapsed_ptr, flags_ptr, entry_ptr,  # inputs
    y_ptr, h_last_ptr,  # outputs
    B, T, chunk_steps, num_chunks,  # sizes; only these change with the batch and the sequence
    stride_x_f: tl.int64, stride_x_b: tl.int64, stride_x_t: tl.int64,  # in units of UNIT elements
    stride_elapsed_f: tl.int64, stride_elapsed_b: tl.int64, stride_elapsed_t: tl.int64,
    stride_flags_f: tl.int64, stride_flags_b: tl.int64,
    stride_w_f: tl.int64, stride_out_f: tl.int64,
    D: tl.constexpr, H: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_H0: tl.constexpr, HAS_ELAPSED: tl.constexpr, HAS_FLAGS: tl.constexpr, SPLIT: tl.constexpr,
    BATCH_ROWS: tl.constexpr, EVEN: tl.constexpr, PACKED: tl.constexpr, UNIT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr,
    WIDTH_D: tl.constexpr, WIDTH_H: tl.constexpr, VECTOR_D: tl.constexpr, VECTOR_H: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """h_t = (1 - z_t) h_{t-1} + z_t g(u_t),   z_t = sigmoid(k_t),   (u_t | k_t) = x_t W + bias,   h_0 = h0 or 0;

    y_t = h_t W_out.

    Layout    x [F, B, T, D], innermost stride 1, the stride of T is D if PACKED; W [F, D, 2H], with HAS_BIAS one more
              row, the bias, and W_out [F, H, D] contiguous but for the stride of F; h0 [F, B, H] and y [F, B, T, D]
              contiguous, h_last [F, B, H] float32.
    Tile      Rows, grid, SPLIT, EVEN, elapsed times and flags are those of `_min_gru_fwd_kernel`, with one warp.
    Columns   Those of all tiles lie in the same threads, in an order that loads and products share: see lanes.py.
    Numerics  float32 but for the operands of products, which enter in the dtype of x: h is rounded to it before W_out
              and nowhere else. Gates as in `_min_gru_fwd_kernel`. With tf32x3 an infinite x or h gives NaN: its
              remainder is infinity - infinity. A masked row of x is never read.
    Backward  None: the minGRU and the projection have theirs, which read h.
    """
    TILE: tl.constexpr = STEPS if BATCH_ROWS else ROWS * STEPS
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    HALF_PRECISION: tl.constexpr = DTYPE.primitive_bitwidth < 32
    f, b, chunk, row_exists, state_exists, t_row, begin, end, middle = place_rows(
        B, T, chunk_steps, num_chunks, ROWS, STEPS, BATCH_ROWS
    )
    row = f * B + b
    carry = first_state(
        h0_ptr, entry_ptr, row, chunk, num_chunks, state_exists, H, HAS_H0, SPLIT, BATCH_ROWS, False, ROWS, WIDTH_H
    )  # fmt: skip

    step_x = D if PACKED else in_elements(stride_x_t, UNIT)
    c = columns(WIDTH_D, VECTOR_D)
    x_rows = (f * stride_x_f + b * stride_x_b) * UNIT + t_row.to(tl.int64) * step_x
    x_ptrs = x_ptr + x_rows[None, :, None, None] + c
    y_ptrs = y_ptr + ((row * T + t_row) * D)[None, :, None, None] + c
    elapsed_ptrs = elapsed_ptr
    if HAS_ELAPSED:
        elapsed_ptrs = elapsed_ptr + f * stride_elapsed_f + b * stride_elapsed_b + t_row.to(tl.int64) * stride_elapsed_t
    ahead = ()
    if HAS_FLAGS:
        flags_ptr, flags_rows = word_rows(flags_ptr, f, b, t_row, stride_flags_f, stride_flags_b, BATCH_ROWS)
        ahead = load_words(flags_ptr, begin, flags_rows, t_row, row_exists, end, STEPS, not EVEN)
        last = begin + (end - 1 - begin) // TILE * TILE
    w_ptr += f * stride_w_f
    w = load_weight_tile(w_ptr, D, H, WIDTH_D, WIDTH_H, DTYPE)
    bias = load_bias(w_ptr, D, H, WIDTH_H, HAS_BIAS)
    w = factor(w, VECTOR_D, 2 * VECTOR_H, DTYPE, PRECISION)
    w_out = load_out(out_ptr + f * stride_out_f, D, H, WIDTH_D, WIDTH_H, DTYPE)
    w_out = factor(w_out, VECTOR_H, VECTOR_D, DTYPE, PRECISION)

    # The full tiles are a loop without masks for a tail.
    for TAIL in tl.static_range(1 if EVEN else 2):
        start = middle if TAIL else begin
        stop = end if TAIL or EVEN else middle
        for t0 in tl.range(start, stop, TILE, num_stages=STAGES):
            t_tile = tl.full((), t0, tl.int64)
            maps_a = ()
            maps_b = ()
            if HAS_FLAGS:
                words = ahead
                t_next = tl.minimum(t0 + TILE, last)
                ahead = load_words(flags_ptr, t_next, flags_rows, t_row, row_exists, end, STEPS, not EVEN)
            for s in tl.static_range(STEPS):
                read = tl.arange(0, ROWS) < ROWS
                if TAIL:
                    read = row_exists & (t_row + (t0 + s) < end)
                flags = read
                if HAS_FLAGS:
                    flags = step_flags(words, t_row, t0, s, STEPS)
                    read = read & ~is_masked(flags)
                mask = row_mask(read, D, WIDTH_D, VECTOR_D, HAS_FLAGS or TAIL)
                x = load_lanes(x_ptrs + (t_tile + s) * step_x, mask)
                u, k = add_bias(*project_lanes(x, w, VECTOR_D, VECTOR_H, PRECISION), bias)
                times = ()
                if HAS_ELAPSED:
                    times = (load_elapsed(elapsed_ptrs + (t_tile + s) * stride_elapsed_t, read),)
                a, b_t = step_map(u, k, times, flags, read, HAS_FLAGS, TAIL, False, HALF_PRECISION)
                if not BATCH_ROWS and s > 0:
                    b_t = tl.fma(a, maps_b[s - 1], b_t)
                    a = a * maps_a[s - 1]
                maps_a += (a,)
                maps_b += (b_t,)
            entering = carry
            if not BATCH_ROWS:
                entering, carry = chain_rows(maps_a[STEPS - 1], maps_b[STEPS - 1], carry, ROWS, WIDTH_H, False)
            for s in tl.static_range(STEPS):
                h = tl.fma(maps_a[s], entering, maps_b[s])
                if BATCH_ROWS:
                    entering = h
                if H < WIDTH_H:  # a channel of padding has the gates of 0, and of 0 * infinity
                    h = tl.where(tl.arange(0, WIDTH_H)[None, :] < H, h, 0.0)
                y = restored(product(h, w_out, VECTOR_H, DTYPE, PRECISION), VECTOR_D, 2)
                mask = row_mask(row_exists & (t_row + (t0 + s) < end), D, WIDTH_D, VECTOR_D, TAIL)
                store_lanes(y_ptrs + (t_tile + s) * D, y, mask)
            if BATCH_ROWS:
                carry = entering

    store_last(h_last_ptr, carry, row, chunk, num_chunks, state_exists, H, BATCH_ROWS, False, WIDTH_H)


@device
def load_out(ptr, D: tl.constexpr, H: tl.constexpr, WIDTH_D: tl.constexpr, WIDTH_H: tl.constexpr, DTYPE: tl.constexpr):
    """W_out [H, D] of one layer rounded to DTYPE, padded with zeros to [WIDTH_H, WIDTH_D]."""
    i = tl.arange(0, WIDTH_H)[:, None]
    j = tl.arange(0, WIDTH_D)[None, :]
    return tl.load(ptr + i * D + j, mask=(i < H) & (j < D), other=0.0).to(DTYPE)


def forward_launches(
    call: Recurrence, out_weight: torch.Tensor, y: torch.Tensor, h_last: torch.Tensor,
    *, precision: str | None = None, config: LaunchConfig | None = None,
) -> list[Launch]:  # fmt: skip
    """The launches that fill y [F, B, T, D] and h_last [F, B, 1, H]: one, or three and more where a long T is cut."""
    F, B, T, D = call.input.shape
    H, dtype = out_weight.shape[1], call.input.dtype
    precision = resolve_precision(precision, dtype)
    config = config or select_projected(D, H, precision, F, B, T)
    call, out_weight = readable(call, contiguous_layers(call.weight)), contiguous_layers(out_weight)
    chunks, launches, entry = cut_launches(call, precision, config)
    arguments, constants = shared_operands(call, precision, config)
    arguments |= chunks._asdict() | stride_arguments("f", w=call.weight, out=out_weight)
    arguments |= dict(out_ptr=out_weight, h0_ptr=call.h0, entry_ptr=entry, y_ptr=y, h_last_ptr=h_last)
    del constants["BLOCK_D"], constants["BLOCK_H"]
    constants |= dict(
        HAS_H0=call.h0 is not None, SPLIT=entry is not None, BATCH_ROWS=config.batch_rows,
        WIDTH_D=padded_width(D), WIDTH_H=padded_width(H),
        VECTOR_D=vector(D, dtype.itemsize), VECTOR_H=vector(H, dtype.itemsize),
    )  # fmt: skip
    grid = config.grid(F, B, chunks.num_chunks)
    return [*launches, Launch(_min_gru_projected_kernel, grid, arguments, constants, config.num_warps, MAX_REGISTERS)]


@planned
def projected_forward(
    call: Recurrence, out_weight: torch.Tensor, *, precision: str | None = None, config: LaunchConfig | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(y, h_last) of F independent minGRU layers and their projections: `min_gru_forward`, then
    `grouped_linear_forward` of its states. The widths are those that `is_projected` says yes to.

    call          its weight is [F, D, 2H], or [F, D + 1, 2H] with a bias; it and out_weight [F, H, D] may lie in one
                  tensor.
    out_weight    in x's dtype or float32, rounded where it is loaded.
    precision     of float32 products, as `resolve_precision` in common/config.py takes it; "ieee" is refused.
    y             [F, B, T, D] in the dtype of x; h_last [F, B, 1, H] float32.
    """
    x, weight = call.input, call.weight
    check_dtypes(x=x, weight=weight, out_weight=out_weight, h0=call.h0, elapsed=call.elapsed)
    (F, B, _, D), H = x.shape, weight.shape[2] // 2
    rows = D + has_bias(call)
    for name, w, shape in (("weight", weight, (F, rows, 2 * H)), ("out_weight", out_weight, (F, H, D))):
        if w.shape != shape:
            raise ValueError(f"{name}: expected {shape}, got {tuple(w.shape)}")
    if not is_projected(D, H):
        raise ValueError(
            f"x: expected {MIN_WIDTH} to {MAX_WIDTH} wide rows and at most {MAX_WIDTH} states, got D = {D}, H = {H}"
        )
    if precision == "ieee" and x.dtype == torch.float32:
        raise ValueError("precision: expected 'tf32' or 'tf32x3' for float32, got 'ieee'")
    y, h_last = x.new_empty(x.shape), x.new_empty(F, B, 1, H, dtype=torch.float32)
    for launch in forward_launches(call, out_weight, y, h_last, precision=precision, config=config):
        launch.run()
    return y, h_last
