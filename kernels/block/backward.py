"""The backward of forward.py: gradients of x, h0 and all parameters of a residual block in one pass over memory, from x
and h."""

import torch
import triton.language as tl

from ..common.arithmetic import in_elements
from ..common.call import Recurrence, RecurrenceGradients, RecurrenceNeeds
from ..common.config import Chunks, LaunchConfig, resolve_precision
from ..common.device import kernel
from ..common.elapsed import load_elapsed
from ..common.flags import flagged_multiplier, is_masked, is_reset, load_words, step_flags, word_rows
from ..common.gates import min_gru_gates, min_gru_slopes, min_gru_timed_gates, min_gru_timed_slopes
from ..common.lanes import columns, factor, load_lanes, product, project_lanes, restored, row_mask, store_lanes
from ..common.launch import Launch, check_dtypes
from ..common.operands import contiguous_layers, readable, stride_arguments, unit_stride
from ..common.plan import planned
from ..common.scans import chain_rows
from ..common.tiles import multiply
from ..feed_forward.backward import feed_forward_backward
from ..feed_forward.tiles import load_embedding, load_first, load_row_vectors, load_second
from ..min_gru.backward import Partials, min_gru_backward, min_steps, plan_partials
from ..min_gru.chunks import plan_chunks
from ..min_gru.states import load_state, row_offsets, state_mask, state_offsets
from ..min_gru.tiles import add_bias, add_bias_gradient, load_bias, load_weight_tile
from .config import backward_is_fused, select_block_backward
from .forward import check_block, embedded_inputs, min_gru_call, shared_operands
from .tiles import (
    add_input_gradients,
    embed_spread,
    feed_forward_adjoint,
    load_spread,
    observed_inputs,
    store_inputs,
    store_sums,
    store_totals,
    with_one,
    zero_sums,
    zero_totals,
)


