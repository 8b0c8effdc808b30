"""The rows of one step in the kernels of a residual block: the embedding, the feed-forward and its adjoint, and the
sums that are gradients of parameters."""

import triton.language as tl

from ..common.device import device
from ..common.lanes import load_lanes, product, restored
from ..common.tiles import add_lines, multiply
from ..feed_forward.tiles import normalize, row_mean, spread, store_gradient
from ..min_gru.tiles import interleaved, store_bias_gradient, zero_bias_gradient


@device
def load_spread(ptrs, mask, K: tl.constexpr):
    """The K numbers of each row at all of its columns, float32 [ROWS, WIDTH] each, from pointers as those of
    `load_lanes`: a load is what the compiler takes the layout of a tile from."""
    x = ()
    for i in tl.static_range(K):
        x += (load_lanes(ptrs + i, mask).to(tl.float32),)
    return x


@device
def embed_spread(x, w, b, K: tl.constexpr):
    """x W_e + b_e from `load_spread`."""
    e = b
    for i in tl.static_range(K):
        e = tl.fma(x[i], w[i], e)
    return e


@device
def with_one(x, K: tl.constexpr, DTYPE: tl.constexpr):
    """(x | 1) from `load_spread`, [ROWS, WIDTH] with zeros after it.

    As an operand of a product, whose result has a layout of its own: where u and k were sums of x times rows of W, the
    compiler computed the gates once more for each layout that read them (forward at D = 8 164 cycles of special
    functions, 36 so).
    """
    WIDTH: tl.constexpr = x[0].shape[1]
    column = tl.arange(0, WIDTH)[None, :]
    tile = tl.where(column == K, 1.0, 0.0)
    for i in tl.static_range(K):
        tile = tl.where(column == i, x[i], tile)
    return tile.to(DTYPE)


@device
def residual(x, h, D: tl.constexpr):
    """x + h in float32; 0 in columns of padding, whose gates are those of 0."""
    WIDTH: tl.constexpr = x.shape[1]
    r = x.to(tl.float32) + h
    if D < WIDTH:
        r = tl.where(tl.arange(0, WIDTH)[None, :] < D, r, 0.0)
    return r


