"""The scan of a cell whose pre-activations p = x W are given: one kernel turns p into h, one turns dh into dp.

A cell without a fused kernel takes it, and the minGRU for D or H > 64. There the projection has its own launch because
a weight no longer fits the registers of the warps that scan. With p in the dtype of x that is, at D = H in half
precision, 2 + 4 + 4 + 2 = 12 bytes per element of h; a float32 p would make it 20. The kernels read and write a float32
p just as well. Whoever makes p puts 0 in the masked rows of x before.
"""

import torch
import triton
import triton.language as tl

from ..common.arithmetic import LOG2E, NEG_INF, in_elements, log2
from ..common.call import Recurrence
from ..common.device import kernel
from ..common.elapsed import load_elapsed, timed_map
from ..common.flags import flagged_multiplier, is_masked, is_reset, load_words, step_flags, word_rows
from ..common.gates import Gates, functions_of
from ..common.launch import Launch, check_dtypes
from ..common.operands import as_states, is_log, step_arguments, stride_arguments, unit_stride
from ..common.scans import advance, compose, row_scan
from .config import ScanConfig, channel_unit, gates_forward_steps, plan_chunks, select_scan
from .forward import chunk_buffers, phase_launches
from .tiles import extend, load_preacts, place_program, step_map, store_totals