@kernel
def _block_bwd_kernel(
    x_ptr, w_ptr, params_ptr, h0_ptr, h_ptr, elapsed_ptr, flags_ptr, dy_ptr, dh_last_ptr,  # inputs
    dx_ptr, dpacked_ptr, dh0_ptr, delapsed_ptr,  # outputs
    B, T, items_per_program, num_partials,  # sizes; only these change with the batch and the sequence
    stride_x_f: tl.int64, stride_x_b: tl.int64, stride_x_t: tl.int64,  # in units of UNIT elements, as stride_dy
    stride_dy_f: tl.int64, stride_dy_b: tl.int64, stride_dy_t: tl.int64,
    stride_elapsed_f: tl.int64, stride_elapsed_b: tl.int64, stride_elapsed_t: tl.int64,
    stride_flags_f: tl.int64, stride_flags_b: tl.int64,
    stride_w_f: tl.int64, stride_params_f: tl.int64,
    K: tl.constexpr, D: tl.constexpr, NUM_PARAMETERS: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_H0: tl.constexpr, HAS_ELAPSED: tl.constexpr, HAS_FLAGS: tl.constexpr, HAS_DH_LAST: tl.constexpr,
    NEED_X: tl.constexpr, NEED_PARAMS: tl.constexpr, NEED_H0: tl.constexpr, NEED_DELAPSED: tl.constexpr,
    BATCH_ROWS: tl.constexpr, EVEN: tl.constexpr, PACKED: tl.constexpr, UNIT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, WIDTH: tl.constexpr, VECTOR: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """With r_t = x_t + h_t, n_t the normalized r_t, W1' = gamma W1, b1' = beta W1 + b1, q = n W1' + b1', s = relu(q):

    dq = dy W2^T where q > 0, else 0;   dn = dq W1'^T;   dr = (dn - mean(dn) - n mean(n dn)) / sqrt(var + eps)
    lambda_t = dr_t + a_{t+1} lambda_{t+1};   du, dk = lambda_t times the slopes of the step;   dh0 = a_1 lambda_1
    dx = dr + dy + (du | dk) W^T;   dW = x^T (du | dk);   dW2 = s^T dy;   db2 = sum dy;   db1 = sum dq;   M = n^T dq
    dW1 = gamma M + beta db1;   dgamma = the row sums of W1 M;   dbeta = W1 db1

    HAS_BIAS  (u | k) = x W + bias with W of D + 1 rows, of which dbias = sum (du | dk) is the last.
    HAS_ELAPSED  As in `_min_gru_bwd_kernel`.
    K         With K > 0 x has K numbers a row: x_e = x W_e + b_e stands for x in r, (u | k) = (x | 1) W with W of K + 1
              rows, de = dr + dy, dW_e = x^T de, db_e = sum de and dx = de W_e^T + (du | dk) W^T of its first K rows.
    Layout    x, W, params, h0 and flags as in the forward; h [F, B, T, D] contiguous, dy as x of width D; dh_last, dh0
              [F, B, D] and dx (as x) contiguous; dpacked [F, num_partials, W and params] float32, partials to be summed
              in order.
    Grid      F * num_partials. A program owns `items_per_program` consecutive pieces of work of one term, to keep
              partials few. A piece is ROWS batch rows with BATCH_ROWS, else all of the time of one batch row.
    Tile      ROWS rows of STEPS steps in lanes (lanes.py), one warp. Upwards through the steps with the map, the slopes
              and dr of each, the chain over rows, then down again with what lambda gives.
    Scan      The adjoint runs backwards in time, and so do the rows: row 0 is the latest piece. Steps past the end and
              masked steps are the identity (1, 0) with slopes 0.
    Flags     a_t is 1 at a masked step and 0 at a reset for lambda, but dk has the gate's own; h_{t-1} is 0 at a reset.
    Numerics  float32; x, n, s, dy, dq, (du | dk) and the weights enter products in the dtype of x. h is read where a
              row starts, rounded to its dtype, and computed again within. The slope of relu at 0 is 0. A NaN of x at
              a masked step reaches all that its own y reaches, as dr there is NaN.
    """
    TILE: tl.constexpr = STEPS if BATCH_ROWS else ROWS * STEPS
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    r = tl.arange(0, ROWS)
    inside = r < ROWS
    pid = tl.program_id(0).to(tl.int64)
    f = pid // num_partials
    c = columns(WIDTH, VECTOR)
    step_dy = D if PACKED else in_elements(stride_dy_t, UNIT)

    params_ptr += f * stride_params_f
    w = load_weight_tile(w_ptr + f * stride_w_f, K + 1 if K > 0 else D, D, WIDTH, WIDTH, DTYPE)
    bias = load_bias(w_ptr + f * stride_w_f, D, D, WIDTH, HAS_BIAS)
    w1, b1 = load_first(params_ptr, D, WIDTH, WIDTH, DTYPE)
    w2, _ = load_second(params_ptr, D, WIDTH, WIDTH, DTYPE)
    w1_t = factor(tl.trans(w1), VECTOR, VECTOR, DTYPE, PRECISION)
    w1 = factor(w1, VECTOR, VECTOR, DTYPE, PRECISION)
    w2_t = factor(tl.trans(w2), VECTOR, VECTOR, DTYPE, PRECISION)
    if K > 0:
        step_x = stride_x_t
        w_t = load_row_vectors(w_ptr + f * stride_w_f, 2 * K + 2, D, WIDTH, WIDTH, DTYPE)
        w_e, b_e = load_embedding(params_ptr, K, D, WIDTH, WIDTH, DTYPE)
    else:
        step_x = D if PACKED else in_elements(stride_x_t, UNIT)
        w_t = factor(tl.trans(w), 2 * VECTOR, VECTOR, DTYPE, PRECISION)
        w_e, b_e = (), 0
    w = factor(w, VECTOR, 2 * VECTOR, DTYPE, PRECISION)
    sums = zero_sums(K, WIDTH, HAS_BIAS)
    totals = zero_totals(WIDTH)

    first_item = pid % num_partials * items_per_program
    last_item = tl.minimum(first_item + items_per_program, tl.cdiv(B, ROWS) if BATCH_ROWS else B)
    for item in range(first_item, last_item):
        if BATCH_ROWS:
            b = item * ROWS + r
            b_base = 0
            row_exists = b < B
            state_exists = row_exists
            t_row = tl.zeros((ROWS,), tl.int32)
            full = tl.where((item + 1) * ROWS <= B, T // TILE, 0)
        else:
            b = item
            b_base = b
            row_exists = inside
            state_exists = b < B
            t_row = (ROWS - 1) * STEPS - r * STEPS
            full = T // TILE

        row = f * B + b
        state = state_offsets(row, D, WIDTH, BATCH_ROWS)
        mask_state = state_mask(state_exists, D, WIDTH, BATCH_ROWS)
        carry = load_state(dh_last_ptr, state, mask_state, HAS_DH_LAST, ROWS, WIDTH, BATCH_ROWS)
        h0 = load_state(h0_ptr, state, mask_state, HAS_H0, ROWS, WIDTH, BATCH_ROWS)
        if not BATCH_ROWS:
            h0 = h0[None, :]

        # One scalar address per tensor and offsets of the rows, 32-bit ones where the strides are constants.
        first = (f * B + b_base) * T
        if K > 0:
            x_base = x_ptr + f * stride_x_f + b_base * stride_x_b
            x_offsets = row_offsets(b, stride_x_b, t_row, step_x, BATCH_ROWS)[None, :, None, None] + 0 * c
            dx_offsets = row_offsets(b * T, K, t_row, K, BATCH_ROWS)[:, None, None]
        else:
            x_base = x_ptr + (f * stride_x_f + b_base * stride_x_b) * UNIT
            x_offsets = (
                row_offsets(b, in_elements(stride_x_b, UNIT), t_row, step_x, BATCH_ROWS)[None, :, None, None] + c
            )
            dx_offsets = row_offsets(b * T, D, t_row, D, BATCH_ROWS)[None, :, None, None] + c
        dy_base = dy_ptr + (f * stride_dy_f + b_base * stride_dy_b) * UNIT
        dy_offsets = row_offsets(b, in_elements(stride_dy_b, UNIT), t_row, step_dy, BATCH_ROWS)[None, :, None, None] + c
        h_base = h_ptr + first * D
        h_offsets = row_offsets(b * T, D, t_row, D, BATCH_ROWS)[None, :, None, None] + c
        dx_base = dx_ptr
        if NEED_X:
            dx_base = dx_ptr + first * (K if K > 0 else D)
        elapsed_base = elapsed_ptr
        elapsed_offsets = t_row
        if HAS_ELAPSED:
            elapsed_base = elapsed_ptr + f * stride_elapsed_f + b_base * stride_elapsed_b
            elapsed_offsets = row_offsets(b, stride_elapsed_b, t_row, stride_elapsed_t, BATCH_ROWS)
        delapsed_base = delapsed_ptr
        if NEED_DELAPSED:
            delapsed_base = delapsed_ptr + first

        tiles = tl.cdiv(T, TILE)
        ahead = ()
        if HAS_FLAGS:
            flags_base, flags_rows = word_rows(flags_ptr, f, b, t_row, stride_flags_f, stride_flags_b, BATCH_ROWS)
            last = (tiles - 1) * TILE
            ahead = load_words(flags_base, last, flags_rows, t_row, row_exists, T, STEPS, not EVEN)
        # The tiles that need masks for a tail are last in time and so come first; the full ones are a loop without.
        for TAIL in tl.static_range(0 if EVEN else 1, -1, -1):
            start = 0 if TAIL or EVEN else tiles - full
            stop = tiles - full if TAIL else tiles
            for i in tl.range(start, stop, num_stages=STAGES):
                t0 = (tiles - 1 - i) * TILE
                t = tl.full((), t0, tl.int64)
                follows = t_row + t0 > 0
                if TAIL:
                    follows = follows & row_exists & (t_row + t0 < T)
                h = load_lanes(h_base + (t - 1) * D + h_offsets, row_mask(follows, D, WIDTH, VECTOR, True))
                h = tl.where((t_row + t0 == 0)[:, None], h0, h.to(tl.float32))
                inputs = ()
                raws = ()
                multipliers = ()
                slopes_u = ()
                slopes_k = ()
                slopes_dt = ()
                observed_steps = ()
                moving_steps = ()  # of what is no identity
                inner = ()
                outer = ()
                if HAS_FLAGS:
                    words = ahead
                    t_next = tl.maximum(t0 - TILE, 0)
                    ahead = load_words(flags_base, t_next, flags_rows, t_row, row_exists, T, STEPS, not EVEN)
                for s in tl.static_range(STEPS):
                    exists = inside
                    if TAIL:
                        exists = row_exists & (t_row + (t0 + s) < T)
                    mask = row_mask(exists, D, WIDTH, VECTOR, TAIL)
                    read = exists
                    if HAS_FLAGS:
                        flags = step_flags(words, t_row, t0, s, STEPS)
                        read = exists & ~is_masked(flags)
                    if K > 0:
                        raw = load_spread(x_base + (t + s) * step_x + x_offsets, mask, K)
                        x = embed_spread(raw, w_e, b_e, K)
                        given = observed_inputs(raw, read, K, HAS_FLAGS)
                        raws += (raw,)
                        u, k = project_lanes(with_one(given, K, DTYPE), w, VECTOR, VECTOR, PRECISION)
                    else:
                        x = load_lanes(x_base + (t + s) * step_x + x_offsets, mask)
                        given = x
                        if HAS_FLAGS:
                            given = tl.where(read[:, None], x, 0.0).to(DTYPE)
                        u, k = add_bias(*project_lanes(given, w, VECTOR, VECTOR, PRECISION), bias)
                    moves = read[:, None]
                    if HAS_ELAPSED:
                        dt = load_elapsed(elapsed_base + (t + s) * stride_elapsed_t + elapsed_offsets, read)
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
                            h = tl.where(reset, 0.0, h)
                        multiplier = flagged_multiplier(a, ~moves, reset, False)
                    b_t = z * v
                    if HAS_ELAPSED:
                        b_t = tl.where(moves, b_t, 0.0)
                        slope_u, slope_k, slope_dt = min_gru_timed_slopes(
                            u, k, dt, z, v, a, sigmoid_u, rate, sigmoid_k, h
                        )
                        slopes_dt += (slope_dt,)
                    else:
                        slope_u, slope_k = min_gru_slopes(u, k, z, v, a, sigmoid_u, h)
                    h = tl.fma(multiplier, h, b_t)
                    dy = load_lanes(dy_base + (t + s) * step_dy + dy_offsets, mask)
                    dr, totals = feed_forward_adjoint(
                        totals, x, h, dy, w1, b1, w1_t, w2_t, D, VECTOR, NEED_PARAMS, PRECISION
                    )
                    inputs += (given,)
                    multipliers += (multiplier,)
                    slopes_u += (slope_u,)
                    slopes_k += (slope_k,)
                    observed_steps += (read[:, None],)
                    moving_steps += (moves,)
                    inner += (dr,)
                    outer += (dr + dy.to(tl.float32),)

                back = carry
                if not BATCH_ROWS:
                    row_a = tl.full((ROWS, WIDTH), 1.0, tl.float32)
                    row_b = tl.zeros((ROWS, WIDTH), tl.float32)
                    for s in tl.static_range(STEPS - 1, -1, -1):
                        row_b = multipliers[s] * (row_b + inner[s])
                        row_a = multipliers[s] * row_a
                    back, carry = chain_rows(row_a, row_b, carry, ROWS, WIDTH, False)
                for s in tl.static_range(STEPS - 1, -1, -1):
                    gradient = inner[s] + back
                    back = multipliers[s] * gradient
                    du = gradient * slopes_u[s]
                    dk = gradient * slopes_k[s]
                    # a step that is held has z = 0, but 0 times an infinite state would reach dW
                    if HAS_ELAPSED or HAS_FLAGS:
                        du = tl.where(moving_steps[s], du, 0.0)
                        dk = tl.where(moving_steps[s], dk, 0.0)
                    exists = row_exists & (t_row + (t0 + s) < T)
                    if NEED_DELAPSED:
                        channel = tl.arange(0, WIDTH)[None, :]
                        ddt = tl.where(observed_steps[s] & (channel < D), gradient * slopes_dt[s], 0.0)
                        offsets = row_offsets(b * T, 1, t_row, 1, BATCH_ROWS)
                        tl.store(delapsed_base + (t + s) + offsets, tl.sum(ddt, 1), mask=exists)
                    if K > 0:
                        if NEED_PARAMS:
                            sums = add_input_gradients(sums, inputs[s], raws[s], du, dk, outer[s], K)
                        if NEED_X:
                            dx = dx_base + (t + s) * K + dx_offsets
                            store_inputs(dx, du, dk, outer[s], w_t, w_e, exists[:, None], K, TAIL)
                    else:
                        dp = tl.reshape(tl.join(du, dk), (ROWS, 2 * WIDTH)).to(DTYPE)
                        if NEED_PARAMS:
                            of_bias = add_bias_gradient(sums[1:], du, dk)
                            sums = (multiply(tl.trans(dp), inputs[s], sums[0], PRECISION),) + of_bias  # noqa: RUF005
                        if NEED_X:
                            dx = outer[s] + restored(product(dp, w_t, 2 * VECTOR, DTYPE, PRECISION), VECTOR, 2)
                            mask = row_mask(exists, D, WIDTH, VECTOR, TAIL)
                            store_lanes(dx_base + (t + s) * D + dx_offsets, dx, mask)
                if BATCH_ROWS:
                    carry = back

        if NEED_H0:
            tl.store(dh0_ptr + state, carry.to(dh0_ptr.dtype.element_ty), mask=mask_state)
    if NEED_PARAMS:
        OF_W: tl.constexpr = (K + 1 if K > 0 else D + HAS_BIAS) * 2 * D
        partial = dpacked_ptr + pid * (OF_W + NUM_PARAMETERS)
        store_sums(partial, sums, K, D, WIDTH)
        store_totals(partial + OF_W, params_ptr, totals, D, WIDTH, DTYPE)


def backward_launch(
    call: Recurrence, params: torch.Tensor, h: torch.Tensor, dy: torch.Tensor, dh_last: torch.Tensor | None,
    *, needs: RecurrenceNeeds, precision: str | None = None, config: LaunchConfig | None = None,
) -> Launch:  # fmt: skip
    """The launch that fills those of its arguments that are needed: dx_ptr, dh0_ptr and delapsed_ptr, contiguous, and
    dpacked_ptr [F, num_partials, W and params]."""
    F, B, T, D = h.shape
    precision = resolve_precision(precision, h.dtype)
    config = config or select_block_backward(D, h.dtype, precision, F, B, T)
    call = readable(call, contiguous_layers(call.weight))
    h, dy, x, h0 = h.contiguous(), unit_stride(dy), call.input, call.h0
    dh_last = None if dh_last is None else dh_last.contiguous()
    partials, dpacked = Partials(1, config.work_items(B, 1)), None
    if needs[1]:
        partials = plan_partials(B, T, least_steps(call, params), Chunks(T, 1), config)
        dpacked = x.new_empty(F, partials.num_partials, num_gradients(call, params), dtype=torch.float32)
    dx = x.new_empty(x.shape) if needs[0] else None
    dh0 = h0.new_empty(h0.shape) if needs[2] and h0 is not None else None
    d_elapsed = None
    if needs[3] and call.elapsed is not None:
        d_elapsed = x.new_empty(F, B, T, dtype=torch.float32)
    arguments, constants = shared_operands(call, params, precision, config, dy)
    arguments |= stride_arguments("fbt", constants["UNIT"], dy=dy) | partials._asdict()
    arguments |= dict(
        h0_ptr=h0, h_ptr=h, dy_ptr=dy, dh_last_ptr=dh_last, dx_ptr=dx, dpacked_ptr=dpacked, dh0_ptr=dh0,
        delapsed_ptr=d_elapsed,
    )  # fmt: skip
    constants |= dict(
        NUM_PARAMETERS=params.shape[1], HAS_H0=h0 is not None, HAS_DH_LAST=dh_last is not None,
        NEED_X=dx is not None, NEED_PARAMS=needs[1], NEED_H0=dh0 is not None,
        NEED_DELAPSED=d_elapsed is not None,
    )  # fmt: skip
    return Launch(_block_bwd_kernel, (F * partials.num_partials,), arguments, constants, config.num_warps)


def num_gradients(call: Recurrence, params: torch.Tensor) -> int:
    """Numbers in the gradient of one term's parameters."""
    return call.weight.shape[1] * call.weight.shape[2] + params.shape[1]


def least_steps(call: Recurrence, params: torch.Tensor) -> int:
    """Steps of h per partial gradient."""
    return min_steps(num_gradients(call, params), call.weight.shape[2] // 2, call.input.element_size())


@planned
def block_backward(
    call: Recurrence, params: torch.Tensor, h: torch.Tensor, dy: torch.Tensor | None, dh_last: torch.Tensor | None,
    *, needs: RecurrenceNeeds = (True, True, True, True), precision: str | None = None,
    config: LaunchConfig | None = None,
) -> RecurrenceGradients:  # fmt: skip
    """(dx, dpacked, dh0, d_elapsed) from the arguments of `block_forward`, its h, and the gradients of y and h_last.

    dy, dh_last   either may be None.
    dpacked       [F, n] float32, the gradients of the numbers of weight and params one after the other.
    dx, dh0       in the dtypes of x and h0; d_elapsed [F, B, T] float32. A gradient that `needs` leaves out is not
                  computed and is None, as is dh0 without h0 and d_elapsed without times.

    Two kernels where `backward_is_fused` says no, where few rows of a long T are cut (the gradients that enter a piece
    would need the feed-forward of all later pieces), and without dy.
    """
    D = check_block(call, params)
    x, h0 = call.input, call.h0
    check_dtypes(h0=h0, h=h, dy=dy, dh_last=dh_last)
    F, B, T, _ = x.shape
    for name, tensor in (("h", h), ("dy", dy)):
        if tensor is not None and (tensor.shape != (F, B, T, D) or tensor.dtype != x.dtype):
            raise ValueError(
                f"{name}: expected {(F, B, T, D)} in {x.dtype}, got {tuple(tensor.shape)} in {tensor.dtype}"
            )
    needs = (needs[0], needs[1], needs[2] and h0 is not None, needs[3] and call.elapsed is not None)
    if not any(needs):
        return None, None, None, None
    if not h.numel():
        dx = torch.zeros_like(x) if needs[0] else None
        dpacked = x.new_zeros(F, num_gradients(call, params), dtype=torch.float32) if needs[1] else None
        dh0 = None
        if needs[2] and h0 is not None:
            dh0 = torch.zeros_like(h0) if dh_last is None else dh_last.to(h0.dtype, copy=True)
        return dx, dpacked, dh0, x.new_zeros(F, B, T, dtype=torch.float32) if needs[3] else None
    if dy is None or not _is_whole(call, params, needs, precision, config):
        return _two_kernels(call, params, h, dy, dh_last, needs, precision)
    launch = backward_launch(call, params, h, dy, dh_last, needs=needs, precision=precision, config=config)
    launch.run()
    names = ("dx_ptr", "dpacked_ptr", "dh0_ptr", "delapsed_ptr")
    dx, partials, dh0, d_elapsed = (launch.arguments[name] for name in names)
    return dx, None if partials is None else partials.sum(1), dh0, d_elapsed


def _is_whole(
    call: Recurrence, params: torch.Tensor, needs: RecurrenceNeeds, precision: str | None, config: LaunchConfig | None
) -> bool:
    """True if one kernel computes the backward, and T need not be cut."""
    (F, B, T, _), D, dtype = call.input.shape, call.weight.shape[2] // 2, call.input.dtype
    if not backward_is_fused(D, dtype, precision):
        return False
    config = config or select_block_backward(D, dtype, resolve_precision(precision, dtype), F, B, T)
    return plan_chunks(F, B, T, config, least_steps(call, params) if needs[1] else 0).num_chunks == 1


def _two_kernels(
    call: Recurrence, params: torch.Tensor, h: torch.Tensor, dy: torch.Tensor | None, dh_last: torch.Tensor | None,
    needs: RecurrenceNeeds, precision: str | None,
) -> RecurrenceGradients:  # fmt: skip
    """`block_backward` as the backward of the feed-forward and that of the minGRU.

    The second adds what reaches x directly to its own dx: the first stores one tensor and not two, and there is no sum
    after them, which would move three more. Where rows are embedded they are narrow, and summed.
    """
    x = call.input
    direct, dparams, dh = None, None, None
    embedded = embedded_inputs(call) > 0
    if dy is not None:
        x_, h_, dy_ = (t.flatten(1, 2) for t in (x, h, dy))
        wanted = (needs[0] and embedded, needs[1], True)
        direct, dparams, dh = feed_forward_backward(x_, params, h_, dy_, needs=wanted, precision=precision)
        dh = None if dh is None else dh.view(h.shape)
    dx, dweight, dh0, d_elapsed = min_gru_backward(
        min_gru_call(call), h, dh, dh_last,
        dy=dy if needs[0] and not embedded else None, needs=needs, precision=precision,
    )  # fmt: skip
    if dx is not None and embedded:
        dx = dx[..., : x.shape[3]]
        dx = dx.contiguous() if direct is None else direct.view(x.shape).add_(dx)
    if dweight is None:
        return dx, None, dh0, d_elapsed
    dparams = params.new_zeros(params.shape, dtype=torch.float32) if dparams is None else dparams.float()
    return dx, torch.cat([dweight[:, : call.weight.shape[1]].flatten(1).float(), dparams], 1), dh0, d_elapsed
