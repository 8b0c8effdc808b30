"""minGRU backward: gradients of x, W and h0 in one pass over memory, from x and what the forward returned."""

import torch
import triton
import triton.language as tl

from ..common.arithmetic import in_elements
from ..common.config import LaunchConfig
from ..common.flags import coded_multiplier, is_masked, is_reset, load_codes
from ..common.gates import min_gru_gates, min_gru_slopes
from ..common.launch import Launch, check_dtypes
from ..common.operands import rows
from ..common.scans import chain_rows
from ..common.tiles import join_tile, split_tile
from .chunks import entry_launches, plan_chunks, totals_launch
from .config import fused_precision, select_config
from .operands import common, gradient_strides
from .states import state_mask, state_offsets
from .tiles import (
    add_weight_gradient,
    input_pointers,
    load_input,
    load_weight,
    load_wide_rows,
    pack_gradient,
    project,
    store_input_gradient,
    store_weight_gradient,
    zero_weight_gradient,
)

# All partials of dW together stay under this share of the bytes of x, or there is one per layer: dW itself. A program
# has one, so a smaller share leaves fewer programs: of 0.05 they were 592 at 37 x 512 x 48 x 16 in bfloat16, and the
# backward took 112 us on an H200 where it takes 82 with 1184. At 64 x 128 x 48 x 32 they were 128 and took 388 us; 512
# take 112, with a third stage of loads.
PARTIALS_SHARE = 0.2


_NUMBERS = [
    "B", "T", "length", "count", "items", "parts", "stride_x_f", "stride_x_b", "stride_x_t",
    "stride_g_f", "stride_g_b", "stride_g_t", "stride_c_f", "stride_c_b", "stride_c_t",
]  # fmt: skip


