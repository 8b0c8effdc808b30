"""Maps of the state, and how a tile of rows of them is joined.

A step of every cell is an affine map of the state, h -> a h + b. With LOG the state is log2(h) and the same map is
m -> logaddexp2(la + m, lb).

Digits    Two multipliers near 1 have the product 1 - c - c' + c c', of which c c' is less than a rounding and is left
          out, each time to the same side: a state that gates hold for thousands of steps drifts. So c = 1 - a of a
          product goes beside it, c + a c', a sum to which nothing is lost, and a is 1 - c where that has the digits.
"""

import triton.language as tl

from .arithmetic import NEG_INF, logaddexp2
from .device import device
from .tiles import join_tile, last_row, split_tile

# In `chain_rows`, of the rows of a tile in log space.
GROUPS = tl.constexpr(4)


@device
def advance(a, b, h, LOG: tl.constexpr):
    """The state after the step (a, b)."""
    if LOG:
        return logaddexp2(a + h, b)
    else:
        return tl.fma(a, h, b)


@device
def prolong(a, total, LOG: tl.constexpr):
    """The multiplier of the steps of `total` followed by one with multiplier a."""
    if LOG:
        return a + total
    else:
        return a * total


@device
def complement(a):
    """c = 1 - a. NaN but for a from 0 to 1: a growth after a decay would have the error of both, and `multiplier` of
    NaN is the product itself."""
    return tl.where(tl.abs(a - 0.5) <= 0.5, 1.0 - a, float("nan"))


@device
def multiplier(a, c):
    """The product a of multipliers of which c is the complement: 1 - c, unless the product is small and has the
    digits itself."""
    return tl.where(c <= 0.5, 1.0 - c, a)


@device
def compose(a, b, COUNT: tl.constexpr, LOG: tl.constexpr):
    """The one map that COUNT maps a[i], b[i] make in order."""
    total_a, total_b = a[0], b[0]
    for i in tl.static_range(1, COUNT):
        total_b = advance(a[i], b[i], total_b, LOG)
        total_a = prolong(a[i], total_a, LOG)
    return total_a, total_b


@device
def affine(al, cl, bl, ar, cr, br):
    """Left map, then right map, with the complements of a. Identity (1, 0, 0)."""
    return al * ar, tl.fma(ar, cl, cr), tl.fma(ar, bl, br)


@device
def affine_exclusive(al, cl, bl, eal, ebl, ar, cr, br, ear, ebr):
    """(a, c, b) becomes the inclusive prefix and (ea, eb) the exclusive one. Elements start as (a, c, b, 1, 0)."""
    return al * ar, tl.fma(ar, cl, cr), tl.fma(ar, bl, br), al * ear, tl.fma(ear, bl, ebr)


@device
def log_affine(al, bl, ar, br):
    """`affine` on log2 of both. Identity (0, -inf)."""
    return al + ar, logaddexp2(ar + bl, br)


@device
def log_affine_exclusive(al, bl, eal, ebl, ar, br, ear, ebr):
    """`affine_exclusive` on log2 of all. Elements start as (a, b, 0, -inf)."""
    return al + ar, logaddexp2(ar + bl, br), al + ear, logaddexp2(ear + bl, ebr)


@device
def tile_map(a, b, ROWS: tl.constexpr, LOG: tl.constexpr):
    """The one map that rows [ROWS, BLOCK_H] of maps make in order: the last row of their inclusive scan."""
    if LOG:
        a, b = tl.associative_scan((a, b), 0, log_affine)
    else:
        a, c, b = tl.associative_scan((a, complement(a), b), 0, affine)
        a = multiplier(a, c)
    return last_row(a, ROWS), last_row(b, ROWS)


@device
def row_scan(a, b, carry, ROWS: tl.constexpr, BLOCK_H: tl.constexpr, LOG: tl.constexpr):
    """Joins rows [ROWS, BLOCK_H] of maps in order, from state carry [BLOCK_H].

    Returns the state entering each row and the one leaving the last. The exclusive prefix comes from the same scan,
    which costs less than shifting the inclusive one with tl.gather. It needs no complement: the state that enters a
    row enters no other tile.
    """
    if LOG:
        one = tl.zeros((ROWS, BLOCK_H), tl.float32)
        zero = tl.full((ROWS, BLOCK_H), NEG_INF, tl.float32)
        a, b, ea, eb = tl.associative_scan((a, b, one, zero), 0, log_affine_exclusive)
    else:
        one = tl.full((ROWS, BLOCK_H), 1.0, tl.float32)
        zero = tl.zeros((ROWS, BLOCK_H), tl.float32)
        a, c, b, ea, eb = tl.associative_scan((a, complement(a), b, one, zero), 0, affine_exclusive)
        a = multiplier(a, c)
    leaving = advance(a, b, carry[None, :], LOG)
    return advance(ea, eb, carry[None, :], LOG), last_row(leaving, ROWS)


@device
def chain_rows(a, b, carry, ROWS: tl.constexpr, BLOCK_H: tl.constexpr, LOG: tl.constexpr):
    """`row_scan` as a chain: every thread gets all rows of its channels, and the states follow one another.

    Where the rows come from a product this is cheaper than a scan: the compiler moves the operands of a scan to the
    layout of a load and back, and the scan itself takes 8 or 12 shuffles per element and composes maps.

    With LOG the states of each of GROUPS groups of rows follow from the one that enters it, and the state that leaves
    the tile follows from `carry` by a single map, the one of all rows. It may be a rounding off the state of the last
    row, as with `row_scan`, also where steps are masked. triton 3.6 needs it: it compares the loop's carries along
    every path through such a chain, and each `logaddexp2` has three.
    """
    row_a = split_tile(a, ROWS, 1, BLOCK_H)
    row_b = split_tile(b, ROWS, 1, BLOCK_H)
    PER: tl.constexpr = ROWS // GROUPS if LOG else ROWS
    state = carry[None, :]
    entering = ()
    for g in tl.static_range(ROWS // PER):
        inner = state
        for i in tl.static_range(PER):
            entering += (inner,)
            inner = advance(row_a[g * PER + i], row_b[g * PER + i], inner, LOG)
        if LOG:
            group_a, group_b = compose(row_a[g * PER : g * PER + PER], row_b[g * PER : g * PER + PER], PER, LOG)
            if g == 0:
                total_a, total_b = group_a, group_b
            else:
                total_b = advance(group_a, group_b, total_b, LOG)
                total_a = prolong(group_a, total_a, LOG)
            state = advance(group_a, group_b, state, LOG)
        else:
            state = inner
    if LOG:
        state = advance(total_a, total_b, carry[None, :], LOG)
    return join_tile(entering, ROWS, 1, BLOCK_H), tl.reshape(state, (BLOCK_H,))
