"""minGRU backward: gradients of x, W and h0 in one pass over memory, from x and what the forward returned."""

from typing import NamedTuple

import torch
import triton.language as tl

from ..common.arithmetic import in_elements
from ..common.call import Recurrence, RecurrenceGradients, RecurrenceNeeds
from ..common.config import Chunks, LaunchConfig
from ..common.device import kernel
from ..common.elapsed import load_elapsed
from ..common.flags import flagged_multiplier, is_masked, is_reset, load_words, step_flags, word_rows
from ..common.gates import min_gru_gates, min_gru_slopes, min_gru_timed_gates, min_gru_timed_slopes
from ..common.launch import Launch, check_dtypes
from ..common.operands import readable, shared_operands, stride_arguments, unit_stride
from ..common.scans import chain_rows
from ..common.tiles import join_tile, split_tile
from .chunks import entry_launches, plan_chunks
from .config import fused_precision, select_config
from .states import load_state, row_offsets, state_mask, state_offsets
from .tiles import (
    add_bias_gradient,
    add_weight_gradient,
    input_pointers,
    load_bias,
    load_input,
    load_transposed,
    load_weight,
    load_wide_rows,
    pack_gradient,
    project,
    store_bias_gradient,
    store_input_gradient,
    store_weight_gradient,
    zero_bias_gradient,
    zero_weight_gradient,
)

# All partials of dW together stay under this share of the bytes of x, or there is one per layer: dW itself. A program
# has one, so a smaller share leaves fewer programs: of 0.05 they were 592 at 37 x 512 x 48 x 16 in bfloat16, and the
# backward took 112 us on an H200 where it takes 82 with 1184. At 64 x 128 x 48 x 32 they were 128 and took 388 us; 512
# take 112, with a third stage of loads.
PARTIALS_SHARE = 0.2