@triton.jit(do_not_specialize=_NUMBERS)
def _min_gru_bwd_kernel(
    x_ptr, w_ptr, h0_ptr, h_ptr, code_ptr, dh_ptr, dh_last_ptr, entry_ptr, dy_ptr,  # inputs
    dx_ptr, dw_ptr, dh0_ptr,  # outputs
    B, T, length, count, items, parts,  # sizes; only these change with the batch and the sequence
    stride_x_f: tl.int64, stride_x_b: tl.int64, stride_x_t: tl.int64,  # in units of UNIT elements, as stride_g
    stride_g_f: tl.int64, stride_g_b: tl.int64, stride_g_t: tl.int64,
    stride_c_f: tl.int64, stride_c_b: tl.int64, stride_c_t: tl.int64,
    D: tl.constexpr, H: tl.constexpr,
    HAS_H0: tl.constexpr, HAS_CODES: tl.constexpr, HAS_DH: tl.constexpr, HAS_DH_LAST: tl.constexpr,
    HAS_DY: tl.constexpr, NEED_DX: tl.constexpr, NEED_DW: tl.constexpr, NEED_DH0: tl.constexpr,
    SPLIT: tl.constexpr, SEQ: tl.constexpr, EVEN: tl.constexpr, PACKED: tl.constexpr,
    UNIT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """lambda_t = dh_t + s_{t+1},   s_t = a_t lambda_t,   s_{T+1} = dh_last or 0;   du, dk = lambda_t times the slopes.

    dx = (du | dk) W^T,   dW = x^T (du | dk) summed over b and t,   dh0 = s_1.
    HAS_DY    dx = (du | dk) W^T + dh + dy: x is also added to h, of which nothing else is made, and to y, as in the
              residual block. dh is read a second time for it, in the layout of dx, from the nearest cache.

    Layout    x [F, B, T, D], dh [F, B, T, H], innermost stride 1, the strides of T are D and H if PACKED; W [F, D, 2H],
              h0, dh_last, dh0 [F, B, H], h [F, B, T, H], dx [F, B, T, D] contiguous; codes broadcast to [F, B, T];
              dw [F, parts, D, 2H] float32. With HAS_DY D = H, and dh and dy [F, B, T, D] are contiguous.
    Grid      F * parts. A program owns `items` consecutive pieces of work of one layer, to keep the partials of dW few:
              ROWS batch rows with SEQ, else one of the `count` chunks of time of one batch row.
    Tile      STEPS * ROWS points: point p is step p // ROWS of row p % ROWS. One product for all of them.
    EVEN      There is no tail. Else the tiles that need masks for it have their own loop before that of the full ones.
    Scan      The adjoint runs backwards in time, and so do the rows: row 0 is the latest piece, and the chain over rows
              is the forward's. Steps past the end and masked steps are the identity (1, 0) with slopes 0.
    SPLIT     A chunk starts from entry [F, B, count, H] of the chunk after it, which lies there in reverse order.
    Codes     s_t = 0 at a reset and lambda_t at a masked step, but dk has the gate's own a_t, and h_{t-1} = 0 at a
              reset.
    Numerics  float32. Where a row starts, the state is read from h, rounded to the dtype of h; within a row it is
              computed again. du and dk enter the two products in the dtype of x. dW has one fixed order of sums.
    """
    TILE: tl.constexpr = STEPS if SEQ else ROWS * STEPS
    POINTS: tl.constexpr = STEPS * ROWS
    # Halves at width 16. At D <= 2, where no product follows, SEG goes from 52 to 63 cycles and SEQ from 64 to 60 with
    # 15 to 26 spills fewer; at 32 SEG goes from 85 to 101 and SEQ from 67 to 77, of a budget of 64.
    HALVES: tl.constexpr = x_ptr.dtype.element_ty.primitive_bitwidth < 32
    WIDE: tl.constexpr = HALVES and BLOCK_H == 16 and BLOCK_D <= 16 and (D > 2 or SEQ)
    r = tl.arange(0, ROWS)
    p = tl.arange(0, POINTS)
    inside = p < POINTS
    n = tl.arange(0, BLOCK_H)[None, :]
    pid = tl.program_id(0).to(tl.int64)
    f = pid // parts
    w = load_weight(w_ptr, f, D, H, BLOCK_D, BLOCK_H, x_ptr.dtype.element_ty)
    dw = zero_weight_gradient(D, ROWS, BLOCK_D, BLOCK_H)
    step_x = D if PACKED else in_elements(stride_x_t, UNIT)
    step_g = H if PACKED else in_elements(stride_g_t, UNIT)

    first_item = pid % parts * items
    last_item = tl.minimum(first_item + items, tl.cdiv(B, ROWS) if SEQ else B * count)
    for item in range(first_item, last_item):
        if SEQ:
            b = item * ROWS + r  # [ROWS]
            b_point = item * ROWS + p % ROWS
            b_base = 0
            there = b_point < B
            state_exists = b < B
            t_row = tl.zeros((ROWS,), tl.int32)
            t_point = p // ROWS
            g = 0
            begin, end = 0, T
            full = tl.where((item + 1) * ROWS <= B, T // TILE, 0)
        else:
            b = item // count
            b_point = 0
            b_base = b
            there = inside
            state_exists = b < B
            t_row = (ROWS - 1) * STEPS - r * STEPS
            t_point = (ROWS - 1) * STEPS - p % ROWS * STEPS + p // ROWS
            g = (item % count).to(tl.int32)
            begin = g * length
            end = tl.minimum(begin + length, T)
            full = (end - begin) // TILE

        row = f * B + b
        state = state_offsets(row, H, BLOCK_H, SEQ)
        state_there = state_mask(state_exists, H, BLOCK_H, SEQ)
        if HAS_DH_LAST:
            carry = tl.load(dh_last_ptr + state, mask=state_there, other=0.0).to(tl.float32)
        else:
            carry = tl.zeros((ROWS, BLOCK_H) if SEQ else (BLOCK_H,), tl.float32)
        if SPLIT:
            entry = state_offsets(row * count + (count - 2 - g), H, BLOCK_H, SEQ)
            later = g < count - 1
            carry = tl.where(later, tl.load(entry_ptr + entry, mask=state_there & later, other=0.0), carry)
        if HAS_H0:
            h0 = tl.load(h0_ptr + state, mask=state_there, other=0.0).to(tl.float32)
        else:
            h0 = tl.zeros((ROWS, BLOCK_H) if SEQ else (BLOCK_H,), tl.float32)
        if not SEQ:
            h0 = h0[None, :]

        # One scalar address per tensor and offsets within a tile, 32-bit ones where the strides are constants: pointers
        # of every row took 56 registers at H = 32.
        first = (f * B + b_base) * T
        x_base = x_ptr + (f * stride_x_f + b_base * stride_x_b) * UNIT
        x_offsets = point_offsets(b_point, in_elements(stride_x_b, UNIT), t_point, step_x, SEQ)
        x_offsets = input_pointers(x_offsets, D, BLOCK_D)
        dx_base = dx_ptr
        if NEED_DX:
            dx_base = dx_ptr + first * D
        dx_offsets = input_pointers(point_offsets(b_point * T, D, t_point, D, SEQ), D, BLOCK_D)
        h_base = h_ptr + first * H
        h_offsets = point_offsets(b * T, H, t_row - 1, H, SEQ)[:, None] + n
        g_base = dh_ptr
        if HAS_DH:
            g_base = dh_ptr + (f * stride_g_f + b_base * stride_g_b) * UNIT
        g_offsets = point_offsets(b_point, in_elements(stride_g_b, UNIT), t_point, step_g, SEQ)[:, None] + n
        c_base = code_ptr
        if HAS_CODES:
            c_base = code_ptr + f * stride_c_f + b_base * stride_c_b
        c_offsets = point_offsets(b_point, stride_c_b, t_point, stride_c_t, SEQ)

        tiles = tl.cdiv(end - begin, TILE)
        # What needs masks for a tail is last in time and so comes first; the full tiles are a loop without them.
        for MASKED in tl.static_range(0 if EVEN else 1, -1, -1):
            start = 0 if MASKED or EVEN else tiles - full
            stop = tiles - full if MASKED else tiles
            for i in tl.range(start, stop, num_stages=STAGES):
                t0 = begin + (tiles - 1 - i) * TILE
                t = tl.full((), t0, tl.int64)
                exists = inside
                follows = t_row + t0 > 0
                if MASKED:
                    exists = there & (t_point + t0 < end)
                    follows = follows & state_exists & (t_row + t0 < end)
                read = exists
                if HAS_CODES:
                    code = load_codes(c_base + t * stride_c_t + c_offsets, exists)
                    read = exists & ~is_masked(code)
                h_prev = load_wide_rows(h_base + t * H + h_offsets, follows, H, BLOCK_H, True, WIDE).to(tl.float32)
                h_prev = tl.where((t_row + t0 == 0)[:, None], h0, h_prev)
                x = load_input(x_base + t * step_x + x_offsets, read, D, BLOCK_D, HAS_CODES or MASKED)
                if HAS_DH:
                    dh = load_wide_rows(g_base + t * step_g + g_offsets, exists, H, BLOCK_H, MASKED, WIDE)
                    dhs = split_tile(dh, STEPS, ROWS, BLOCK_H)

                u, k = project(x, w, D, POINTS, BLOCK_H, PRECISION)
                z, v, a, sigmoid_u = min_gru_gates(u, k)
                multiplier = a
                if HAS_CODES or MASKED:
                    z = tl.where(read[:, None], z, 0.0)
                    reset = False
                    if HAS_CODES:
                        reset = is_reset(code)[:, None]
                    multiplier = coded_multiplier(a, ~read[:, None], reset, False)
                multipliers = split_tile(multiplier, STEPS, ROWS, BLOCK_H)
                inputs = split_tile(z * v, STEPS, ROWS, BLOCK_H)
                if HAS_CODES:
                    resets = split_tile(is_reset(code)[:, None], STEPS, ROWS, 1)
                states = ()
                for s in tl.static_range(STEPS):
                    if HAS_CODES:
                        h_prev = tl.where(resets[s], 0.0, h_prev)
                    states += (h_prev,)
                    h_prev = tl.fma(multipliers[s], h_prev, inputs[s])
                h_prev = join_tile(states, STEPS, ROWS, BLOCK_H)
                slope_u, slope_k = min_gru_slopes(u, z, v, a, sigmoid_u, h_prev)

                if SEQ:
                    back = carry
                else:
                    row_a = tl.full((ROWS, BLOCK_H), 1.0, tl.float32)
                    row_b = tl.zeros((ROWS, BLOCK_H), tl.float32)
                    for s in tl.static_range(STEPS - 1, -1, -1):
                        if HAS_DH:
                            row_b += dhs[s].to(tl.float32)
                        row_b = multipliers[s] * row_b
                        row_a = multipliers[s] * row_a
                    back, carry = chain_rows(row_a, row_b, carry, ROWS, BLOCK_H, False)

                gradients = ()
                for s in tl.static_range(STEPS - 1, -1, -1):
                    gradient = back
                    if HAS_DH:
                        gradient = dhs[s].to(tl.float32) + back
                    back = multipliers[s] * gradient
                    gradients = (gradient,) + gradients  # noqa: RUF005 - triton has no starred tuples
                if SEQ:
                    carry = back
                gradient = join_tile(gradients, STEPS, ROWS, BLOCK_H)
                du = gradient * slope_u
                dk = gradient * slope_k
                if H < BLOCK_H:  # W is 0 there, but 0 times a NaN that only padding has would reach dx
                    du = tl.where(n < H, du, 0.0)
                    dk = tl.where(n < H, dk, 0.0)
                dp = pack_gradient(du, dk, D, POINTS, BLOCK_H, x_ptr.dtype.element_ty)
                if NEED_DW:
                    dw = add_weight_gradient(dw, x, dp, D, STEPS, ROWS, BLOCK_H, PRECISION)
                if NEED_DX:
                    direct = ()
                    if HAS_DY:
                        direct = (dh_ptr + (first + t) * D + dx_offsets, dy_ptr + (first + t) * D + dx_offsets)
                    store_input_gradient(
                        dx_base + t * D + dx_offsets, direct, dp, w, exists, D, BLOCK_D, BLOCK_H, PRECISION, MASKED
                    )

        if NEED_DH0:
            tl.store(dh0_ptr + state, carry.to(dh0_ptr.dtype.element_ty), mask=state_there & (g == 0))
    if NEED_DW:
        store_weight_gradient(dw_ptr + pid * (2 * D * H), dw, D, H, BLOCK_D, BLOCK_H)


@triton.jit
def point_offsets(b, stride_b, t, stride_t, SEQ: tl.constexpr):
    """Offsets of the rows of a tile from the first batch row with SEQ, else from the one that all of the tile is in."""
    if SEQ:
        return b * stride_b + t * stride_t
    else:
        return t * stride_t


def plan_parts(B: int, T: int, least: int, length: int, count: int, config: LaunchConfig) -> tuple[int, int]:
    """(items per program, programs per layer) where each partial gradient of the parameters takes `least` steps."""
    items = config.items(B, count)
    steps = T * min(config.ROWS, B) if config.seq else min(length, T)
    per = max(1, min(items, -(-least // steps)))
    parts = -(-items // per)
    if parts > 1 and parts * least > B * T:  # a short last item, or one that is mostly padding
        parts = max(1, B * T // least)
        per = -(-items // parts)
        parts = -(-items // per)
    return per, parts


def min_steps(numbers: int, D: int, itemsize: int) -> int:
    """Rows of D per partial of `numbers` float32, which are PARTIALS_SHARE of their bytes."""
    return int(4 * numbers / (D * PARTIALS_SHARE * itemsize)) + 1


def backward_launches(
    x: torch.Tensor, weight: torch.Tensor, h0: torch.Tensor | None, h: torch.Tensor, codes: torch.Tensor | None,
    dh: torch.Tensor | None, dh_last: torch.Tensor | None,
    dx: torch.Tensor | None, dh0: torch.Tensor | None, need_dw: bool, dy: torch.Tensor | None = None,
    *, precision: str | None = None, config: LaunchConfig | None = None,
) -> tuple[list[Launch], torch.Tensor | None]:  # fmt: skip
    """The launches that fill dx, dh0 and the partials [F, parts, D, 2H] of dW, and those partials."""
    F, B, T, D = x.shape
    H = weight.shape[2] // 2
    precision = fused_precision(precision, x, H, "backward")
    config = config or select_config(D, H, x.dtype, F, B, T, "backward", precision)
    x, weight, h = rows(x), weight.contiguous(), h.contiguous()
    dh = None if dh is None else rows(dh)
    h0, dh_last = (None if s is None else s.contiguous() for s in (h0, dh_last))
    least = min_steps(2 * D * H, D, x.element_size()) if need_dw else 0
    length, count = plan_chunks(F, B, T, config, least)
    items, parts = plan_parts(B, T, least, length, count, config) if need_dw else (1, config.items(B, count))
    dw = torch.empty(F, parts, D, 2 * H, dtype=torch.float32, device=x.device) if need_dw else None
    shared, constants = common(x, weight, codes, dh, length, count, precision, config)
    shared |= gradient_strides(dh, constants["UNIT"])
    launches = []
    entry = None
    if count > 1:
        totals = [torch.empty(F * B, count, H, dtype=torch.float32, device=x.device) for _ in range(2)]
        entry = torch.empty_like(totals[0])
        launches.append(totals_launch(shared, constants, totals, dh, F, config, adjoint=True))
        launches += entry_launches(totals, dh_last, entry)
    arguments = dict(
        shared, h0_ptr=h0, h_ptr=h, dh_ptr=dh, dh_last_ptr=dh_last, entry_ptr=entry, dy_ptr=dy,
        dx_ptr=dx, dw_ptr=dw, dh0_ptr=dh0, items=items, parts=parts,
    )  # fmt: skip
    constants |= dict(
        HAS_H0=h0 is not None, HAS_DH=dh is not None, HAS_DH_LAST=dh_last is not None,
        HAS_DY=dy is not None, NEED_DX=dx is not None, NEED_DW=need_dw, NEED_DH0=dh0 is not None,
        SPLIT=count > 1, SEQ=config.seq,
    )  # fmt: skip
    launches.append(Launch(_min_gru_bwd_kernel, (F * parts,), arguments, constants, config.num_warps))
    return launches, dw


def min_gru_backward(
    x: torch.Tensor,
    weight: torch.Tensor,
    h0: torch.Tensor | None,
    h: torch.Tensor,
    codes: torch.Tensor | None,
    dh: torch.Tensor | None,
    dh_last: torch.Tensor | None,
    *,
    dy: torch.Tensor | None = None,
    needs: tuple[bool, bool, bool] = (True, True, True),
    precision: str | None = None,
    config: LaunchConfig | None = None,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """(dx, dW, dh0) from the arguments of `min_gru_forward`, its h, and the gradients of h and h_last, either may be
    None.

    dx and dh0 have the dtypes of x and h0, dW the one of the weight. What `needs` leaves out is not computed and is
    None, as is dh0 without h0. dh is read through its strides, and copied unless the innermost is 1.

    dy   as x, with a dh of its shape: dx is also that of y = x + f(x + h), dh + dy more, where dy is the gradient of y
         and dh that of x + h. Copied unless contiguous.
    """
    check_dtypes(x=x, weight=weight, h0=h0, h=h, dh=dh, dh_last=dh_last, dy=dy)
    if dy is not None:
        if dh is None or not dy.shape == dh.shape == x.shape:
            raise ValueError(f"dy: expected x and dh in its shape {tuple(dy.shape)}")
        dh, dy = dh.contiguous(), dy.contiguous()
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device) if needs[0] else None
    dh0 = torch.empty(h0.shape, dtype=h0.dtype, device=h0.device) if needs[2] and h0 is not None else None
    if dx is None and dh0 is None and not needs[1]:
        return None, None, None
    launches, partials = backward_launches(
        x, weight, h0, h, codes, dh, dh_last, dx, dh0, needs[1], dy, precision=precision, config=config
    )
    for launch in launches:
        launch.run()
    dw = None
    if partials is not None:
        dw = (partials[:, 0] if partials.shape[1] == 1 else partials.sum(1)).to(weight.dtype)
    return dx, dw, dh0
