"""Device functions shared by the kernels: gates and their slopes, scan combines, step codes.

A step of every cell here is an affine map of the state, h -> a h + b. With LOG the state is log2(h) and the same map
is m -> logaddexp2(la + m, lb). The functions of one cell (`min_gru_*`, `min_lstm_*`) only turn pre-activations into
(a, b) and give the slopes of a and b; nothing below them knows the cell. Derivations and error bounds: README.md in
this folder.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
INF = tl.constexpr(float("inf"))
NEG_INF = tl.constexpr(float("-inf"))

# 2^126 is the largest power of two whose reciprocal is a normal number, and rcp.approx.ftz flushes the others to zero.
MAX_EXPONENT = tl.constexpr(126.0)

# The interpreter has no inline assembly. It is chosen for the whole process when triton is imported, so this is one
# too.
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)

# Bits of a step code.
MASKED = tl.constexpr(1)
RESET = tl.constexpr(2)


@triton.jit
def rcp(x):
    """1 / x to 1 ulp; subnormal results become 0. One MUFU instruction, where 1 / x is 8 instructions."""
    if INTERPRETED:
        return 1.0 / x
    else:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )


@triton.jit
def log2(x):
    """log2(x) with absolute error 2^-22; log2(0) = -inf. One MUFU instruction, where tl.log2 is 27 instructions."""
    if INTERPRETED:
        return tl.log2(x)
    else:
        return tl.inline_asm_elementwise(
            "lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )


@triton.jit
def log2_1p(e):
    """log2(1 + e) for e in [0, 1] to 2.1e-7 of itself: e times the polynomial of degree 8 of least relative error.

    A state that the gates hold for thousands of steps is the sum of as many of these numbers. `log2` of 1 + e is wrong
    by up to 2^-22 of 1, which adds up. The nine FFMA take as long as one MUFU instruction, in another pipe.
    """
    q = tl.fma(e, 0.0075491685420274734, -0.04256700351834297)
    q = tl.fma(e, q, 0.11285609006881714)
    q = tl.fma(e, q, -0.197118878364563)
    q = tl.fma(e, q, 0.27564138174057007)
    q = tl.fma(e, q, -0.35840845108032227)
    q = tl.fma(e, q, 0.48069295287132263)
    q = tl.fma(e, q, -0.7213401794433594)
    q = tl.fma(e, q, 1.4426950216293335)
    return e * q


@triton.jit
def logaddexp2(x, y):
    """log2(2^x + 2^y). Guarded: equal infinities give that infinity, where the plain form gives NaN. NaN stays NaN."""
    top = tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)
    gap = tl.where(tl.abs(top) == INF, 0.0, tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL) - top)
    return top + log2_1p(tl.exp2(gap))


@triton.jit
def in_elements(stride, UNIT: tl.constexpr):
    """A stride that came in units of UNIT elements, as 64 bits: whatever its annotation, the interpreter gives an
    argument the bits it needs, and the product may need more."""
    return stride.to(tl.int64) * UNIT


# ---- gates and slopes of the minGRU ----


@triton.jit
def sigmoid_pair(k):
    """(sigmoid(k), sigmoid(-k)), both to 3.4e-7 relative."""
    e = tl.exp2(tl.minimum(k * -LOG2E, MAX_EXPONENT, propagate_nan=tl.PropagateNan.ALL))
    z = rcp(1.0 + e)
    return z, complement(z, e * z, k < 0)


@triton.jit
def complement(z, product, closed):
    """a = 1 - z, by the difference where the gate is `closed` (z < 1/2) and else by a product, as 1 - z would cancel.

    A product of two roundings is not 1 where z vanishes, but up to 2^-23 less: a state that the gate holds would decay
    by that in every step.
    """
    return tl.where(closed, 1.0 - z, product)


@triton.jit
def candidate(u):
    """v = g(u), s = sigmoid(u).

    g(u) = u + 1/2 where u >= 0 and sigmoid(u) below is max(u + 1/2, sigmoid(u)): the two cross at 0 only.
    """
    s = rcp(1.0 + tl.exp2(u * -LOG2E))
    return tl.maximum(u + 0.5, s, propagate_nan=tl.PropagateNan.ALL), s


@triton.jit
def candidate_slope(u, s):
    """g'(u). At 0 it is 1, the one from the right."""
    return tl.where(u >= 0, 1.0, s * (1.0 - s))


