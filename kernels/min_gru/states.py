"""Where the rows of a program are, the state that enters and leaves them, and the map of a step."""

import triton
import triton.language as tl

from ..common.arithmetic import log2
from ..common.flags import coded_input, coded_multiplier, is_masked, is_reset
from ..common.gates import min_gru_gates, min_gru_gates_of_halves, min_gru_log_gates

# ---- states: [BLOCK_H] of one batch row, or [ROWS, BLOCK_H] of the ROWS batch rows of a sequential tile ----


@triton.jit
def state_offsets(row, H: tl.constexpr, BLOCK_H: tl.constexpr, SEQ: tl.constexpr):
    """Offsets of states in a contiguous [rows, H]."""
    h = tl.arange(0, BLOCK_H)
    if SEQ:
        return row[:, None] * H + h[None, :]
    else:
        return row * H + h


@triton.jit
def state_mask(exists, H: tl.constexpr, BLOCK_H: tl.constexpr, SEQ: tl.constexpr):
    """Which entries of a state exist; `exists` is a flag per row, or one flag."""
    h = tl.arange(0, BLOCK_H)
    if SEQ:
        return exists[:, None] & (h < H)[None, :]
    else:
        return exists & (h < H)


@triton.jit
def place_rows(B, T, length, count, ROWS: tl.constexpr, STEPS: tl.constexpr, SEQ: tl.constexpr):
    """(f, b, g, row_exists, state_exists, t_row, begin, end, middle) of a program.

    Term f; batch rows b, [ROWS] with SEQ and else one, and which there are; chunk g of its time, steps [begin, end);
    the first step of each row. From `middle` on tiles have a tail.
    """
    TILE: tl.constexpr = STEPS if SEQ else ROWS * STEPS
    r = tl.arange(0, ROWS)
    pid = tl.program_id(0).to(tl.int64)
    if SEQ:
        groups = tl.cdiv(B, ROWS)
        f = pid // groups
        b = pid % groups * ROWS + r
        g = 0
        row_exists = b < B
        state_exists = row_exists
        t_row = tl.zeros((ROWS,), tl.int32)
        begin, end = 0, T
    else:
        g = (pid % count).to(tl.int32)
        f = pid // count // B
        b = pid // count % B
        row_exists = r < ROWS
        state_exists = b < B
        t_row = r * STEPS
        begin = g * length
        end = tl.minimum(begin + length, T)
    middle = begin + (end - begin) // TILE * TILE
    if SEQ:
        middle = tl.where(pid % groups * ROWS + ROWS <= B, middle, begin)
    return f, b, g, row_exists, state_exists, t_row, begin, end, middle


@triton.jit
def first_state(
    h0_ptr, entry_ptr, row, g, count, exists,
    H: tl.constexpr, HAS_H0: tl.constexpr, SPLIT: tl.constexpr, SEQ: tl.constexpr, LOG: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """The state before the first step of a program: h0 [rows, H] or 0, with SPLIT from chunk 1 on that of entry."""
    there = state_mask(exists, H, BLOCK_H, SEQ)
    if HAS_H0:
        carry = tl.load(h0_ptr + state_offsets(row, H, BLOCK_H, SEQ), mask=there, other=0.0).to(tl.float32)
    else:
        carry = tl.zeros((ROWS, BLOCK_H) if SEQ else (BLOCK_H,), tl.float32)
    if SPLIT:
        entry = state_offsets(row * count + g - 1, H, BLOCK_H, SEQ)
        carry = tl.where(g == 0, carry, tl.load(entry_ptr + entry, mask=there & (g > 0), other=0.0))
    if LOG:
        carry = log2(carry)
    return carry


@triton.jit
def store_last(
    h_last_ptr, carry, row, g, count, exists,
    H: tl.constexpr, SEQ: tl.constexpr, LOG: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """The state after the last step, [rows, H], from the program that has it."""
    if LOG:
        carry = tl.exp2(carry)
    there = state_mask(exists, H, BLOCK_H, SEQ)
    if not SEQ:
        there = there & (g == count - 1)
    tl.store(h_last_ptr + state_offsets(row, H, BLOCK_H, SEQ), carry, mask=there)


@triton.jit
def step_map(u, k, code, read, HAS_CODES: tl.constexpr, MASKED: tl.constexpr, LOG: tl.constexpr, HALVES: tl.constexpr):
    """The map (a, b) of one step of all rows, h -> a h + b, edited by its codes; with MASKED the identity where it is
    not `read`. With HALVES by the gates of one reciprocal."""
    if LOG:
        a, b = min_gru_log_gates(u, k)
    elif HALVES:
        z, v, a = min_gru_gates_of_halves(u, k)
        b = z * v
    else:
        z, v, a, _ = min_gru_gates(u, k)
        b = z * v
    if HAS_CODES:
        a = coded_multiplier(a, is_masked(code)[:, None], is_reset(code)[:, None], LOG)
        b = coded_input(b, is_masked(code)[:, None], LOG)
    elif MASKED:
        a = coded_multiplier(a, ~read[:, None], False, LOG)
        b = coded_input(b, ~read[:, None], LOG)
    return a, b
