"""The flags of a step, one byte: what its bits mean, how kernels read words of them and what they do to the map of the
step."""

import torch
import triton.language as tl

from .arithmetic import NEG_INF
from .device import device

# The bits. A masked step leaves the state as it was, and its row of the input is not read. A reset makes the state
# before the step zero; it acts before the mask, so that both together give h = 0.
MASKED, RESET = 1, 2

MASKED_BIT = tl.constexpr(MASKED)
RESET_BIT = tl.constexpr(RESET)

# Flags come in words of 32 bits, 4 steps each, the first step in the lowest byte: of a byte a thread would load one for
# each step, and a load this narrow would also decide the layout of the operand of a product whose mask depends on it.
WORD = 4
ALL_MASKED = tl.constexpr(sum(MASKED << 8 * step for step in range(WORD)))


@device
def word_rows(ptr, f, b, t_row, stride_f, stride_b, BATCH_ROWS: tl.constexpr, WORD: tl.constexpr = WORD):
    """(pointer, offsets of rows) of words: rows are batch rows b, or begin at the steps t_row of one batch row."""
    ptr += f * stride_f
    if BATCH_ROWS:
        return ptr, b * stride_b
    else:
        return ptr + b * stride_b, t_row // WORD


@device
def load_words(
    ptr, t, offsets, t_row, row_exists, end,
    STEPS: tl.constexpr, MASK: tl.constexpr, ONCE: tl.constexpr = False, WORD: tl.constexpr = WORD,
):  # fmt: skip
    """The words of the STEPS steps of each row, a tuple, where the tile begins at step t.

    Rows begin at step t + t_row. With MASK a word of steps that do not exist says that all are masked. A loop loads
    those of its next tile: what a mask hides is not loaded before its flags are there.

    The compiler loads a word in each layout that reads it. With ONCE it is loaded in one, and others get it through
    shared memory: the search for a layout stops at a reduction, here over an axis of one.
    """
    tl.static_assert(STEPS % WORD == 0 or WORD % STEPS == 0)
    words = ()
    for i in tl.static_range((STEPS + WORD - 1) // WORD):
        ptrs = ptr + (t // WORD + i) + offsets
        if MASK:
            word = tl.load(ptrs, mask=row_exists & (t_row + (t + i * WORD) < end), other=ALL_MASKED)
        else:
            word = tl.load(ptrs)
        if ONCE:
            word = tl.sum(word[:, None], 1)
        words += (word,)
    return words


@device
def step_flags(words, t_row, t, s, STEPS: tl.constexpr, WORD: tl.constexpr = WORD):
    """The flags of step s of each row, from the words of its tile, which begins at t."""
    if STEPS % WORD == 0:
        return words[s // WORD] >> (s % WORD * 8)
    else:
        return words[0] >> ((t_row + t + s) % WORD * 8)


@device
def is_masked(flags):
    """True where the step leaves the state as it was."""
    return (flags & MASKED_BIT) != 0


@device
def is_reset(flags):
    """True where the state before the step is zero."""
    return (flags & RESET_BIT) != 0


@device
def flagged_multiplier(a, masked, reset, LOG: tl.constexpr):
    """a at a plain step, 1 at a masked one, 0 at a reset."""
    if LOG:
        return tl.where(reset, NEG_INF, tl.where(masked, 0.0, a))
    else:
        return tl.where(reset, 0.0, tl.where(masked, 1.0, a))


@device
def flagged_input(b, masked, LOG: tl.constexpr):
    """b at a plain step, 0 at a masked one."""
    if LOG:
        return tl.where(masked, NEG_INF, b)
    else:
        return tl.where(masked, 0.0, b)


def observed(x: torch.Tensor, flags: torch.Tensor | None) -> torch.Tensor:
    """x [F, B, T, D] with 0, by selection, in its masked rows: NaN there must not reach a product, 0 * NaN in dW
    included."""
    return x if flags is None else torch.where(((flags & MASKED) != 0).unsqueeze(-1), x.new_zeros(()), x)
