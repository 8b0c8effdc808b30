"""Tiles of the feed-forward kernels: lines of rows, the statistics of LayerNorm, the parameters of a term.

A row of D numbers is padded to WIDTH, a power of two, and PACK = BLOCK_D / WIDTH rows lie side by side in one line of a
tile: column c holds number c % WIDTH of row c // WIDTH. The weights are then block-diagonal, and one product serves
PACK rows; tl.dot takes at least 16 columns, which are 2 rows at D = 8. Off the diagonal 0 times a NaN or an infinity
would reach the neighbour. So with PACK > 1 `contained` puts 0 in its place before a product, and `with_nan_of` gives
the result its NaN back.
"""

import triton.language as tl

from ..common.arithmetic import INF
from ..common.device import device
from ..common.tiles import add_lines, multiply

# torch.nn.LayerNorm's.
EPS = tl.constexpr(1e-5)


@device
def line_offsets(
    stride, D: tl.constexpr, WIDTH: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PACKED: tl.constexpr
):
    """Offsets of a tile [BLOCK_N, BLOCK_D] from its first element: 32 bits where rows lie side by side."""
    line = tl.arange(0, BLOCK_N)[:, None]
    c = tl.arange(0, BLOCK_D)[None, :]
    if PACKED and D == WIDTH:
        return line * BLOCK_D + c
    elif PACKED:
        return (line * (BLOCK_D // WIDTH) + c // WIDTH) * D + c % WIDTH
    else:
        return (line * (BLOCK_D // WIDTH) + c // WIDTH).to(tl.int64) * stride + c % WIDTH


@device
def line_mask(
    rows, D: tl.constexpr, WIDTH: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, MASK_ROWS: tl.constexpr
):
    """The mask of a tile for `load_existing`: of the columns that exist, with MASK_ROWS of its first `rows` rows."""
    line = tl.arange(0, BLOCK_N)[:, None]
    c = tl.arange(0, BLOCK_D)[None, :]
    if MASK_ROWS:
        return ((line * (BLOCK_D // WIDTH) + c // WIDTH < rows) & (c % WIDTH < D),)
    elif D < WIDTH:
        return ((c % WIDTH < D) & (line >= 0),)
    else:
        return ()


@device
def row_mean(x, D: tl.constexpr, WIDTH: tl.constexpr):
    """The mean of each row of a tile that is 0 in the padding, [BLOCK_N, PACK, 1]."""
    rows = tl.reshape(x, (x.shape[0], x.shape[1] // WIDTH, WIDTH))
    return tl.sum(rows, 2, keep_dims=True) * (1.0 / D)


@device
def spread(row, BLOCK_D: tl.constexpr):
    """One value per row [BLOCK_N, PACK, 1] at all of its columns [BLOCK_N, BLOCK_D]."""
    BLOCK_N: tl.constexpr = row.shape[0]
    PACK: tl.constexpr = row.shape[1]
    return tl.reshape(tl.broadcast_to(row, (BLOCK_N, PACK, BLOCK_D // PACK)), (BLOCK_N, BLOCK_D))


@device
def normalize(r, D: tl.constexpr, WIDTH: tl.constexpr):
    """((r - mean) / sqrt(var + eps), 1 / sqrt(var + eps), mean) of each row over its D numbers, var biased.

    With PACK > 1 a row whose mean is not finite is 0.
    """
    BLOCK_D: tl.constexpr = r.shape[1]
    mean = row_mean(r, D, WIDTH)
    centred = r - spread(mean, BLOCK_D)
    if WIDTH < BLOCK_D:
        centred = tl.where(spread(tl.abs(mean) < INF, BLOCK_D), centred, 0.0)
    if D < WIDTH:
        centred = tl.where(tl.arange(0, BLOCK_D)[None, :] % WIDTH < D, centred, 0.0)
    # The squares of odd rows are rounded before they are summed. There each lane has one number of a row, and a product
    # fused into the sum over lanes rounds another way in each, all of which store rstd at one address (racecheck).
    squares = tl.fma(centred, centred, 0.0) if D % 2 == 1 else centred * centred
    rstd = tl.rsqrt(row_mean(squares, D, WIDTH) + EPS)
    return centred * spread(rstd, BLOCK_D), rstd, mean


@device
def contained(x, WIDTH: tl.constexpr, DTYPE: tl.constexpr):
    """x as an operand of a product: rounded to DTYPE, and with PACK > 1 0 where that is not finite."""
    x = x.to(DTYPE)
    if x.shape[1] > WIDTH:
        x = tl.where(tl.abs(x.to(tl.float32)) < INF, x, 0.0).to(DTYPE)
    return x


@device
def with_nan_of(y, x, WIDTH: tl.constexpr, DTYPE: tl.constexpr):
    """y, with PACK > 1 NaN where `contained` put 0 for x."""
    if x.shape[1] > WIDTH:
        y = tl.fma(x.to(DTYPE).to(tl.float32), 0.0, y)
    return y


@device
def load_columns(ptr, D: tl.constexpr, WIDTH: tl.constexpr, BLOCK_D: tl.constexpr):
    """A vector of D parameters for each row of a line, float32 [BLOCK_D]."""
    c = tl.arange(0, BLOCK_D)
    return tl.load(ptr + c % WIDTH, mask=c % WIDTH < D, other=0.0).to(tl.float32)


@device
def load_matrix(ptr, D: tl.constexpr, WIDTH: tl.constexpr, BLOCK_D: tl.constexpr, DTYPE: tl.constexpr):
    """A weight [D, D] rounded to DTYPE, once for each row of a line on the diagonal of [BLOCK_D, BLOCK_D]."""
    c = tl.arange(0, BLOCK_D)
    i = c[:, None]
    j = c[None, :]
    exists = (i % WIDTH < D) & (j % WIDTH < D) & (i // WIDTH == j // WIDTH)
    return tl.load(ptr + i % WIDTH * D + j % WIDTH, mask=exists, other=0.0).to(DTYPE)


@device
def load_first(params_ptr, D: tl.constexpr, WIDTH: tl.constexpr, BLOCK_D: tl.constexpr, DTYPE: tl.constexpr):
    """(W, b) of LN(r) W1 + b1 = n W + b, with n the normalized row: W = gamma W1, b = b1 + beta W1."""
    gamma = load_columns(params_ptr, D, WIDTH, BLOCK_D)
    beta = load_columns(params_ptr + D, D, WIDTH, BLOCK_D)
    w = load_matrix(params_ptr + 2 * D, D, WIDTH, BLOCK_D, DTYPE).to(tl.float32)
    b = load_columns(params_ptr + (2 * D + D * D), D, WIDTH, BLOCK_D) + tl.sum(beta[:, None] * w, 0)
    return (gamma[:, None] * w).to(DTYPE), b[None, :]


@device
def load_second(params_ptr, D: tl.constexpr, WIDTH: tl.constexpr, BLOCK_D: tl.constexpr, DTYPE: tl.constexpr):
    """(W2, b2)."""
    w_ptr = params_ptr + (3 * D + D * D)
    b = load_columns(w_ptr + D * D, D, WIDTH, BLOCK_D)
    return load_matrix(w_ptr, D, WIDTH, BLOCK_D, DTYPE), b[None, :]


@device
def load_row_vectors(
    ptr, NUM: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, BLOCK_D: tl.constexpr, DTYPE: tl.constexpr
):
    """NUM rows of D parameters rounded to DTYPE, each float32 [1, BLOCK_D]."""
    w = ()
    for k in tl.static_range(NUM):
        w += (load_columns(ptr + k * D, D, WIDTH, BLOCK_D).to(DTYPE).to(tl.float32)[None, :],)
    return w


@device
def load_embedding(
    params_ptr, K: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, BLOCK_D: tl.constexpr, DTYPE: tl.constexpr
):
    """(the K rows of W_e rounded to DTYPE, b_e), each float32 [1, BLOCK_D]."""
    ptr = params_ptr + (2 * D * D + 4 * D)
    w = load_row_vectors(ptr, K, D, WIDTH, BLOCK_D, DTYPE)
    return w, load_columns(ptr + K * D, D, WIDTH, BLOCK_D)[None, :]


@device
def row_numbers(BLOCK_N: tl.constexpr, PACK: tl.constexpr):
    """The number of each row of a tile, [BLOCK_N, PACK, 1]."""
    return tl.arange(0, BLOCK_N)[:, None, None] * PACK + tl.arange(0, PACK)[None, :, None]


@device
def load_inputs(ptrs, exists, K: tl.constexpr, MASK_ROWS: tl.constexpr):
    """The K numbers of each row, float32 [BLOCK_N, PACK, 1]; with MASK_ROWS 0 where none `exists`."""
    x = ()
    for k in tl.static_range(K):
        if MASK_ROWS:
            x += (tl.load(ptrs + k, mask=exists, other=0.0).to(tl.float32),)
        else:
            x += (tl.load(ptrs + k).to(tl.float32),)
    return x


@device
def embed(x, w, b, K: tl.constexpr):
    """x W_e + b_e, [BLOCK_N, BLOCK_D]; where no row exists it is b_e."""
    e = b
    for k in tl.static_range(K):
        e = tl.fma(spread(x[k], b.shape[1]), w[k], e)
    return e


@device
def add_embedding_gradient(totals, x, de, K: tl.constexpr):
    """totals plus x^T de and the sum of de, as `add_lines`."""
    sums = ()
    for k in tl.static_range(K):
        sums += (add_lines(totals[k], spread(x[k], de.shape[1]) * de),)
    return sums + (add_lines(totals[K], de),)  # noqa: RUF005 - triton has no starred tuples


@device
def store_input_gradient(ptrs, de, w, exists, K: tl.constexpr, WIDTH: tl.constexpr, MASK_ROWS: tl.constexpr):
    """dx = de W_e^T."""
    for k in tl.static_range(K):
        dx = tl.reshape(de * w[k], (de.shape[0], de.shape[1] // WIDTH, WIDTH))
        dx = tl.sum(dx, 2, keep_dims=True).to(ptrs.dtype.element_ty)
        if MASK_ROWS:
            tl.store(ptrs + k, dx, mask=exists)
        else:
            tl.store(ptrs + k, dx)


@device
def store_embedding_gradient(ptr, totals, K: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr):
    """The part of the embedding in a partial gradient of the parameters."""
    d = tl.arange(0, WIDTH)
    for k in tl.static_range(K + 1):
        total = sum_rows(tl.sum(totals[k], 0), WIDTH)
        tl.store(ptr + (2 * D * D + 4 * D + k * D) + d, total, mask=d < D)


@device
def hidden(n, w, b, PRECISION: tl.constexpr):
    """The pre-activation n W + b, float32."""
    return multiply(n, w, None, PRECISION) + b


@device
def sum_rows(x, WIDTH: tl.constexpr):
    """The sum of a vector [BLOCK_D] over the rows of a line, [WIDTH]."""
    return tl.sum(tl.reshape(x, (x.shape[0] // WIDTH, WIDTH)), 0)


@device
def sum_diagonal(x, WIDTH: tl.constexpr):
    """The sum of the blocks [WIDTH, WIDTH] on the diagonal of a tile [BLOCK_D, BLOCK_D]."""
    BLOCK_D: tl.constexpr = x.shape[0]
    if WIDTH == BLOCK_D:
        return x
    PACK: tl.constexpr = BLOCK_D // WIDTH
    c = tl.arange(0, BLOCK_D) // WIDTH
    x = tl.where(c[:, None] == c[None, :], x, 0.0)
    x = tl.sum(tl.reshape(x, (PACK, WIDTH, BLOCK_D)), 0)
    return tl.sum(tl.reshape(x, (WIDTH, PACK, WIDTH)), 1)


@device
def store_gradient(
    ptr, params_ptr, m, dw2, db1, db2, D: tl.constexpr, WIDTH: tl.constexpr, BLOCK_D: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    """One partial gradient of the parameters of a term, in their order."""
    m = sum_diagonal(m, WIDTH)
    dw2 = sum_diagonal(dw2, WIDTH)
    db1 = sum_rows(db1, WIDTH)
    db2 = sum_rows(db2, WIDTH)
    if WIDTH < BLOCK_D:  # a row that was kept out of the products
        lost = tl.sum(db1 * 0.0 + db2 * 0.0, 0)
        m += lost
        dw2 += lost
        db1 += lost
    gamma = load_columns(params_ptr, D, WIDTH, WIDTH)
    beta = load_columns(params_ptr + D, D, WIDTH, WIDTH)
    w1 = load_matrix(params_ptr + 2 * D, D, WIDTH, WIDTH, DTYPE).to(tl.float32)
    d = tl.arange(0, WIDTH)
    is_one = d < D
    matrix = d[:, None] * D + d[None, :]
    is_pair = is_one[:, None] & is_one[None, :]
    # as in `normalize`
    tl.store(ptr + d, tl.sum(tl.fma(w1, m, 0.0), 1), mask=is_one)
    tl.store(ptr + D + d, tl.sum(tl.fma(w1, db1[None, :], 0.0), 1), mask=is_one)
    tl.store(ptr + 2 * D + matrix, gamma[:, None] * m + beta[:, None] * db1[None, :], mask=is_pair)
    tl.store(ptr + (2 * D + D * D) + d, db1, mask=is_one)
    tl.store(ptr + (3 * D + D * D) + matrix, dw2, mask=is_pair)
    tl.store(ptr + (3 * D + 2 * D * D) + d, db2, mask=is_one)
