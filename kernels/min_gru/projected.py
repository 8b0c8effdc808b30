"""minGRU forward and the projection of its state, y = h W_out, of F independent layers in one pass over memory: h is
written nowhere. README.md has the figures; there is no backward, which would read h."""

import torch
import triton
import triton.language as tl

from ..common.arithmetic import in_elements
from ..common.config import LaunchConfig, resolve_precision
from ..common.flags import is_masked, load_codes
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
from ..common.operands import rows
from ..common.scans import GROUPS, chain_rows
from .chunks import forward_entries, plan_chunks
from .config import table_config
from .forward import MAX_REGISTERS
from .operands import common
from .projected_config import MAX_WIDTH, MIN_WIDTH, is_projected, select_projected
from .states import first_state, place_rows, step_map, store_last
from .tiles import load_weight_tile

_NUMBERS = ["B", "T", "length", "count", "stride_w_f", "stride_o_f", *(f"stride_{x}_{d}" for x in "xc" for d in "fbt")]


@triton.jit(do_not_specialize=_NUMBERS)
def _min_gru_projected_kernel(
    x_ptr, w_ptr, out_ptr, h0_ptr, code_ptr, entry_ptr,  # inputs
    y_ptr, h_last_ptr,  # outputs
    B, T, length, count,  # sizes; only these change with the batch and the sequence
    stride_x_f: tl.int64, stride_x_b: tl.int64, stride_x_t: tl.int64,  # in units of UNIT elements
    stride_c_f: tl.int64, stride_c_b: tl.int64, stride_c_t: tl.int64,
    stride_w_f: tl.int64, stride_o_f: tl.int64,
    D: tl.constexpr, H: tl.constexpr,
    HAS_H0: tl.constexpr, HAS_CODES: tl.constexpr, SPLIT: tl.constexpr, SEQ: tl.constexpr, EVEN: tl.constexpr,
    PACKED: tl.constexpr, UNIT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr,
    WIDTH_D: tl.constexpr, WIDTH_H: tl.constexpr, VECTOR_D: tl.constexpr, VECTOR_H: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """h_t = (1 - z_t) h_{t-1} + z_t g(u_t),   z_t = sigmoid(k_t),   (u_t | k_t) = x_t W,   h_0 = h0 or 0;

    y_t = h_t W_out.

    Layout    x [F, B, T, D], innermost stride 1, the stride of T is D if PACKED; W [F, D, 2H] and W_out
              [F, H, D] contiguous but for the stride of F; h0 [F, B, H] and y [F, B, T, D] contiguous, h_last [F, B, H]
              float32.
    Tile      and grid, SEQ, SPLIT, EVEN and codes are those of `_min_gru_fwd_kernel`, with one warp.
    Columns   of all tiles lie in the same threads, in an order that loads and products share: see lanes.py.
    Numerics  float32 but for the operands of products, which enter in the dtype of x: h is rounded to it before W_out
              and nowhere else. Gates as in `_min_gru_fwd_kernel`. With tf32x3 an infinite x or h gives NaN: its
              remainder is infinity - infinity. A masked row of x is never read.
    Backward  None: it is that of the halves, which needs h.
    """
    TILE: tl.constexpr = STEPS if SEQ else ROWS * STEPS
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    HALVES: tl.constexpr = DTYPE.primitive_bitwidth < 32
    f, b, g, row_exists, state_exists, t_row, begin, end, middle = place_rows(B, T, length, count, ROWS, STEPS, SEQ)
    row = f * B + b
    carry = first_state(
        h0_ptr, entry_ptr, row, g, count, state_exists, H, HAS_H0, SPLIT, SEQ, False, ROWS, WIDTH_H
    )  # fmt: skip

    step_x = D if PACKED else in_elements(stride_x_t, UNIT)
    c = columns(WIDTH_D, VECTOR_D)
    x_rows = (f * stride_x_f + b * stride_x_b) * UNIT + t_row.to(tl.int64) * step_x
    x_ptrs = x_ptr + x_rows[None, :, None, None] + c
    y_ptrs = y_ptr + ((row * T + t_row) * D)[None, :, None, None] + c
    code_ptrs = code_ptr
    if HAS_CODES:
        code_ptrs = code_ptr + f * stride_c_f + b * stride_c_b + t_row.to(tl.int64) * stride_c_t
    w = load_weight_tile(w_ptr + f * stride_w_f, D, H, WIDTH_D, WIDTH_H, DTYPE)
    w = factor(w, VECTOR_D, 2 * VECTOR_H, DTYPE, PRECISION)
    w_out = load_out(out_ptr + f * stride_o_f, D, H, WIDTH_D, WIDTH_H, DTYPE)
    w_out = factor(w_out, VECTOR_H, VECTOR_D, DTYPE, PRECISION)

    # The full tiles are a loop without masks for a tail.
    for MASKED in tl.static_range(1 if EVEN else 2):
        start = middle if MASKED else begin
        stop = end if MASKED or EVEN else middle
        for t0 in tl.range(start, stop, TILE, num_stages=STAGES):
            t_tile = tl.full((), t0, tl.int64)
            maps_a = ()
            maps_b = ()
            for s in tl.static_range(STEPS):
                read = tl.arange(0, ROWS) < ROWS
                if MASKED:
                    read = row_exists & (t_row + (t0 + s) < end)
                code = read
                if HAS_CODES:
                    code = load_codes(code_ptrs + (t_tile + s) * stride_c_t, read)
                    read = read & ~is_masked(code)
                mask = row_mask(read, D, WIDTH_D, VECTOR_D, HAS_CODES or MASKED)
                x = load_lanes(x_ptrs + (t_tile + s) * step_x, mask)
                u, k = project_lanes(x, w, VECTOR_D, VECTOR_H, PRECISION)
                a, b_t = step_map(u, k, code, read, HAS_CODES, MASKED, False, HALVES)
                if not SEQ and s > 0:
                    b_t = tl.fma(a, maps_b[s - 1], b_t)
                    a = a * maps_a[s - 1]
                maps_a += (a,)
                maps_b += (b_t,)
            entering = carry
            if not SEQ:
                entering, carry = chain_rows(maps_a[STEPS - 1], maps_b[STEPS - 1], carry, ROWS, WIDTH_H, False, GROUPS)
            for s in tl.static_range(STEPS):
                h = tl.fma(maps_a[s], entering, maps_b[s])
                if SEQ:
                    entering = h
                if H < WIDTH_H:  # a channel of padding has the gates of 0, and of 0 * infinity
                    h = tl.where(tl.arange(0, WIDTH_H)[None, :] < H, h, 0.0)
                y = restored(product(h, w_out, VECTOR_H, DTYPE, PRECISION), VECTOR_D, 2)
                mask = row_mask(row_exists & (t_row + (t0 + s) < end), D, WIDTH_D, VECTOR_D, MASKED)
                store_lanes(y_ptrs + (t_tile + s) * D, y, mask)
            if SEQ:
                carry = entering

    store_last(h_last_ptr, carry, row, g, count, state_exists, H, SEQ, False, WIDTH_H)


@triton.jit
def load_out(ptr, D: tl.constexpr, H: tl.constexpr, WIDTH_D: tl.constexpr, WIDTH_H: tl.constexpr, DTYPE: tl.constexpr):
    """W_out [H, D] of one layer rounded to DTYPE, padded with zeros to [WIDTH_H, WIDTH_D]."""
    i = tl.arange(0, WIDTH_H)[:, None]
    j = tl.arange(0, WIDTH_D)[None, :]
    return tl.load(ptr + i * D + j, mask=(i < H) & (j < D), other=0.0).to(DTYPE)


def forward_launches(
    x: torch.Tensor, weight: torch.Tensor, out_weight: torch.Tensor, h0: torch.Tensor | None,
    codes: torch.Tensor | None, y: torch.Tensor, h_last: torch.Tensor,
    *, precision: str | None = None, config: LaunchConfig | None = None,
) -> list[Launch]:  # fmt: skip
    """The launches that fill y [F, B, T, D] and h_last [F, B, 1, H]: one, or three and more where a long T is cut."""
    F, B, T, D = x.shape
    H = out_weight.shape[1]
    precision = resolve_precision(precision, x.dtype)
    config = config or select_projected(D, H, precision, F, B, T)
    x, h0 = rows(x), None if h0 is None else h0.contiguous()
    weight, out_weight = dense(weight), dense(out_weight)
    totals_config = table_config("forward", False, D, H, x.dtype)
    length, count = plan_chunks(F, B, T, config, whole=totals_config.tile)
    launches = []
    entry = None
    if count > 1:
        shared = common(x, weight.contiguous(), codes, None, length, count, precision, totals_config)
        launches, entry = forward_entries(*shared, h0, F, H, totals_config)
    arguments, constants = common(x, weight, codes, None, length, count, precision, config)
    arguments |= dict(
        out_ptr=out_weight, h0_ptr=h0, entry_ptr=entry, y_ptr=y, h_last_ptr=h_last,
        stride_w_f=weight.stride(0), stride_o_f=out_weight.stride(0),
    )  # fmt: skip
    constants = {name: value for name, value in constants.items() if name not in ("BLOCK_D", "BLOCK_H")}
    constants |= dict(
        HAS_H0=h0 is not None, SPLIT=count > 1, SEQ=config.seq, WIDTH_D=padded_width(D), WIDTH_H=padded_width(H),
        VECTOR_D=vector(D, x.element_size()), VECTOR_H=vector(H, x.element_size()),
    )  # fmt: skip
    grid = config.grid(F, B, count)
    launches.append(Launch(_min_gru_projected_kernel, grid, arguments, constants, config.num_warps, MAX_REGISTERS))
    return launches


def dense(weight: torch.Tensor) -> torch.Tensor:
    """A weight [F, n, m] whose layers are contiguous, wherever each begins."""
    return weight if weight.stride()[1:] == (weight.shape[2], 1) else weight.contiguous()


def min_gru_projected_forward(
    x: torch.Tensor, weight: torch.Tensor, out_weight: torch.Tensor, h0: torch.Tensor | None = None,
    codes: torch.Tensor | None = None,
    *, precision: str | None = None, config: LaunchConfig | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """(y, h_last) of F independent minGRU layers and their projections: `min_gru_forward` of x, then
    `grouped_linear_forward` of its states.

    x, h0, codes  as those of `min_gru_fwd.min_gru_forward`, of widths that `is_projected` says yes to.
    weight        [F, D, 2H], out_weight [F, H, D], in x's dtype or float32, rounded where they are loaded; both may be
                  parts of one tensor.
    precision     of float32 products, as `resolve_precision` in config.py takes it; "ieee" is refused.
    y             [F, B, T, D] in the dtype of x; h_last [F, B, 1, H] float32.
    """
    check_dtypes(x=x, weight=weight, out_weight=out_weight, h0=h0)
    F, B, _, D = x.shape
    H = weight.shape[2] // 2
    for name, w, shape in (("weight", weight, (F, D, 2 * H)), ("out_weight", out_weight, (F, H, D))):
        if w.shape != shape:
            raise ValueError(f"{name}: expected {shape}, got {tuple(w.shape)}")
    if not is_projected(D, H):
        raise ValueError(
            f"x: expected {MIN_WIDTH} to {MAX_WIDTH} wide rows and at most {MAX_WIDTH} states, got D = {D}, H = {H}"
        )
    if precision == "ieee" and x.dtype == torch.float32:
        raise ValueError("precision: expected 'tf32' or 'tf32x3' for float32, got 'ieee'")
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    h_last = torch.empty(F, B, 1, H, dtype=torch.float32, device=x.device)
    for launch in forward_launches(x, weight, out_weight, h0, codes, y, h_last, precision=precision, config=config):
        launch.run()
    return y, h_last