@kernel
def _min_gru_bwd_kernel(
    x_ptr, w_ptr, h0_ptr, h_ptr, elapsed_ptr, flags_ptr, dh_ptr, dh_last_ptr, entry_ptr, dy_ptr,  # inputs
    dx_ptr, dw_ptr, dh0_ptr, delapsed_ptr,  # outputs
    B, T, chunk_steps, num_chunks, items_per_program, num_partials,  # sizes; what changes with the batch and T
    stride_x_f: tl.int64, stride_x_b: tl.int64, stride_x_t: tl.int64,  # in units of UNIT elements, as stride_dh
    stride_dh_f: tl.int64, stride_dh_b: tl.int64, stride_dh_t: tl.int64,
    stride_elapsed_f: tl.int64, stride_elapsed_b: tl.int64, stride_elapsed_t: tl.int64,
    stride_flags_f: tl.int64, stride_flags_b: tl.int64,
    D: tl.constexpr, H: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_H0: tl.constexpr, HAS_ELAPSED: tl.constexpr, HAS_FLAGS: tl.constexpr, HAS_DH: tl.constexpr,
    HAS_DH_LAST: tl.constexpr, HAS_DY: tl.constexpr,
    NEED_DX: tl.constexpr, NEED_DW: tl.constexpr, NEED_DH0: tl.constexpr, NEED_DELAPSED: tl.constexpr,
    SPLIT: tl.constexpr, BATCH_ROWS: tl.constexpr, EVEN: tl.constexpr, PACKED: tl.constexpr,
    UNIT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """lambda_t = dh_t + s_{t+1},   s_t = a_t lambda_t,   s_{T+1} = dh_last or 0;   du, dk = lambda_t times the slopes.

    dx = (du | dk) W^T,   dW = x^T (du | dk) and dbias = (du | dk) summed over b and t,   dh0 = s_1.
    HAS_DY    dx = (du | dk) W^T + dh + dy: x is also added to h, of which nothing else is made, and to y, as in the
              residual block. dh is read a second time for it, in the layout of dx, from the nearest cache.

    Layout    x [F, B, T, D], dh [F, B, T, H], innermost stride 1, the strides of T are D and H if PACKED; W [F, D, 2H],
              h0, dh_last, dh0 [F, B, H], h [F, B, T, H], dx [F, B, T, D] contiguous; flags broadcast to [F, B, T];
              dw [F, num_partials, D, 2H] float32. With HAS_BIAS W and dw have one more row, the bias. With HAS_DY D =
              H, and dh and dy [F, B, T, D] are contiguous.
    Grid      F * num_partials. A program owns `items_per_program` consecutive pieces of work of one layer, to keep the
              partials of dW few. A piece is ROWS batch rows with BATCH_ROWS, else one of the `num_chunks` chunks of the
              time of one batch row.
    Tile      STEPS * ROWS points: point p is step p // ROWS of row p % ROWS. One product for all of them.
    EVEN      There is no tail. Else the tiles that need masks for it (TAIL) have their own loop before that of the full
              ones.
    Scan      The adjoint runs backwards in time, and so do the rows: row 0 is the latest piece, and the chain over rows
              is the forward's. Steps past the end and masked steps are the identity (1, 0) with slopes 0.
    SPLIT     A chunk starts from entry [F, B, num_chunks, H] of the chunk after it, which lies there in reverse order.
    HAS_ELAPSED  Steps take times dt_t. delapsed [F, B, T] float32, written with NEED_DELAPSED, is the sum over channels
              of lambda_t times the slope in dt_t. Steps of no time are the identity, and have that slope alone.
    Flags     s_t = 0 at a reset and lambda_t at a masked step, but dk has the gate's own a_t, and h_{t-1} = 0 at a
              reset.
    Numerics  float32. Where a row starts, the state is read from h, rounded to the dtype of h; within a row it is
              computed again. du and dk enter the two products in the dtype of x. dW has one fixed order of sums.
    """
    TILE: tl.constexpr = STEPS if BATCH_ROWS else ROWS * STEPS
    POINTS: tl.constexpr = STEPS * ROWS
    # At width 16. At D <= 2, where no product follows, time_rows goes from 52 to 63 cycles and batch_rows from 64 to 60
    # with 15 to 26 spills fewer; at 32 time_rows goes from 85 to 101 and batch_rows from 67 to 77, of a budget of 64.
    HALF_PRECISION: tl.constexpr = x_ptr.dtype.element_ty.primitive_bitwidth < 32
    WIDE: tl.constexpr = HALF_PRECISION and BLOCK_H == 16 and BLOCK_D <= 16 and (D > 2 or BATCH_ROWS)
    # x is loaded a second time, from the nearest cache, for dW: at D = 32 that spills 101 numbers of three terms where
    # a tile that is laid out anew spills 224, and in half precision it takes 16 wavefronts less. Elsewhere the second
    # buffers cost a program of an SM.
    AGAIN: tl.constexpr = D > 2 and BLOCK_H < 64 and (HALF_PRECISION or BLOCK_D == 32)
    # Words of flags in each layout take registers: at 32 batch_rows in tf32 spills 41 numbers in its loop, and none if
    # they are loaded once. At 8 that costs time_rows 9 wavefronts.
    ONCE: tl.constexpr = BLOCK_H == 32
    r = tl.arange(0, ROWS)
    p = tl.arange(0, POINTS)
    inside = p < POINTS
    n = tl.arange(0, BLOCK_H)[None, :]
    pid = tl.program_id(0).to(tl.int64)
    f = pid // num_partials
    w_ptr += f * (2 * (D + HAS_BIAS) * H)
    w = load_weight(w_ptr, D, H, BLOCK_D, BLOCK_H, x_ptr.dtype.element_ty)
    bias = load_bias(w_ptr, D, H, BLOCK_H, HAS_BIAS)
    dw = zero_weight_gradient(D, ROWS, BLOCK_D, BLOCK_H)
    db = zero_bias_gradient(BLOCK_H, HAS_BIAS and NEED_DW)
    step_x = D if PACKED else in_elements(stride_x_t, UNIT)
    step_dh = H if PACKED else in_elements(stride_dh_t, UNIT)

    first_item = pid % num_partials * items_per_program
    last_item = tl.minimum(first_item + items_per_program, tl.cdiv(B, ROWS) if BATCH_ROWS else B * num_chunks)
    for item in range(first_item, last_item):
        if BATCH_ROWS:
            b = item * ROWS + r  # [ROWS]
            b_point = item * ROWS + p % ROWS
            b_base = 0
            point_exists = b_point < B
            state_exists = b < B
            t_row = tl.zeros((ROWS,), tl.int32)
            t_point = p // ROWS
            chunk = 0
            begin, end = 0, T
            full = tl.where((item + 1) * ROWS <= B, T // TILE, 0)
        else:
            b = item // num_chunks
            b_point = 0
            b_base = b
            point_exists = inside
            state_exists = b < B
            t_row = (ROWS - 1) * STEPS - r * STEPS
            t_point = (ROWS - 1) * STEPS - p % ROWS * STEPS + p // ROWS
            chunk = (item % num_chunks).to(tl.int32)
            begin = chunk * chunk_steps
            end = tl.minimum(begin + chunk_steps, T)
            full = (end - begin) // TILE

        row = f * B + b
        state = state_offsets(row, H, BLOCK_H, BATCH_ROWS)
        mask_state = state_mask(state_exists, H, BLOCK_H, BATCH_ROWS)
        carry = load_state(dh_last_ptr, state, mask_state, HAS_DH_LAST, ROWS, BLOCK_H, BATCH_ROWS)
        if SPLIT:
            entry = state_offsets(row * num_chunks + (num_chunks - 2 - chunk), H, BLOCK_H, BATCH_ROWS)
            later = chunk < num_chunks - 1
            carry = tl.where(later, tl.load(entry_ptr + entry, mask=mask_state & later, other=0.0), carry)
        h0 = load_state(h0_ptr, state, mask_state, HAS_H0, ROWS, BLOCK_H, BATCH_ROWS)
        if not BATCH_ROWS:
            h0 = h0[None, :]

        # One scalar address per tensor and offsets within a tile, 32-bit ones where the strides are constants: pointers
        # of every row took 56 registers at H = 32.
        first = (f * B + b_base) * T
        x_base = x_ptr + (f * stride_x_f + b_base * stride_x_b) * UNIT
        x_offsets = row_offsets(b_point, in_elements(stride_x_b, UNIT), t_point, step_x, BATCH_ROWS)
        x_offsets = input_pointers(x_offsets, D, BLOCK_D)
        dx_base = dx_ptr
        if NEED_DX:
            dx_base = dx_ptr + first * D
        dx_offsets = input_pointers(row_offsets(b_point * T, D, t_point, D, BATCH_ROWS), D, BLOCK_D)
        h_base = h_ptr + first * H
        h_offsets = row_offsets(b * T, H, t_row - 1, H, BATCH_ROWS)[:, None] + n
        dh_base = dh_ptr
        if HAS_DH:
            dh_base = dh_ptr + (f * stride_dh_f + b_base * stride_dh_b) * UNIT
        dh_offsets = row_offsets(b_point, in_elements(stride_dh_b, UNIT), t_point, step_dh, BATCH_ROWS)[:, None] + n
        elapsed_base = elapsed_ptr
        if HAS_ELAPSED:
            elapsed_base = elapsed_ptr + f * stride_elapsed_f + b_base * stride_elapsed_b
        elapsed_offsets = row_offsets(b_point, stride_elapsed_b, t_point, stride_elapsed_t, BATCH_ROWS)
        delapsed_base = delapsed_ptr
        if NEED_DELAPSED:
            delapsed_base = delapsed_ptr + first

        tiles = tl.cdiv(end - begin, TILE)
        ahead = ()
        if HAS_FLAGS:
            b_flags = b_point if BATCH_ROWS else b
            flags_base, flags_rows = word_rows(
                flags_ptr, f, b_flags, t_point, stride_flags_f, stride_flags_b, BATCH_ROWS
            )
            last = begin + (tiles - 1) * TILE
            ahead = load_words(flags_base, last, flags_rows, t_point, point_exists, end, 1, not EVEN, ONCE)
        # The tiles that need masks for a tail are last in time and so come first; the full ones are a loop without.
        for TAIL in tl.static_range(0 if EVEN else 1, -1, -1):
            start = 0 if TAIL or EVEN else tiles - full
            stop = tiles - full if TAIL else tiles
            for i in tl.range(start, stop, num_stages=STAGES):
                t0 = begin + (tiles - 1 - i) * TILE
                t = tl.full((), t0, tl.int64)
                exists = inside
                follows = t_row + t0 > 0
                if TAIL:
                    exists = point_exists & (t_point + t0 < end)
                    follows = follows & state_exists & (t_row + t0 < end)
                read = exists
                if HAS_FLAGS:
                    flags = step_flags(ahead, t_point, t0, 0, 1)
                    t_next = tl.maximum(t0 - TILE, begin)
                    ahead = load_words(flags_base, t_next, flags_rows, t_point, point_exists, end, 1, not EVEN, ONCE)
                    read = exists & ~is_masked(flags)
                h_prev = load_wide_rows(h_base + t * H + h_offsets, follows, H, BLOCK_H, True, WIDE).to(tl.float32)
                h_prev = tl.where((t_row + t0 == 0)[:, None], h0, h_prev)
                x = load_input(x_base + t * step_x + x_offsets, read, D, BLOCK_D, HAS_FLAGS or TAIL)
                x_again = x
                if AGAIN:
                    x_again = load_transposed(x_base + t * step_x + x_offsets, read, D, BLOCK_D, HAS_FLAGS or TAIL)
                if HAS_DH:
                    dh = load_wide_rows(dh_base + t * step_dh + dh_offsets, exists, H, BLOCK_H, TAIL, WIDE)
                    dhs = split_tile(dh, STEPS, ROWS, BLOCK_H)

                u, k = project(x, w, bias, D, POINTS, BLOCK_H, PRECISION)
                moves = read[:, None]  # what is no identity
                if HAS_ELAPSED:
                    dt = load_elapsed(elapsed_base + t * stride_elapsed_t + elapsed_offsets, read)
                    moves = moves & (dt != 0.0)
                    z, v, a, sigmoid_u, rate, sigmoid_k = min_gru_timed_gates(u, k, dt)
                else:
                    z, v, a, sigmoid_u = min_gru_gates(u, k)
                multiplier = a
                if HAS_ELAPSED or HAS_FLAGS or TAIL:
                    z = tl.where(moves, z, 0.0)
                    reset = False
                    if HAS_FLAGS:
                        reset = is_reset(flags)[:, None]
                    multiplier = flagged_multiplier(a, ~moves, reset, False)
                multipliers = split_tile(multiplier, STEPS, ROWS, BLOCK_H)
                b_t = z * v
                if HAS_ELAPSED:
                    b_t = tl.where(moves, b_t, 0.0)
                inputs = split_tile(b_t, STEPS, ROWS, BLOCK_H)
                if HAS_FLAGS:
                    resets = split_tile(is_reset(flags)[:, None], STEPS, ROWS, 1)
                states = ()
                for s in tl.static_range(STEPS):
                    if HAS_FLAGS:
                        h_prev = tl.where(resets[s], 0.0, h_prev)
                    states += (h_prev,)
                    h_prev = tl.fma(multipliers[s], h_prev, inputs[s])
                h_prev = join_tile(states, STEPS, ROWS, BLOCK_H)
                if HAS_ELAPSED:
                    slope_u, slope_k, slope_dt = min_gru_timed_slopes(
                        u, k, dt, z, v, a, sigmoid_u, rate, sigmoid_k, h_prev
                    )
                else:
                    slope_u, slope_k = min_gru_slopes(u, k, z, v, a, sigmoid_u, h_prev)

                if BATCH_ROWS:
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
                if BATCH_ROWS:
                    carry = back
                gradient = join_tile(gradients, STEPS, ROWS, BLOCK_H)
                du = gradient * slope_u
                dk = gradient * slope_k
                if HAS_ELAPSED or HAS_FLAGS:  # a masked step has z = 0, but 0 times an infinite state would reach dW
                    du = tl.where(moves, du, 0.0)
                    dk = tl.where(moves, dk, 0.0)
                if H < BLOCK_H:  # W is 0 there, but 0 times a NaN that only padding has would reach dx
                    du = tl.where(n < H, du, 0.0)
                    dk = tl.where(n < H, dk, 0.0)
                if NEED_DELAPSED:  # of all channels: they share the time
                    ddt = tl.where(read[:, None] & (n < H), gradient * slope_dt, 0.0)
                    offsets = row_offsets(b_point * T, 1, t_point, 1, BATCH_ROWS)
                    tl.store(delapsed_base + t + offsets, tl.sum(ddt, 1), mask=exists)
                dp = pack_gradient(du, dk, D, POINTS, BLOCK_H, x_ptr.dtype.element_ty)
                if NEED_DW:
                    db = add_bias_gradient(db, du, dk)
                    dw = add_weight_gradient(dw, x_again, dp, D, STEPS, ROWS, BLOCK_H, PRECISION, AGAIN)
                if NEED_DX:
                    direct = ()
                    if HAS_DY:
                        direct = (dh_ptr + (first + t) * D + dx_offsets, dy_ptr + (first + t) * D + dx_offsets)
                    store_input_gradient(
                        dx_base + t * D + dx_offsets, direct, dp, w, exists, D, BLOCK_D, BLOCK_H, PRECISION, TAIL
                    )

        if NEED_DH0:
            tl.store(dh0_ptr + state, carry.to(dh0_ptr.dtype.element_ty), mask=mask_state & (chunk == 0))
    if NEED_DW:
        dw_ptr += pid * (2 * (D + HAS_BIAS) * H)
        store_weight_gradient(dw_ptr, dw, D, H, BLOCK_D, BLOCK_H)
        if HAS_BIAS:
            store_bias_gradient(dw_ptr, db, D, H, BLOCK_H)


class Partials(NamedTuple):
    """How many pieces of work a program takes, and how many programs a layer has: each writes one partial gradient of
    the parameters."""

    items_per_program: int
    num_partials: int


def plan_partials(B: int, T: int, least_steps: int, chunks: Chunks, config: LaunchConfig) -> Partials:
    """The fewest pieces per program with which each partial gradient takes `least_steps` steps."""
    items = config.work_items(B, chunks.num_chunks)
    steps = T * min(config.ROWS, B) if config.batch_rows else min(chunks.chunk_steps, T)
    per_program = max(1, min(items, -(-least_steps // steps)))
    num_partials = -(-items // per_program)
    if num_partials > 1 and num_partials * least_steps > B * T:  # a short last item, or one that is mostly padding
        num_partials = max(1, B * T // least_steps)
        per_program = -(-items // num_partials)
        num_partials = -(-items // per_program)
    return Partials(per_program, num_partials)


def min_steps(numbers: int, D: int, itemsize: int) -> int:
    """Rows of D per partial of `numbers` float32, which are PARTIALS_SHARE of their bytes."""
    return int(4 * numbers / (D * PARTIALS_SHARE * itemsize)) + 1


def backward_launches(
    call: Recurrence, h: torch.Tensor, dh: torch.Tensor | None, dh_last: torch.Tensor | None,
    dx: torch.Tensor | None, dh0: torch.Tensor | None, need_dw: bool, dy: torch.Tensor | None = None,
    *, d_elapsed: torch.Tensor | None = None, precision: str | None = None, config: LaunchConfig | None = None,
) -> tuple[list[Launch], torch.Tensor | None]:  # fmt: skip
    """The launches that fill dx, dh0, d_elapsed and the partials [F, num_partials, D or D + 1, 2H] of dW, and those
    partials."""
    x = call.input
    (F, B, T, D), H = x.shape, call.weight.shape[2] // 2
    precision = fused_precision(precision, x, H, "backward")
    timed = call.elapsed is not None
    config = config or select_config(D, H, x.dtype, F, B, T, "backward", precision, timed)
    call, h = readable(call, call.weight.contiguous()), h.contiguous()
    dh = None if dh is None else unit_stride(dh)
    dh_last = None if dh_last is None else dh_last.contiguous()
    rows = call.weight.shape[1]
    least = min_steps(2 * rows * H, D, x.element_size()) if need_dw else 0
    chunks = plan_chunks(F, B, T, config, least)
    partials = Partials(1, config.work_items(B, chunks.num_chunks))
    dw = None
    if need_dw:
        partials = plan_partials(B, T, least, chunks, config)
        dw = x.new_empty(F, partials.num_partials, rows, 2 * H, dtype=torch.float32)
    arguments, constants = shared_operands(call, precision, config, dh)
    arguments |= chunks._asdict() | stride_arguments("fbt", constants["UNIT"], dh=dh)
    launches: list[Launch] = []
    entry = None
    if chunks.num_chunks > 1:
        launches, entry = entry_launches(arguments, constants, dh_last, F, config, dh=dh, adjoint=True)
    arguments |= dict(
        h0_ptr=call.h0, h_ptr=h, dh_ptr=dh, dh_last_ptr=dh_last, entry_ptr=entry, dy_ptr=dy,
        dx_ptr=dx, dw_ptr=dw, dh0_ptr=dh0, delapsed_ptr=d_elapsed, **partials._asdict(),
    )  # fmt: skip
    constants |= dict(
        HAS_H0=call.h0 is not None, HAS_DH=dh is not None, HAS_DH_LAST=dh_last is not None,
        HAS_DY=dy is not None, NEED_DX=dx is not None, NEED_DW=need_dw, NEED_DH0=dh0 is not None,
        NEED_DELAPSED=d_elapsed is not None, SPLIT=entry is not None, BATCH_ROWS=config.batch_rows,
    )  # fmt: skip
    grid = (F * partials.num_partials,)
    return [*launches, Launch(_min_gru_bwd_kernel, grid, arguments, constants, config.num_warps)], dw


def min_gru_backward(
    call: Recurrence, h: torch.Tensor, dh: torch.Tensor | None, dh_last: torch.Tensor | None,
    *, dy: torch.Tensor | None = None, needs: RecurrenceNeeds = (True, True, True, True),
    precision: str | None = None, config: LaunchConfig | None = None,
) -> RecurrenceGradients:  # fmt: skip
    """(dx, dW, dh0, d_elapsed) from the call of `min_gru_forward`, its h, and the gradients of h and h_last, either may
    be None.

    dx and dh0 have the dtypes of x and h0, dW the one of the weight, d_elapsed [F, B, T] is float32. A gradient that
    `needs` leaves out is not computed and is None, as is dh0 without h0 and d_elapsed without times. dh is read through
    its strides, and copied unless the innermost is 1.

    dy   as x, with a dh of its shape: dx is also that of y = x + f(x + h), dh + dy more, where dy is the gradient of y
         and dh that of x + h. Copied unless contiguous.
    """
    x, h0 = call.input, call.h0
    check_dtypes(x=x, weight=call.weight, h0=h0, elapsed=call.elapsed, h=h, dh=dh, dh_last=dh_last, dy=dy)
    if dy is not None:
        if dh is None or not dy.shape == dh.shape == x.shape:
            raise ValueError(f"dy: expected x and dh in its shape {tuple(dy.shape)}")
        dh, dy = dh.contiguous(), dy.contiguous()
    dx = x.new_empty(x.shape) if needs[0] else None
    dh0 = h0.new_empty(h0.shape) if needs[2] and h0 is not None else None
    d_elapsed = None
    if needs[3] and call.elapsed is not None:
        d_elapsed = x.new_empty(x.shape[:3], dtype=torch.float32)
    if dx is None and dh0 is None and d_elapsed is None and not needs[1]:
        return None, None, None, None
    launches, partials = backward_launches(
        call, h, dh, dh_last, dx, dh0, needs[1], dy, d_elapsed=d_elapsed, precision=precision, config=config
    )
    for launch in launches:
        launch.run()
    dw = None
    if partials is not None:
        dw = (partials[:, 0] if partials.shape[1] == 1 else partials.sum(1)).to(call.weight.dtype)
    return dx, dw, dh0, d_elapsed