@triton.jit
def min_gru_gates(u, k):
    """z = sigmoid(k), v = g(u), a = 1 - z, s = sigmoid(u); the step is h -> a h + z v."""
    z, a = sigmoid_pair(k)
    v, s = candidate(u)
    return z, v, a, s


@triton.jit
def min_gru_gates_of_halves(u, k):
    """(z, v, a) of `min_gru_gates` with one reciprocal, 1 / ((1 + e_k) (1 + e_u)), for both sigmoids: 3 special
    functions in place of 4, to 6e-7 relative. The clamps keep the product of the two finite and its reciprocal normal:
    below k = -43.7 z is 2^-63 and not less, and so is sigmoid(u).
    """
    e_k = tl.exp2(tl.minimum(k * -LOG2E, MAX_EXPONENT / 2, propagate_nan=tl.PropagateNan.ALL))
    e_u = tl.exp2(tl.minimum(u * -LOG2E, MAX_EXPONENT / 2, propagate_nan=tl.PropagateNan.ALL))
    both = rcp((1.0 + e_k) * (1.0 + e_u))
    z = both * (1.0 + e_u)
    v = tl.maximum(u + 0.5, both * (1.0 + e_k), propagate_nan=tl.PropagateNan.ALL)
    return z, v, complement(z, e_k * z, k < 0)


@triton.jit
def min_gru_slopes(u, z, v, a, s, h_prev):
    """(dh/du, dh/dk) of the step h = a h_prev + z v."""
    return z * candidate_slope(u, s), z * (a * (v - h_prev))


@triton.jit
def min_gru_log_gates(u, k):
    """(log2 a, log2(z v)) of the step m -> logaddexp2(log2 a + m, log2(z v)); exact at k = +-inf."""
    u2 = u * LOG2E
    k2 = k * LOG2E
    soft = log2_1p(tl.exp2(-tl.abs(k2)))
    log_a = -(tl.maximum(k2, 0.0) + soft)
    log_z = -(tl.maximum(-k2, 0.0) + soft)
    log_v = tl.where(u >= 0, log2(tl.maximum(u, 0.0) + 0.5), u2 - log2(1.0 + tl.exp2(-tl.abs(u2))))
    return log_a, log_z + log_v


# ---- gates and slopes of the minLSTM ----

# Below it 1 is under 2^-28 of exp(-k).
BOTH_VANISH = tl.constexpr(-20.0)


@triton.jit
def min_lstm_gates(u, k_f, k_i):
    """z = i / (f + i), v = g(u), a = f / (f + i), s = sigmoid(u), f and i the sigmoids of k_f and k_i; and w_f, w_i, of
    which the slopes are made. The step is h -> a h + z v.

    With e = exp(-k) and S = 2 + e_f + e_i: z = (1 + e_f) / S, a = (1 + e_i) / S, w = e / S. That is one special
    function more than sigmoid_pair has, where log i - log f takes four more, and no difference cancels. Where both
    gates vanish each e is divided by the smaller of them, beside which 1 is nothing and left out; k_f = k_i = -inf
    gives NaN.
    """
    top = tl.maximum(k_f, k_i)
    vanish = top < BOTH_VANISH
    shift = tl.where(vanish, top, 0.0)
    one = tl.where(vanish, 0.0, 1.0)
    e_f = tl.exp2(tl.minimum((k_f - shift) * -LOG2E, MAX_EXPONENT, propagate_nan=tl.PropagateNan.ALL))
    e_i = tl.exp2(tl.minimum((k_i - shift) * -LOG2E, MAX_EXPONENT, propagate_nan=tl.PropagateNan.ALL))
    forget, take = one + e_i, one + e_f
    r = rcp(forget + take)
    z = take * r
    v, s = candidate(u)
    return z, v, complement(z, forget * r, take < forget), s, e_f * r, e_i * r


