"""Shared by the forwards of a minGRU, alone, with a projection and in a block: where the rows of a program are, the
state that enters and leaves them, and the map of a step."""

import triton.language as tl

from ..common.arithmetic import log2
from ..common.device import device
from ..common.elapsed import timed_map
from ..common.flags import flagged_input, flagged_multiplier, is_masked, is_reset
from ..common.gates import (
    min_gru_gates,
    min_gru_gates_half,
    min_gru_log_gates,
    min_gru_timed_gates,
    min_gru_timed_log_gates,
)

# ---- states: [BLOCK_H] of one batch row, or with BATCH_ROWS [ROWS, BLOCK_H] of ROWS of them ----


@device
def state_offsets(row, H: tl.constexpr, BLOCK_H: tl.constexpr, BATCH_ROWS: tl.constexpr):
    """Offsets of states in a contiguous [rows, H]."""
    h = tl.arange(0, BLOCK_H)
    if BATCH_ROWS:
        return row[:, None] * H + h[None, :]
    else:
        return row * H + h


@device
def state_mask(exists, H: tl.constexpr, BLOCK_H: tl.constexpr, BATCH_ROWS: tl.constexpr):
    """Which entries of a state exist; `exists` is a flag per row, or one flag."""
    h = tl.arange(0, BLOCK_H)
    if BATCH_ROWS:
        return exists[:, None] & (h < H)[None, :]
    else:
        return exists & (h < H)


@device
def load_state(
    ptr, offsets, mask, HAS: tl.constexpr, ROWS: tl.constexpr, BLOCK_H: tl.constexpr, BATCH_ROWS: tl.constexpr
):
    """A state in float32; 0 where it is masked, or not given (HAS)."""
    if HAS:
        return tl.load(ptr + offsets, mask=mask, other=0.0).to(tl.float32)
    else:
        return tl.zeros((ROWS, BLOCK_H) if BATCH_ROWS else (BLOCK_H,), tl.float32)


@device
def row_offsets(b, stride_b, t, stride_t, BATCH_ROWS: tl.constexpr):
    """Offsets of the rows of a tile from the first batch row with BATCH_ROWS, else from the one that all are in."""
    if BATCH_ROWS:
        return b * stride_b + t * stride_t
    else:
        return t * stride_t


@device
def place_rows(B, T, chunk_steps, num_chunks, ROWS: tl.constexpr, STEPS: tl.constexpr, BATCH_ROWS: tl.constexpr):
    """(f, b, chunk, row_exists, state_exists, t_row, begin, end, middle) of a program.

    Term f; batch rows b, [ROWS] with BATCH_ROWS and else one, and which of them exist; the chunk of its time, steps
    [begin, end); t_row, the first step of each row. From `middle` on tiles have a tail.
    """
    TILE: tl.constexpr = STEPS if BATCH_ROWS else ROWS * STEPS
    r = tl.arange(0, ROWS)
    pid = tl.program_id(0).to(tl.int64)
    if BATCH_ROWS:
        groups = tl.cdiv(B, ROWS)
        f = pid // groups
        b = pid % groups * ROWS + r
        chunk = 0
        row_exists = b < B
        state_exists = row_exists
        t_row = tl.zeros((ROWS,), tl.int32)
        begin, end = 0, T
    else:
        chunk = (pid % num_chunks).to(tl.int32)
        f = pid // num_chunks // B
        b = pid // num_chunks % B
        row_exists = r < ROWS
        state_exists = b < B
        t_row = r * STEPS
        begin = chunk * chunk_steps
        end = tl.minimum(begin + chunk_steps, T)
    middle = begin + (end - begin) // TILE * TILE
    if BATCH_ROWS:
        middle = tl.where(pid % groups * ROWS + ROWS <= B, middle, begin)
    return f, b, chunk, row_exists, state_exists, t_row, begin, end, middle


@device
def first_state(
    h0_ptr, entry_ptr, row, chunk, num_chunks, exists,
    H: tl.constexpr, HAS_H0: tl.constexpr, SPLIT: tl.constexpr, BATCH_ROWS: tl.constexpr, LOG: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """The state before the first step of a program: h0 [rows, H] or 0, with SPLIT from chunk 1 on that of entry."""
    mask_state = state_mask(exists, H, BLOCK_H, BATCH_ROWS)
    state = state_offsets(row, H, BLOCK_H, BATCH_ROWS)
    carry = load_state(h0_ptr, state, mask_state, HAS_H0, ROWS, BLOCK_H, BATCH_ROWS)
    if SPLIT:
        entry = state_offsets(row * num_chunks + chunk - 1, H, BLOCK_H, BATCH_ROWS)
        carry = tl.where(chunk == 0, carry, tl.load(entry_ptr + entry, mask=mask_state & (chunk > 0), other=0.0))
    if LOG:
        carry = log2(carry)
    return carry


@device
def store_last(
    h_last_ptr, carry, row, chunk, num_chunks, exists,
    H: tl.constexpr, BATCH_ROWS: tl.constexpr, LOG: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """The state after the last step, [rows, H], from the program that has it."""
    if LOG:
        carry = tl.exp2(carry)
    mask_state = state_mask(exists, H, BLOCK_H, BATCH_ROWS)
    if not BATCH_ROWS:
        mask_state = mask_state & (chunk == num_chunks - 1)
    tl.store(h_last_ptr + state_offsets(row, H, BLOCK_H, BATCH_ROWS), carry, mask=mask_state)


@device
def step_map(
    u,
    k,
    times,
    flags,
    read,
    HAS_FLAGS: tl.constexpr,
    TAIL: tl.constexpr,
    LOG: tl.constexpr,
    HALF_PRECISION: tl.constexpr,
):
    """The map (a, b) of one step of all rows, h -> a h + b, edited by its flags; with TAIL the identity where the step
    is not `read`.

    times holds the times of the steps [ROWS, 1], or nothing where all are 1. They are 0 where a step is not read, and
    so the identity already. Without them, with HALF_PRECISION, the gates take one reciprocal.
    """
    masked, reset = ~read[:, None], False
    if HAS_FLAGS:
        masked, reset = is_masked(flags)[:, None], is_reset(flags)[:, None]
    if len(times) > 0:
        if LOG:
            a, b = min_gru_timed_log_gates(u, k, times[0])
        else:
            z, v, a, _, _, _ = min_gru_timed_gates(u, k, times[0])
            b = z * v
        return timed_map(a, b, times[0], reset, LOG)
    else:
        if LOG:
            a, b = min_gru_log_gates(u, k)
        elif HALF_PRECISION:
            z, v, a = min_gru_gates_half(u, k)
            b = z * v
        else:
            z, v, a, _ = min_gru_gates(u, k)
            b = z * v
        if HAS_FLAGS or TAIL:
            a = flagged_multiplier(a, masked, reset, LOG)
            b = flagged_input(b, masked, LOG)
        return a, b