@device
def feed_forward(
    x, h, w1, b1, w2, b2, D: tl.constexpr, VECTOR: tl.constexpr, DTYPE: tl.constexpr, PRECISION: tl.constexpr
):
    """y = x + relu(n W1 + b1) W2 + b2 with n the normalized x + h, float32."""
    WIDTH: tl.constexpr = x.shape[1]
    x = x.to(tl.float32)
    r = residual(x, h, D)
    n, _, _ = normalize(r, D, WIDTH)
    s = restored(product(n, w1, VECTOR, DTYPE, PRECISION), VECTOR, 2) + b1
    s = tl.maximum(s, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return x + (restored(product(s, w2, VECTOR, DTYPE, PRECISION), VECTOR, 2) + b2)


@device
def zero_sums(K: tl.constexpr, WIDTH: tl.constexpr, HAS_BIAS: tl.constexpr):
    """The accumulators of the gradient of W: one transposed tile and with a bias its lines of u and of k, or with K > 0
    for each of K + 1 rows the lines of u, of k, and of W_e or b_e."""
    if K > 0:
        sums = ()
        for _ in tl.static_range(3 * (K + 1)):
            sums += (tl.zeros((8, WIDTH), tl.float32),)
        return sums
    else:
        return (tl.zeros((2 * WIDTH, WIDTH), tl.float32),) + zero_bias_gradient(WIDTH, HAS_BIAS)  # noqa: RUF005


@device
def add_input_gradients(sums, observed, x, du, dk, de, K: tl.constexpr):
    """`sums` with K > 0 plus those of one step: x reaches W where it is `observed`, else 0, and W_e everywhere."""
    new = ()
    for i in tl.static_range(K):
        new += (add_lines(sums[3 * i], observed[i] * du), add_lines(sums[3 * i + 1], observed[i] * dk))
        new += (add_lines(sums[3 * i + 2], x[i] * de),)
    new += (add_lines(sums[3 * K], du), add_lines(sums[3 * K + 1], dk), add_lines(sums[3 * K + 2], de))
    return new


@device
def observed_inputs(x, read, K: tl.constexpr, HAS_FLAGS: tl.constexpr):
    """The K numbers of each row, 0 where they are not `read`."""
    if HAS_FLAGS:
        chosen = ()
        for i in tl.static_range(K):
            chosen += (tl.where(read[:, None], x[i], 0.0),)
        return chosen
    else:
        return x


@device
def zero_totals(WIDTH: tl.constexpr):
    """The accumulators of M, dW2, db1 and db2. With 8 columns, half of what a product needs, the first two are parts of
    one: (n | s)^T (dq | dy), with interleaved columns."""
    lines = tl.zeros((8, WIDTH), tl.float32)
    if WIDTH < 16:
        return tl.zeros((2 * WIDTH, 2 * WIDTH), tl.float32), lines, lines
    else:
        square = tl.zeros((WIDTH, WIDTH), tl.float32)
        return square, square, lines, lines


@device
def feed_forward_adjoint(
    totals, x, h, dy, w1, b1, w1_t, w2_t,
    D: tl.constexpr, VECTOR: tl.constexpr, NEED_PARAMS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(dr, totals) of one step of all rows: dr is the gradient of x + h, and totals grow by those of the parameters."""
    ROWS: tl.constexpr = h.shape[0]
    WIDTH: tl.constexpr = h.shape[1]
    DTYPE: tl.constexpr = dy.dtype
    r = residual(x, h, D)
    n, rstd, _ = normalize(r, D, WIDTH)
    q = restored(product(n, w1, VECTOR, DTYPE, PRECISION), VECTOR, 2) + b1
    dq = restored(product(dy, w2_t, VECTOR, DTYPE, PRECISION), VECTOR, 2)
    dq = tl.where(q <= 0.0, 0.0, dq)
    if NEED_PARAMS:
        n_ = n.to(DTYPE)
        s_ = tl.maximum(q, 0.0, propagate_nan=tl.PropagateNan.ALL).to(DTYPE)
        dq_ = dq.to(DTYPE)
        if WIDTH < 16:
            left = tl.reshape(tl.join(n_, s_), (ROWS, 2 * WIDTH))
            right = tl.reshape(tl.join(dq_, dy), (ROWS, 2 * WIDTH))
            squares = (multiply(tl.trans(left), right, totals[0], PRECISION),)
        else:
            squares = (
                multiply(tl.trans(n_), dq_, totals[0], PRECISION),
                multiply(tl.trans(s_), dy, totals[1], PRECISION),
            )
        totals = squares + (add_lines(totals[-2], dq), add_lines(totals[-1], dy.to(tl.float32)))  # noqa: RUF005 - triton has no starred tuples
    dn = restored(product(dq, w1_t, VECTOR, DTYPE, PRECISION), VECTOR, 2)
    along = spread(row_mean(dn, D, WIDTH), WIDTH)
    across = spread(row_mean(dn * n, D, WIDTH), WIDTH)
    dr = (dn - along - n * across) * spread(rstd, WIDTH)
    if D < WIDTH:
        dr = tl.where(tl.arange(0, WIDTH)[None, :] < D, dr, 0.0)
    return dr, totals


@device
def store_inputs(ptrs, du, dk, de, w, w_e, exists, K: tl.constexpr, MASK_ROWS: tl.constexpr):
    """dx = de W_e^T + (du | dk) W^T, K numbers a row, at pointers [ROWS, 1, 1]."""
    for i in tl.static_range(K):
        dx = tl.sum(tl.fma(de, w_e[i], tl.fma(du, w[2 * i], dk * w[2 * i + 1])), 1, keep_dims=True)
        dx = dx[:, :, None].to(ptrs.dtype.element_ty)
        if MASK_ROWS:
            tl.store(ptrs + i, dx, mask=exists[:, :, None])
        else:
            tl.store(ptrs + i, dx)


@device
def store_sums(ptr, sums, K: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr):
    """The gradients of W, and with K > 0 those of W_e and b_e at the end of the parameters."""
    d = tl.arange(0, WIDTH)
    if K > 0:
        after = ptr + (K + 1) * 2 * D + 2 * D * D + 4 * D
        for i in tl.static_range(K + 1):
            tl.store(ptr + i * 2 * D + d, tl.sum(sums[3 * i], 0), mask=d < D)
            tl.store(ptr + i * 2 * D + D + d, tl.sum(sums[3 * i + 1], 0), mask=d < D)
            tl.store(after + i * D + d, tl.sum(sums[3 * i + 2], 0), mask=d < D)
    else:
        n, exists = interleaved(WIDTH, D)
        tl.store(ptr + d[None, :] * (2 * D) + n[:, None], sums[0], mask=exists[:, None] & (d < D)[None, :])
        if len(sums) > 1:
            store_bias_gradient(ptr, sums[1:], D, D, WIDTH)


@device
def store_totals(ptr, params_ptr, totals, D: tl.constexpr, WIDTH: tl.constexpr, DTYPE: tl.constexpr):
    """The gradients of the parameters but for an embedding."""
    if WIDTH < 16:
        of_n, of_s = tl.split(tl.permute(tl.reshape(totals[0], (WIDTH, 2, WIDTH, 2)), (0, 2, 3, 1)))
        m, _ = tl.split(of_n)
        _, dw2 = tl.split(of_s)
    else:
        m, dw2 = totals[0], totals[1]
    db1 = tl.sum(totals[-2], 0)
    db2 = tl.sum(totals[-1], 0)
    store_gradient(ptr, params_ptr, m, dw2, db1, db2, D, WIDTH, WIDTH, DTYPE)