@kernel
def _gates_scan_fwd_kernel(
    p_ptr, h0_ptr, elapsed_ptr, flags_ptr, entry_ptr,
    h_ptr, h_last_ptr, total_a_ptr, total_b_ptr,
    B, T, H, chunk_steps, num_chunks,  # H and the strides, but those of elapsed and flags, in units of UNIT elements
    stride_p_f: tl.int64, stride_p_b: tl.int64, stride_p_t: tl.int64,
    stride_elapsed_f: tl.int64, stride_elapsed_b: tl.int64, stride_elapsed_t: tl.int64,
    stride_flags_f: tl.int64, stride_flags_b: tl.int64,
    MAP: tl.constexpr, UNREAD: tl.constexpr,
    LOG: tl.constexpr, HAS_H0: tl.constexpr, HAS_ELAPSED: tl.constexpr, HAS_FLAGS: tl.constexpr, NEED_H: tl.constexpr,
    PHASE: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_H: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """h_t = a_t h_{t-1} + z_t v_t, h_0 = h0 or 0, with a, z and v of the pre-activations of a step by the cell's gates.

    Cell      MAP, from a row of the table in gates.py: its gates, or with LOG its log_map; with HAS_ELAPSED those of a
              step that takes time. UNREAD of the same row.
    Layout    p [F, B, T, len(UNREAD) * H] holds the pre-activations side by side, innermost stride 1; elapsed times
              [F, B, T], any strides; flags [F, B, ceil(T / 4)] words; h [F, B, T, H], h0 and h_last [F, B, H]
              contiguous, h_last float32.
    Grid      F * B * num_chunks * cdiv(H, BLOCK_H) on axis 0. A program owns steps [chunk * chunk_steps, (chunk + 1) *
              chunk_steps).
    Scan      As in _scan_fwd_kernel, whose totals and entries (natural logarithms with LOG) join the chunks.
    Flags     A masked step is not read: UNREAD makes b = 0, and a = 1 is selected. Steps past the end are the same. A
              reset puts 0 into a after the mask has put 1.
    Numerics  float32; LOG keeps log2 h, and h0 < 0 gives NaN there. NaN enters every later step of its channel only.
    Backward  reads p, and h once per STEPS steps.
    """
    H = H * UNIT
    stride_p_f, stride_p_b, stride_p_t = (
        in_elements(stride_p_f, UNIT),
        in_elements(stride_p_b, UNIT),
        in_elements(stride_p_t, UNIT),
    )
    stride_h_t = H.to(tl.int64)
    ONE: tl.constexpr = 0.0 if LOG else 1.0
    ZERO: tl.constexpr = NEG_INF if LOG else 0.0
    n, chunk, h_offs, h_mask = place_program(H, num_chunks, BLOCK_H)
    begin = chunk * chunk_steps
    end = tl.minimum(begin + chunk_steps, T)

    carry = tl.full((BLOCK_H,), ZERO, tl.float32)
    carry_a = tl.full((BLOCK_H,), ONE, tl.float32)
    carry_c = tl.zeros((BLOCK_H,), tl.float32)
    if HAS_H0 and PHASE != "totals":
        carry = tl.load(h0_ptr + n * H + h_offs, mask=h_mask & (chunk == 0), other=0.0).to(tl.float32)
        if LOG:
            carry = log2(carry)
    if PHASE == "resume":
        entry = tl.load(entry_ptr + (n * num_chunks + chunk - 1) * H + h_offs, mask=h_mask & (chunk > 0), other=ZERO)
        carry = tl.where(chunk == 0, carry, entry * LOG2E if LOG else entry)

    t_row = begin + tl.arange(0, ROWS) * STEPS
    rows = t_row.to(tl.int64)
    p_row = p_ptr + n // B * stride_p_f + n % B * stride_p_b + rows[:, None] * stride_p_t + h_offs[None, :]
    if NEED_H:
        h_row = h_ptr + (n * T + rows[:, None]) * H + h_offs[None, :]
    if HAS_ELAPSED:
        elapsed_row = elapsed_ptr + n // B * stride_elapsed_f + n % B * stride_elapsed_b + rows * stride_elapsed_t
    if HAS_FLAGS:
        flags_ptr, flags_rows = word_rows(flags_ptr, n // B, n % B, t_row, stride_flags_f, stride_flags_b, False)
        ahead = load_words(flags_ptr, 0, flags_rows, t_row, t_row < end, end, STEPS, True)
    for t in range(0, end - begin, ROWS * STEPS):
        a = ()
        b = ()
        if HAS_FLAGS:
            words = ahead
            ahead = load_words(flags_ptr, t + ROWS * STEPS, flags_rows, t_row, t_row < end, end, STEPS, True)
        for s in tl.static_range(STEPS):
            read = t_row + t + s < end
            if HAS_FLAGS:
                flags = step_flags(words, t_row, t, s, STEPS)
                read = read & ~is_masked(flags)
            mask = read[:, None] & h_mask[None, :]
            times = ()
            if HAS_ELAPSED:
                times = (load_elapsed(elapsed_row + (t + s) * stride_elapsed_t, read),)
            a_s, b_s = step_map(load_preacts(p_row + (t + s) * stride_p_t, mask, H, UNREAD), times, MAP, LOG)
            if HAS_ELAPSED:
                reset = False
                if HAS_FLAGS:
                    reset = is_reset(flags)[:, None]
                a_s, b_s = timed_map(a_s, b_s, times[0], reset, LOG)
            elif HAS_FLAGS:
                a_s = flagged_multiplier(a_s, is_masked(flags)[:, None], is_reset(flags)[:, None], LOG)
            a += (a_s,)
            b += (b_s,)
        row_a, row_b = compose(a, b, STEPS, LOG)
        if PHASE == "totals":
            carry_a, carry_c, carry = extend(row_a, row_b, carry_a, carry_c, carry, ROWS, LOG)
        else:
            state, carry = row_scan(row_a, row_b, carry, ROWS, BLOCK_H, LOG)
            for s in tl.static_range(STEPS if NEED_H else 0):
                state = advance(a[s], b[s], state, LOG)
                mask = (t_row + t + s < end)[:, None] & h_mask[None, :]
                out = tl.exp2(state) if LOG else state
                tl.store(h_row + (t + s) * stride_h_t, out.to(h_ptr.dtype.element_ty), mask=mask)
    if PHASE == "totals":
        store_totals(total_a_ptr, total_b_ptr, n * num_chunks + chunk, carry_a, carry_c, carry, h_offs, H, LOG)
    else:
        tl.store(h_last_ptr + n * H + h_offs, tl.exp2(carry) if LOG else carry, mask=h_mask & (chunk == num_chunks - 1))


def forward_launches(
    preacts: torch.Tensor, call: Recurrence, gates: Gates, h: torch.Tensor | None, h_last: torch.Tensor,
    *, config: ScanConfig | None = None,
) -> list[Launch]:  # fmt: skip
    """The launches that fill h [F, B, T, H], unless it is None, and h_last [F, B, 1, H] from preacts with an innermost
    stride of 1."""
    (F, B, T), H = preacts.shape[:3], preacts.shape[3] // gates.num_preacts
    log, elapsed, flags, h0 = is_log(call.space), call.elapsed, call.flags, as_states(call.h0)
    if log and gates.log_map is None:
        raise ValueError("space: expected 'linear' for a cell without a log space, got 'log'")
    functions = functions_of(gates, elapsed is not None)
    if config is None:
        unit = channel_unit(H, preacts)
        steps = gates_forward_steps(unit, flags is not None)
        config = select_scan(H, preacts.element_size(), unit, steps)
    blocks = F * B * triton.cdiv(H, config.BLOCK_H)
    chunks = plan_chunks(T, blocks, config)
    arguments = dict(
        p_ptr=preacts, h0_ptr=h0, h_ptr=h, h_last_ptr=h_last,
        **chunk_buffers(F * B, chunks.num_chunks, H, preacts.device),
        B=B, T=T, H=H // config.UNIT, **chunks._asdict(),
        **stride_arguments("fbt", config.UNIT, p=preacts), **step_arguments(call, F, B, T),
    )  # fmt: skip
    constants = dict(
        MAP=functions.log_map if log else functions.gates, UNREAD=gates.unread,
        LOG=log, HAS_H0=h0 is not None, HAS_ELAPSED=elapsed is not None, HAS_FLAGS=flags is not None,
        NEED_H=h is not None,
    )  # fmt: skip
    first = h0.log() if log and h0 is not None and chunks.num_chunks > 1 else h0
    return phase_launches(_gates_scan_fwd_kernel, blocks, config, arguments, constants, first, log=log)


def gates_scan_forward(
    preacts: torch.Tensor, call: Recurrence, gates: Gates
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """(h [F, B, T, H] or None without need_h, h_last [F, B, 1, H]) of a call whose input times its weight is preacts
    [F, B, T, num_preacts * H].

    h has the dtype of the input, preacts any that a kernel reads; h_last is float32, a tensor of its own.
    """
    check_dtypes(x=call.input, preacts=preacts, h0=call.h0, elapsed=call.elapsed)
    (F, B, T), H = preacts.shape[:3], preacts.shape[3] // gates.num_preacts
    h = call.input.new_empty(F, B, T, H) if call.need_h else None
    if 0 in (F, B, T, H):
        zeros = preacts.new_zeros(F, B, 1, H, dtype=torch.float32)
        return h, zeros if call.h0 is None else zeros + call.h0
    h_last = preacts.new_empty(F, B, 1, H, dtype=torch.float32)
    for launch in forward_launches(unit_stride(preacts), call, gates, h, h_last):
        launch.run()
    return h, h_last