@triton.jit
def min_lstm_slopes(u, z, v, a, s, w_f, w_i, h_prev):
    """(dh/du, dh/dk_f, dh/dk_i) of the step h = a h_prev + z v: with z' = z a (v - h_prev) they are z g'(u),
    -(1 - f) z' and (1 - i) z', where (1 - f) z = w_f and (1 - i) a = w_i."""
    return z * candidate_slope(u, s), -(w_f * (a * (v - h_prev))), w_i * (z * (v - h_prev))


# ---- maps and their composition ----


@triton.jit
def advance(a, b, h, LOG: tl.constexpr):
    """The state after the step (a, b)."""
    if LOG:
        return logaddexp2(a + h, b)
    else:
        return tl.fma(a, h, b)


@triton.jit
def prolong(a, total, LOG: tl.constexpr):
    """The multiplier of the steps of `total` followed by one with multiplier a."""
    if LOG:
        return a + total
    else:
        return a * total


@triton.jit
def affine(al, bl, ar, br):
    """Left map, then right map. Identity (1, 0)."""
    return al * ar, tl.fma(ar, bl, br)


@triton.jit
def affine_exclusive(al, bl, eal, ebl, ar, br, ear, ebr):
    """(a, b) becomes the inclusive prefix and (ea, eb) the exclusive one. Elements start as (a, b, 1, 0)."""
    return al * ar, tl.fma(ar, bl, br), al * ear, tl.fma(ear, bl, ebr)


@triton.jit
def log_affine(al, bl, ar, br):
    """`affine` on log2 of both. Identity (0, -inf)."""
    return al + ar, logaddexp2(ar + bl, br)


@triton.jit
def log_affine_exclusive(al, bl, eal, ebl, ar, br, ear, ebr):
    """`affine_exclusive` on log2 of all. Elements start as (a, b, 0, -inf)."""
    return al + ar, logaddexp2(ar + bl, br), al + ear, logaddexp2(ear + bl, ebr)


@triton.jit
def row_scan(a, b, carry, ROWS: tl.constexpr, BLOCK_H: tl.constexpr, LOG: tl.constexpr):
    """Joins rows [ROWS, BLOCK_H] of maps in order, from state carry [BLOCK_H].

    Returns the state entering each row and the one leaving the last. The exclusive prefix comes from a scan of
    4-tuples, which costs less than shifting the inclusive one with tl.gather.
    """
    if LOG:
        one = tl.zeros((ROWS, BLOCK_H), tl.float32)
        zero = tl.full((ROWS, BLOCK_H), NEG_INF, tl.float32)
        a, b, ea, eb = tl.associative_scan((a, b, one, zero), 0, log_affine_exclusive)
    else:
        one = tl.full((ROWS, BLOCK_H), 1.0, tl.float32)
        zero = tl.zeros((ROWS, BLOCK_H), tl.float32)
        a, b, ea, eb = tl.associative_scan((a, b, one, zero), 0, affine_exclusive)
    leaving = advance(a, b, carry[None, :], LOG)
    return advance(ea, eb, carry[None, :], LOG), last_row(leaving, ROWS)


# Of the rows of a tile of a forward, in `chain_rows`.
GROUPS = tl.constexpr(4)


