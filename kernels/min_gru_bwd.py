"""minGRU backward: gradients of x, W and h0 in one pass over memory, from x and what the forward returned."""

import torch
import triton
import triton.language as tl

from .config import LaunchConfig, select_config
from .launch import Launch, check_dtypes
from .operands import common, gradient_strides, rows
from .primitives import coded_multiplier, is_masked, is_reset, load_codes, min_gru_gates, min_gru_slopes, row_scan
from .split_t import entry_launches, plan_chunks, totals_launch
from .tiles import (
    add_weight_gradient,
    input_pointers,
    load_input,
    load_rows,
    load_weight,
    pack_gradient,
    project,
    state_mask,
    state_offsets,
    store_input_gradient,
    store_weight_gradient,
    zero_weight_gradient,
)

# All partials of dW together stay under this share of the bytes of x, or there is one per layer: dW itself.
PARTIALS_SHARE = 0.05

_NUMBERS = [
    "B", "T", "length", "count", "items", "parts", "stride_x_f", "stride_x_b", "stride_x_t",
    "stride_g_f", "stride_g_b", "stride_g_t", "stride_c_f", "stride_c_b", "stride_c_t",
]  # fmt: skip


@triton.jit(do_not_specialize=_NUMBERS)
def _min_gru_bwd_kernel(
    x_ptr, w_ptr, h0_ptr, h_ptr, code_ptr, dh_ptr, dh_last_ptr, entry_ptr,  # inputs
    dx_ptr, dw_ptr, dh0_ptr,  # outputs
    B, T, length, count, items, parts,  # sizes; only these change with the batch and the sequence
    stride_x_f: tl.int64, stride_x_b: tl.int64, stride_x_t: tl.int64,  # in units of UNIT elements, as stride_g
    stride_g_f: tl.int64, stride_g_b: tl.int64, stride_g_t: tl.int64,
    stride_c_f: tl.int64, stride_c_b: tl.int64, stride_c_t: tl.int64,
    D: tl.constexpr, H: tl.constexpr,
    HAS_H0: tl.constexpr, HAS_CODES: tl.constexpr, HAS_DH: tl.constexpr, HAS_DH_LAST: tl.constexpr,
    NEED_DX: tl.constexpr, NEED_DW: tl.constexpr, NEED_DH0: tl.constexpr,
    SPLIT: tl.constexpr, SEQ: tl.constexpr, EVEN: tl.constexpr, PACKED: tl.constexpr,
    UNIT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """lambda_t = dh_t + s_{t+1},   s_t = a_t lambda_t,   s_{T+1} = dh_last or 0;   du, dk = lambda_t times the slopes.

    dx = (du | dk) W^T,   dW = x^T (du | dk) summed over b and t,   dh0 = s_1.

    Layout    x [F, B, T, D], dh [F, B, T, H], innermost stride 1, the strides of T are D and H if PACKED; W [F, D, 2H],
              h0, dh_last, dh0 [F, B, H], h [F, B, T, H], dx [F, B, T, D] contiguous; codes broadcast to [F, B, T].
              dw [F, parts, D, 2H] float32.
    Grid      F * parts. A program owns `items` consecutive pieces of work of one layer, to keep the partials of dW few:
              ROWS batch rows with SEQ, else one of the `count` chunks of time of one batch row.
    Scan      The adjoint runs backwards in time, and so do the rows: row 0 is the latest piece, and the scan over rows
              is the forward's. Steps past the end and masked steps are the identity (1, 0) with slopes 0.
    SPLIT     A chunk starts from entry [F, B, count, H] of the chunk after it, which lies there in reverse order.
    Codes     s_t = 0 at a reset and lambda_t at a masked step, but dk has the gate's own a_t, and h_{t-1} = 0 at a
              reset.
    Numerics  float32. Where a row starts, the state is read from h, rounded to the dtype of h; within a row it is
              computed again. du and dk enter the two products in the dtype of x. dW has one fixed order of sums.
    """
    TILE: tl.constexpr = STEPS if SEQ else ROWS * STEPS
    CODED: tl.constexpr = HAS_CODES or not EVEN
    r = tl.arange(0, ROWS)
    h_there = (tl.arange(0, BLOCK_H) < H)[None, :]
    pid = tl.program_id(0).to(tl.int64)
    f = pid // parts
    w = load_weight(w_ptr, f, D, H, BLOCK_D, BLOCK_H, x_ptr.dtype.element_ty)
    dw = zero_weight_gradient(D, ROWS, BLOCK_D, BLOCK_H)
    step_x = D if PACKED else stride_x_t * UNIT
    step_g = H if PACKED else stride_g_t * UNIT

    first_item = pid % parts * items
    last_item = tl.minimum(first_item + items, tl.cdiv(B, ROWS) if SEQ else B * count)
    for item in range(first_item, last_item):
        if SEQ:
            b = item * ROWS + r  # [ROWS]
            row_exists = b < B
            state_exists = row_exists
            t_row = tl.zeros((ROWS,), tl.int32)
            g = 0
            begin, end = 0, T
        else:
            b = item // count
            row_exists = r < ROWS
            state_exists = b < B
            t_row = (ROWS - 1 - r) * STEPS
            g = (item % count).to(tl.int32)
            begin = g * length
            end = tl.minimum(begin + length, T)

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

        t_first = t_row.to(tl.int64)
        x_ptrs = input_pointers(x_ptr + (f * stride_x_f + b * stride_x_b) * UNIT + t_first * step_x, D, BLOCK_D)
        dx_ptrs = dx_ptr
        if NEED_DX:
            dx_ptrs = input_pointers(dx_ptr + (row * T + t_first) * D, D, BLOCK_D)
        h_ptrs = (h_ptr + (row * T + t_first - 1) * H)[:, None] + tl.arange(0, BLOCK_H)[None, :]
        dh_ptrs = dh_ptr
        if HAS_DH:
            dh_ptrs = dh_ptr + (f * stride_g_f + b * stride_g_b) * UNIT + t_first * step_g
            dh_ptrs = dh_ptrs[:, None] + tl.arange(0, BLOCK_H)[None, :]
        code_ptrs = code_ptr
        if HAS_CODES:
            code_ptrs = code_ptr + f * stride_c_f + b * stride_c_b + t_first * stride_c_t

        tiles = tl.cdiv(end - begin, TILE)
        for i in tl.range(0, tiles, num_stages=STAGES):
            t0 = begin + (tiles - 1 - i) * TILE
            t_tile = tl.full((), t0, tl.int64)
            is_start = t_row + t0 == 0
            h_prev = load_rows(h_ptrs + t_tile * H, row_exists & ~is_start & (t_row + t0 < end), H, BLOCK_H, True)
            h_prev = tl.where(is_start[:, None], h0, h_prev)
            xs = ()
            dhs = ()
            multipliers = ()
            slopes_u = ()
            slopes_k = ()
            for s in tl.static_range(STEPS):
                t = t_tile + s
                exists = row_exists & (t_row + (t0 + s) < end)
                read = exists
                if HAS_CODES:
                    code = load_codes(code_ptrs + t * stride_c_t, exists)
                    read = exists & ~is_masked(code)
                    reset = is_reset(code)[:, None]
                    h_prev = tl.where(reset, 0.0, h_prev)
                else:
                    reset = False
                x = load_input(x_ptrs + t * step_x, read, D, BLOCK_D, CODED)
                if HAS_DH:
                    dhs += (load_rows(dh_ptrs + t * step_g, exists, H, BLOCK_H, not EVEN),)
                u, k = project(x, w, D, ROWS, BLOCK_H, PRECISION)
                z, v, a, sigmoid_u = min_gru_gates(u, k)
                if CODED:
                    z = tl.where(read[:, None], z, 0.0)
                slope_u, slope_k = min_gru_slopes(u, z, v, a, sigmoid_u, h_prev)
                if CODED:
                    a = coded_multiplier(a, ~read[:, None], reset, False)
                xs += (x,)
                multipliers += (a,)
                slopes_u += (slope_u,)
                slopes_k += (slope_k,)
                h_prev = tl.fma(a, h_prev, z * v)

            if SEQ:
                back = carry
            else:
                row_a = tl.full((ROWS, BLOCK_H), 1.0, tl.float32)
                row_b = tl.zeros((ROWS, BLOCK_H), tl.float32)
                for s in tl.static_range(STEPS - 1, -1, -1):
                    if HAS_DH:
                        row_b += dhs[s]
                    row_b = multipliers[s] * row_b
                    row_a = multipliers[s] * row_a
                back, carry = row_scan(row_a, row_b, carry, ROWS, BLOCK_H, False)

            for s in tl.static_range(STEPS - 1, -1, -1):
                gradient = back
                if HAS_DH:
                    gradient = dhs[s] + back
                back = multipliers[s] * gradient
                du = gradient * slopes_u[s]
                dk = gradient * slopes_k[s]
                if H < BLOCK_H:  # W is 0 there, but 0 times a NaN that only padding has would reach dx
                    du = tl.where(h_there, du, 0.0)
                    dk = tl.where(h_there, dk, 0.0)
                dp = pack_gradient(du, dk, D, ROWS, BLOCK_H, x_ptr.dtype.element_ty)
                if NEED_DW:
                    dw = add_weight_gradient(dw, xs[s], dp, D, BLOCK_H, PRECISION)
                if NEED_DX:
                    exists = row_exists & (t_row + (t0 + s) < end)
                    store_input_gradient(
                        dx_ptrs + (t_tile + s) * D, dp, w, exists, D, BLOCK_D, BLOCK_H, PRECISION, not EVEN
                    )
            if SEQ:
                carry = back

        if NEED_DH0:
            tl.store(dh0_ptr + state, carry.to(dh0_ptr.dtype.element_ty), mask=state_there & (g == 0))
    if NEED_DW:
        store_weight_gradient(dw_ptr + pid * (2 * D * H), dw, D, H, BLOCK_D, BLOCK_H)


def plan_parts(
    F: int, B: int, T: int, D: int, H: int, itemsize: int, length: int, count: int, config: LaunchConfig
) -> tuple[int, int]:
    """(items per program, programs per layer) that keep the partials of dW under PARTIALS_SHARE of the bytes of x."""
    items = config.items(B, count)
    steps = T * min(config.ROWS, B) if config.seq else min(length, T)
    least = min_steps(H, itemsize)
    per = max(1, min(items, -(-least // steps)))
    parts = -(-items // per)
    if parts > 1 and parts * least > B * T:  # a short last item, or one that is mostly padding
        parts = max(1, B * T // least)
        per = -(-items // parts)
        parts = -(-items // per)
    return per, parts


def min_steps(H: int, itemsize: int) -> int:
    """Steps of x per partial of dW: 2 D H floats are PARTIALS_SHARE of the bytes of that many rows of D."""
    return int(8 * H / (PARTIALS_SHARE * itemsize)) + 1


def backward_launches(
    x: torch.Tensor, weight: torch.Tensor, h0: torch.Tensor | None, h: torch.Tensor, codes: torch.Tensor | None,
    dh: torch.Tensor | None, dh_last: torch.Tensor | None,
    dx: torch.Tensor | None, dh0: torch.Tensor | None, need_dw: bool,
    *, precision: str | None = None, config: LaunchConfig | None = None,
) -> tuple[list[Launch], torch.Tensor | None]:  # fmt: skip
    """The launches that fill dx, dh0 and the partials [F, parts, D, 2H] of dW, and those partials."""
    F, B, T, D = x.shape
    H = weight.shape[2] // 2
    config = config or select_config(D, H, x.dtype, F, B, T, "backward")
    x, weight, h = rows(x), weight.contiguous(), h.contiguous()
    dh = None if dh is None else rows(dh)
    h0, dh_last = (None if s is None else s.contiguous() for s in (h0, dh_last))
    least = min_steps(H, x.element_size()) if need_dw else 0
    length, count = plan_chunks(F, B, T, config, least)
    items, parts = (
        plan_parts(F, B, T, D, H, x.element_size(), length, count, config) if need_dw else (1, config.items(B, count))
    )
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
        shared, h0_ptr=h0, h_ptr=h, dh_ptr=dh, dh_last_ptr=dh_last, entry_ptr=entry,
        dx_ptr=dx, dw_ptr=dw, dh0_ptr=dh0, items=items, parts=parts,
    )  # fmt: skip
    constants |= dict(
        HAS_H0=h0 is not None, HAS_DH=dh is not None, HAS_DH_LAST=dh_last is not None,
        NEED_DX=dx is not None, NEED_DW=need_dw, NEED_DH0=dh0 is not None, SPLIT=count > 1, SEQ=config.seq,
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
    needs: tuple[bool, bool, bool] = (True, True, True),
    precision: str | None = None,
    config: LaunchConfig | None = None,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """(dx, dW, dh0) from the arguments of `min_gru_forward`, its h, and the gradients of h and h_last, either may be
    None.

    dx and dh0 have the dtypes of x and h0, dW the one of the weight. What `needs` leaves out is not computed and is
    None, as is dh0 without h0. dh is read through its strides, and copied unless the innermost is 1.
    """
    check_dtypes(x=x, weight=weight, h0=h0, h=h, dh=dh, dh_last=dh_last)
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device) if needs[0] else None
    dh0 = torch.empty(h0.shape, dtype=h0.dtype, device=h0.device) if needs[2] and h0 is not None else None
    if dx is None and dh0 is None and not needs[1]:
        return None, None, None
    launches, partials = backward_launches(
        x, weight, h0, h, codes, dh, dh_last, dx, dh0, needs[1], precision=precision, config=config
    )
    for launch in launches:
        launch.run()
    dw = None
    if partials is not None:
        dw = (partials[:, 0] if partials.shape[1] == 1 else partials.sum(1)).to(weight.dtype)
    return dx, dw, dh0
