"""The backward of gates_forward.py: gradients of the pre-activations and of h0, from p and h."""

import torch
import triton
import triton.language as tl

from ..common.arithmetic import in_elements
from ..common.call import Recurrence
from ..common.device import kernel
from ..common.elapsed import load_elapsed, timed_map
from ..common.flags import flagged_multiplier, is_masked, is_reset, load_words, step_flags, word_rows
from ..common.gates import Gates, functions_of
from ..common.launch import Launch, check_dtypes
from ..common.operands import as_states, step_arguments, stride_arguments, unit_stride
from ..common.scans import row_scan
from .config import ScanConfig, block_of, channel_unit, gates_backward_steps, plan_chunks, select_scan
from .forward import chunk_buffers, phase_launches
from .tiles import compose_adjoint, extend, load_preacts, place_program, store_totals, zero_where


@kernel
def _gates_scan_bwd_kernel(
    p_ptr, h0_ptr, h_ptr, elapsed_ptr, flags_ptr, dh_ptr, dh_last_ptr, entry_ptr,
    dp_ptr, dh0_ptr, delapsed_ptr, total_a_ptr, total_b_ptr,
    B, T, H, chunk_steps, num_chunks,  # H and the strides, but those of elapsed and flags, in units of UNIT elements
    stride_p_f: tl.int64, stride_p_b: tl.int64, stride_p_t: tl.int64,
    stride_h_f: tl.int64, stride_h_b: tl.int64, stride_h_t: tl.int64,
    stride_dh_f: tl.int64, stride_dh_b: tl.int64, stride_dh_t: tl.int64,
    stride_elapsed_f: tl.int64, stride_elapsed_b: tl.int64, stride_elapsed_t: tl.int64,
    stride_flags_f: tl.int64, stride_flags_b: tl.int64,
    GATES: tl.constexpr, SLOPES: tl.constexpr, UNREAD: tl.constexpr,
    HAS_H0: tl.constexpr, HAS_ELAPSED: tl.constexpr, HAS_FLAGS: tl.constexpr, HAS_DH: tl.constexpr,
    HAS_DH_LAST: tl.constexpr,
    NEED_P: tl.constexpr, NEED_H0: tl.constexpr, NEED_DELAPSED: tl.constexpr, PHASE: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_H: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """lambda_t = dh_t + s_{t+1}, s_t = a_t lambda_t, s_{T+1} = dh_last or 0; dh0 = s_1, and in dp the slope of h_t in
    each pre-activation of step t, times lambda_t.

    Cell      GATES, SLOPES and UNREAD, from a row of the table in gates.py; with HAS_ELAPSED the first two of a step
              that takes time, and SLOPES gives one more, that in the time.
    Layout    p, dp [F, B, T, len(UNREAD) * H], h and dh [F, B, T, H], innermost stride 1; h0, dh0, dh_last [F, B, H]
              and dp contiguous.
    Grid      F * B * num_chunks * cdiv(H, BLOCK_H) on axis 0; chunk 0 is the last in time.
    Scan      As in _scan_bwd_kernel: rows run backwards in time. h enters a row from memory and is computed again
              inside.
    NEED_DELAPSED  delapsed [F, B, cdiv(H, BLOCK_H), T] float32: of each block of channels the sum of lambda_t times the
              slope in the time, to be summed over the blocks in order.
    Flags     a_t is 1 at a masked step and 0 at a reset, but the slopes keep the gate's own; h_{t-1} is 0 at a reset;
              dp = 0 by selection at a masked step, whose p is not read.
    Numerics  float32, the same for both spaces of the forward.
    """
    H = H * UNIT
    stride_p_f, stride_p_b, stride_p_t = (
        in_elements(stride_p_f, UNIT),
        in_elements(stride_p_b, UNIT),
        in_elements(stride_p_t, UNIT),
    )
    stride_h_f, stride_h_b, stride_h_t = (
        in_elements(stride_h_f, UNIT),
        in_elements(stride_h_b, UNIT),
        in_elements(stride_h_t, UNIT),
    )
    stride_dh_f, stride_dh_b, stride_dh_t = (
        in_elements(stride_dh_f, UNIT),
        in_elements(stride_dh_b, UNIT),
        in_elements(stride_dh_t, UNIT),
    )
    NUM_PREACTS: tl.constexpr = len(UNREAD)
    stride_dp_t = NUM_PREACTS * H.to(tl.int64)
    WRITE_P: tl.constexpr = NEED_P and PHASE != "totals"
    WRITE_ELAPSED: tl.constexpr = NEED_DELAPSED and PHASE != "totals"
    NUM_SLOPES: tl.constexpr = NUM_PREACTS + HAS_ELAPSED
    n, chunk, h_offs, h_mask = place_program(H, num_chunks, BLOCK_H)
    begin = (num_chunks - 1 - chunk) * chunk_steps
    end = tl.minimum(begin + chunk_steps, T)
    tiles = tl.cdiv(end - begin, ROWS * STEPS)

    carry = tl.zeros((BLOCK_H,), tl.float32)
    carry_a = tl.full((BLOCK_H,), 1.0, tl.float32)
    carry_c = tl.zeros((BLOCK_H,), tl.float32)
    if HAS_DH_LAST and PHASE != "totals":
        carry = tl.load(dh_last_ptr + n * H + h_offs, mask=h_mask & (chunk == 0), other=0.0).to(tl.float32)
    if PHASE == "resume":
        entry = tl.load(entry_ptr + (n * num_chunks + chunk - 1) * H + h_offs, mask=h_mask & (chunk > 0), other=0.0)
        carry = tl.where(chunk == 0, carry, entry)
    h0 = tl.zeros((BLOCK_H,), tl.float32)
    if HAS_H0 and (WRITE_P or WRITE_ELAPSED):
        h0 = tl.load(h0_ptr + n * H + h_offs, mask=h_mask, other=0.0).to(tl.float32)

    t_row = begin + (ROWS - 1 - tl.arange(0, ROWS)) * STEPS
    rows = t_row.to(tl.int64)
    p_row = p_ptr + n // B * stride_p_f + n % B * stride_p_b + rows[:, None] * stride_p_t + h_offs[None, :]
    if WRITE_P or WRITE_ELAPSED:
        h_row = h_ptr + n // B * stride_h_f + n % B * stride_h_b + (rows[:, None] - 1) * stride_h_t + h_offs[None, :]
    if WRITE_P:
        dp_row = dp_ptr + (n * T + rows[:, None]) * stride_dp_t + h_offs[None, :]
    if WRITE_ELAPSED:
        blocks = tl.cdiv(H, BLOCK_H)
        delapsed_row = delapsed_ptr + (n * blocks + tl.program_id(0) % blocks) * T + rows
    if HAS_ELAPSED:
        elapsed_row = elapsed_ptr + n // B * stride_elapsed_f + n % B * stride_elapsed_b + rows * stride_elapsed_t
    if HAS_DH:
        dh_row = dh_ptr + n // B * stride_dh_f + n % B * stride_dh_b + rows[:, None] * stride_dh_t + h_offs[None, :]
    if HAS_FLAGS:
        flags_ptr, flags_rows = word_rows(flags_ptr, n // B, n % B, t_row, stride_flags_f, stride_flags_b, False)
        ahead = load_words(flags_ptr, (tiles - 1) * (ROWS * STEPS), flags_rows, t_row, t_row < end, end, STEPS, True)
    for i in range(tiles):
        t = (tiles - 1 - i) * (ROWS * STEPS)
        if WRITE_P or WRITE_ELAPSED:
            first = t_row + t == 0
            mask = ((t_row + t < end) & ~first)[:, None] & h_mask[None, :]
            h = tl.load(h_row + t * stride_h_t, mask=mask, other=0.0).to(tl.float32)
            h = tl.where(first[:, None], h0[None, :], h)
        a = ()
        dh = ()
        slopes = ()
        still_steps = ()  # masked ones, and those that take no time
        read_steps = ()
        if HAS_FLAGS:
            words = ahead
            t_next = tl.maximum(t - ROWS * STEPS, 0)
            ahead = load_words(flags_ptr, t_next, flags_rows, t_row, t_row < end, end, STEPS, True)
        for s in tl.static_range(STEPS):
            exists = t_row + t + s < end
            read = exists
            reset = False
            mask = exists[:, None] & h_mask[None, :]
            if HAS_DH:
                dh += (tl.load(dh_row + (t + s) * stride_dh_t, mask=mask, other=0.0).to(tl.float32),)
            else:
                dh += (tl.zeros((ROWS, BLOCK_H), tl.float32),)
            if HAS_FLAGS:
                flags = step_flags(words, t_row, t, s, STEPS)
                masked, reset = is_masked(flags)[:, None], is_reset(flags)[:, None]
                mask = mask & ~masked
                read = read & ~is_masked(flags)
            preacts = load_preacts(p_row + (t + s) * stride_p_t, mask, H, UNREAD)
            times = ()
            if HAS_ELAPSED:
                times = (load_elapsed(elapsed_row + (t + s) * stride_elapsed_t, read),)
            gates = GATES(*preacts, *times)
            a_s = gates[2]
            if HAS_ELAPSED:
                masked = times[0] == 0.0
                a_s, b_s = timed_map(a_s, gates[0] * gates[1], times[0], reset, False)
            elif HAS_FLAGS:
                a_s = flagged_multiplier(a_s, masked, reset, False)
            if HAS_ELAPSED or HAS_FLAGS:
                still_steps += (masked,)
            read_steps += (read[:, None],)
            a += (a_s,)
            if WRITE_P or WRITE_ELAPSED:
                if HAS_FLAGS:
                    h = tl.where(reset, 0.0, h)
                slopes += SLOPES(*preacts, *times, *gates, h)
                if not HAS_ELAPSED:
                    b_s = gates[0] * gates[1]
                h = tl.fma(a_s, h, b_s)
        row_a, row_b = compose_adjoint(a, dh, ROWS, STEPS, BLOCK_H)
        if PHASE == "totals":
            carry_a, carry_c, carry = extend(row_a, row_b, carry_a, carry_c, carry, ROWS, False)
        else:
            back, carry = row_scan(row_a, row_b, carry, ROWS, BLOCK_H, False)
            if WRITE_P or WRITE_ELAPSED:
                for s in tl.static_range(STEPS - 1, -1, -1):
                    mask = (t_row + t + s < end)[:, None] & h_mask[None, :]
                    lam = dh[s] + back
                    back = a[s] * lam
                    if WRITE_P:
                        dpreacts = ()
                        for j in tl.static_range(NUM_PREACTS):
                            dpreacts += (slopes[NUM_SLOPES * s + j] * lam,)
                        if HAS_ELAPSED or HAS_FLAGS:
                            dpreacts = zero_where(still_steps[s], dpreacts)
                        out = dp_row + (t + s) * stride_dp_t
                        for j in tl.static_range(NUM_PREACTS):
                            tl.store(out + j * H, dpreacts[j].to(dp_ptr.dtype.element_ty), mask=mask)
                    if WRITE_ELAPSED:
                        ddt = tl.where(read_steps[s] & h_mask[None, :], slopes[NUM_SLOPES * s + NUM_PREACTS] * lam, 0.0)
                        tl.store(delapsed_row + (t + s), tl.sum(ddt, 1), mask=t_row + t + s < end)
    if PHASE == "totals":
        store_totals(total_a_ptr, total_b_ptr, n * num_chunks + chunk, carry_a, carry_c, carry, h_offs, H, False)
    elif NEED_H0:
        tl.store(dh0_ptr + n * H + h_offs, carry.to(dh0_ptr.dtype.element_ty), mask=h_mask & (chunk == num_chunks - 1))


def backward_launches(
    preacts: torch.Tensor, call: Recurrence, gates: Gates, h: torch.Tensor,
    dh: torch.Tensor | None, dh_last: torch.Tensor | None, dp: torch.Tensor | None, dh0: torch.Tensor | None,
    *, d_elapsed: torch.Tensor | None = None, config: ScanConfig | None = None,
) -> list[Launch]:  # fmt: skip
    """The launches that fill those of dp (as preacts), dh0 [F, B, 1, H] and d_elapsed that are given; preacts, h and dh
    have an innermost stride of 1. d_elapsed is [F, B, cdiv(H, BLOCK_H), T], with the BLOCK_H of `block_of`."""
    F, B, T, H = h.shape
    h0, dh_last, dh0 = as_states(call.h0), as_states(dh_last), as_states(dh0)
    functions = functions_of(gates, call.elapsed is not None)
    if config is None:
        unit = channel_unit(H, preacts, h, dh)
        config = select_scan(H, preacts.element_size(), unit, gates_backward_steps(unit))
    blocks = F * B * triton.cdiv(H, config.BLOCK_H)
    chunks = plan_chunks(T, blocks, config)
    arguments = dict(
        p_ptr=preacts, h0_ptr=h0, h_ptr=h, dh_ptr=dh, dh_last_ptr=dh_last,
        dp_ptr=dp, dh0_ptr=dh0, delapsed_ptr=d_elapsed,
        **chunk_buffers(F * B, chunks.num_chunks, H, preacts.device),
        B=B, T=T, H=H // config.UNIT, **chunks._asdict(),
        **stride_arguments("fbt", config.UNIT, p=preacts, h=h, dh=dh),
        **step_arguments(call, F, B, T),
    )  # fmt: skip
    constants = dict(
        GATES=functions.gates, SLOPES=functions.slopes, UNREAD=gates.unread,
        HAS_H0=h0 is not None, HAS_ELAPSED=call.elapsed is not None, HAS_FLAGS=call.flags is not None,
        HAS_DH=dh is not None, HAS_DH_LAST=dh_last is not None, NEED_P=dp is not None, NEED_H0=dh0 is not None,
        NEED_DELAPSED=d_elapsed is not None,
    )  # fmt: skip
    return phase_launches(_gates_scan_bwd_kernel, blocks, config, arguments, constants, dh_last, log=False)


def gates_scan_backward(
    preacts: torch.Tensor, call: Recurrence, gates: Gates, h: torch.Tensor,
    dh: torch.Tensor | None, dh_last: torch.Tensor | None,
    *, need_preacts: bool = True, need_h0: bool = True, need_elapsed: bool = True,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
    """(dp in the dtype of the input, dh0 in that of h0, d_elapsed [F, B, T] float32), None where not needed or not
    given. A gradient that is None is not read. Serves both spaces."""
    h0 = call.h0
    check_dtypes(x=call.input, preacts=preacts, h0=h0, elapsed=call.elapsed, h=h, dh=dh, dh_last=dh_last)
    dp = call.input.new_empty(preacts.shape) if need_preacts else None
    dh0 = h0.new_empty(h0.shape) if need_h0 and h0 is not None else None
    partials = None
    if need_elapsed and call.elapsed is not None:
        blocks = triton.cdiv(h.shape[3], block_of(h.shape[3]))
        partials = h.new_empty(*h.shape[:2], blocks, h.shape[2], dtype=torch.float32)
    if 0 in h.shape:
        if dh0 is not None:
            dh0.zero_() if dh_last is None else dh0.copy_(dh_last)
        return dp, dh0, None if partials is None else partials.new_zeros(h.shape[:3])
    dh = None if dh is None else unit_stride(dh)
    for launch in backward_launches(
        unit_stride(preacts), call, gates, unit_stride(h), dh, dh_last, dp, dh0, d_elapsed=partials
    ):
        launch.run()
    return dp, dh0, None if partials is None else partials.sum(2)