@triton.jit
def chain_rows(a, b, carry, ROWS: tl.constexpr, BLOCK_H: tl.constexpr, LOG: tl.constexpr, GROUPS: tl.constexpr = 1):
    """`row_scan` as a chain: every thread gets all rows of its channels, and the states follow one another.

    Where the rows come from a product this is cheaper than a scan: the compiler moves the operands of a scan to the
    layout of a load and back, and the scan itself takes 8 or 12 shuffles per element and composes maps.

    With GROUPS > 1 the states of each group of rows follow from the one that enters it, and the one that leaves the
    tile from `carry` by a single map, that of all rows: a state that the gates hold is rounded once a tile and not once
    a row. It may be a rounding off the state of the last row, as with `row_scan`, also where steps are masked.
    triton 3.6 needs it in log space: it compares the loop's carries along every path through such a chain, and each
    `logaddexp2` has three.
    """
    row_a = split_tile(a, ROWS, 1, BLOCK_H)
    row_b = split_tile(b, ROWS, 1, BLOCK_H)
    PER: tl.constexpr = ROWS // GROUPS
    tl.static_assert(PER * GROUPS == ROWS)
    state = carry[None, :]
    entering = ()
    for g in tl.static_range(GROUPS):
        inner = state
        for i in tl.static_range(PER):
            entering += (inner,)
            inner = advance(row_a[g * PER + i], row_b[g * PER + i], inner, LOG)
        if GROUPS > 1:
            group_a, group_b = row_a[g * PER], row_b[g * PER]
            for i in tl.static_range(1, PER):
                group_b = advance(row_a[g * PER + i], row_b[g * PER + i], group_b, LOG)
                group_a = prolong(row_a[g * PER + i], group_a, LOG)
            if g == 0:
                total_a, total_b = group_a, group_b
            else:
                total_b = advance(group_a, group_b, total_b, LOG)
                total_a = prolong(group_a, total_a, LOG)
            state = advance(group_a, group_b, state, LOG)
        else:
            state = inner
    if GROUPS > 1:
        state = advance(total_a, total_b, carry[None, :], LOG)
    return join_tile(entering, ROWS, 1, BLOCK_H), tl.reshape(state, (BLOCK_H,))


@triton.jit
def split_tile(x, PARTS: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr):
    """The PARTS tiles [ROWS, N] of which x [PARTS * ROWS, N] consists, as a tuple."""
    if PARTS == 1:
        return (x,)
    else:
        HALF: tl.constexpr = PARTS // 2
        first, second = tl.split(tl.permute(tl.reshape(x, (2, HALF * ROWS, N)), (1, 2, 0)))
        return split_tile(first, HALF, ROWS, N) + split_tile(second, HALF, ROWS, N)


@triton.jit
def join_tile(parts, PARTS: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr):
    """The tile [PARTS * ROWS, N] made of a tuple of tiles [ROWS, N]."""
    if PARTS == 1:
        return parts[0]
    else:
        HALF: tl.constexpr = PARTS // 2
        both = tl.join(join_tile(parts[:HALF], HALF, ROWS, N), join_tile(parts[HALF:], HALF, ROWS, N))
        return tl.reshape(tl.permute(both, (2, 0, 1)), (PARTS * ROWS, N))


@triton.jit
def last_row(x, ROWS: tl.constexpr):
    """x[ROWS - 1] of a tile [ROWS, n]. By selection, so a NaN or an infinity in another row stays there.

    A sum and not a maximum: tl.max drops a NaN.
    """
    is_last = (tl.arange(0, ROWS) == ROWS - 1)[:, None]
    return tl.sum(tl.where(is_last, x, 0.0), 0)


# ---- step codes ----


@triton.jit
def load_codes(ptrs, exists):
    """Codes [ROWS] as int32, MASKED where a step does not exist.

    The sum over an axis of one keeps tl.dot right. For the layout of an operand the compiler (triton 3.7.1) takes the
    narrowest load that it depends on, the masks of other loads included, halved by a join. A byte there makes a thread
    hold 8 consecutive k, and with K = 16 the product is wrong (dx off by its own size). The search stops at a
    reduction.
    """
    return tl.sum(tl.load(ptrs, mask=exists, other=MASKED).to(tl.int32)[:, None], 1)


@triton.jit
def is_masked(code):
    """The step leaves the state as it was."""
    return (code & MASKED) != 0


@triton.jit
def is_reset(code):
    """The state before the step is zero. It acts before the mask: both together give h = 0."""
    return (code & RESET) != 0


@triton.jit
def coded_multiplier(a, masked, reset, LOG: tl.constexpr):
    """a at a plain step, 1 at a masked one, 0 at a reset."""
    if LOG:
        return tl.where(reset, NEG_INF, tl.where(masked, 0.0, a))
    else:
        return tl.where(reset, 0.0, tl.where(masked, 1.0, a))


@triton.jit
def coded_input(b, masked, LOG: tl.constexpr):
    """b at a plain step, 0 at a masked one."""
    if LOG:
        return tl.where(masked, NEG_INF, b)
    else:
        return tl.where(masked, 0.0, b)
