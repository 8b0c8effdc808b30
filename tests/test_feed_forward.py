"""`feed_forward` against its formula in float64, on the reference and on blocks small enough to be cut in every way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import rnam
from rnam.backends.blocks import feed_forward as blocks
from rnam.functional import feed_forward, keeps_embedding
from tests.support import backends, bounds, oracle
from tests.support.assertions import assert_equal, assert_finite, assert_norm_within
from tests.support.selection import crossed

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]

# terms, rows, width: several terms in a block; several blocks for a term, the last smaller; one number a row, whose
# normalised value is 0; wider than blocks are made for
SIZES = [(5, 3, 4), (2, 77, 8), (3, 5, 1), (2, 40, 16), (2, 9, 33)]


# terms, rows, in_dim, width: kept in blocks and kernels; too wide an input, and too wide a row for blocks
EMBEDDED = [(5, 3, 1, 4), (2, 77, 1, 8), (2, 30, 3, 8), (2, 41, 2, 16), (3, 9, 2, 7), (2, 9, 2, 4), (2, 9, 1, 33)]


@pytest.fixture(
    autouse=True,
    params=backends.EACH,
)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(blocks, "ELEMENTS", 128)
    with rnam.set_backend(request.param):
        yield request.param


def _arguments(terms: int, rows: int, dim: int, dtype: torch.dtype, in_dim: int = 0) -> list[Tensor]:
    """Random ones for which no number before the ReLU is near its kink; x and update are (terms, rows, 1, dim). With
    in_dim x is that wide, and the weight and the bias of its embedding come last."""
    rng = torch.Generator().manual_seed(terms)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    x, update = normal(terms, rows, 1, in_dim or dim), normal(terms, rows, 1, dim)
    weights = [normal(terms, dim, dim) / dim**0.5 for _ in range(2)]
    biases = [normal(terms, 1, dim) for _ in range(2)]
    scale, shift = 1 + normal(dim) / 4, normal(dim)
    embedding = [normal(terms, in_dim, dim), normal(terms, 1, dim)] if in_dim else []
    for _ in range(100):
        r = (oracle.embed(x, *embedding) if in_dim else x).double() + update.double()
        n = torch.nn.functional.layer_norm(r, (dim,), scale.double(), shift.double())
        u = torch.einsum("frtd,fdh->frth", n, weights[0].double()) + biases[0].double()[:, None]
        near = (u.abs() < 0.02).any(-1, keepdim=True)
        if not near.any():
            break
        update = torch.where(near, normal(terms, rows, 1, dim), update)
    return [x, update, scale, shift, weights[0], biases[0], weights[1], biases[1], *embedding]


def _embedded(x: Tensor, *others: Tensor) -> Tensor:
    """`feed_forward` whose last two arguments are the embedding."""
    return feed_forward(x, *others[:-2], embedding=others[-2:])


def _check(backend: str, dtype: torch.dtype, given: list[Tensor]) -> None:
    """Values and all gradients against the formula in float64."""
    if backend == "triton" and dtype == torch.float64:
        pytest.skip("the kernels take no float64")
    in_dim, dim = given[0].shape[-1], given[1].shape[-1]
    function = feed_forward if len(given) == 8 else _embedded
    grad = torch.randn(given[1].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)

    def run(function: object, to: torch.dtype) -> tuple[Tensor, ...]:
        leaves = [t.to(to).requires_grad_() for t in given]
        y = function(*leaves)  # type: ignore[operator]
        return y.detach(), *torch.autograd.grad(y, leaves, grad.to(y))

    got = run(function, dtype)
    exact = run(oracle.feed_forward, torch.float64)
    if dtype == torch.float64:
        return bounds.assert_same(got, exact)
    inside = bounds.computed(dtype)
    plain = run(lambda *t: oracle.feed_forward(*t, dtype=inside), inside)
    assert {g.dtype for g in got} == {dtype}
    # The kernels, and the layers one by one for rows wider than 16, round to a half on the way too: the normalised row,
    # what comes after the ReLU, and the last product; and the embedding, where it is made first. The interpreter
    # truncates where a GPU rounds to bfloat16.
    apart = dim > blocks.WIDEST or (in_dim != dim and not keeps_embedding(given[0], given[-2]))
    stages = 4 if backend == "triton" or apart else 1
    stages *= 2 if backend == "triton" and dtype == torch.bfloat16 else 1
    names = ("y", "dx", "dupdate", "dscale", "dshift", "dw1", "db1", "dw2", "db2", "dembedding", "dembedding_bias")
    for name, g, e, p in zip(names[: len(got)], got, exact, plain, strict=True):
        assert_norm_within(name, g, e, stages * bounds.gradient(e, p, dtype))


def _on_kernels(dtype: torch.dtype, size: tuple[int, ...]) -> bool:
    """Every size in float32, and one in each half, which tests/kernels has in every width."""
    return dtype in (torch.float64, torch.float32) or size[1] == 77


@pytest.mark.parametrize(("dtype", "size"), crossed(DTYPES, SIZES, short=_on_kernels), ids=str)
def test_values_and_gradients(backend: str, dtype: torch.dtype, size: tuple[int, int, int]) -> None:
    _check(backend, dtype, _arguments(*size, dtype))


@pytest.mark.parametrize(("dtype", "size"), crossed(DTYPES, EMBEDDED, short=_on_kernels), ids=str)
def test_values_and_gradients_of_an_embedding(
    backend: str, dtype: torch.dtype, size: tuple[int, int, int, int]
) -> None:
    terms, rows, in_dim, dim = size
    _check(backend, dtype, _arguments(terms, rows, dim, dtype, in_dim))


def test_which_embedding_is_kept(backend: str) -> None:
    def kept(in_dim: int, dim: int) -> bool:
        return keeps_embedding(torch.randn(1, 2, in_dim), torch.randn(1, in_dim, dim))

    assert kept(1, 4) == kept(1, 8) == kept(3, 16) == (backend != "reference")
    assert not (kept(1, 3) or kept(2, 4) or kept(4, 8) or kept(1, 64))


def test_a_nan_of_an_embedded_row_stays_in_it() -> None:
    given = _arguments(2, 30, 8, torch.float32, 1)
    given[0][1, 7] = torch.nan
    y = _embedded(*given)
    bad = torch.zeros(2, 30, dtype=torch.bool)
    bad[1, 7] = True
    assert torch.equal(y.isnan().any(-1)[..., 0], bad)
    assert torch.equal(y.isnan().all(-1)[..., 0], bad)


def test_strided_arguments() -> None:
    x, update, *others = _arguments(2, 12, 8, torch.float32)
    wide = torch.cat([x, update], -1).transpose(0, 1).contiguous().transpose(0, 1)
    expected = feed_forward(x, update, *others)
    torch.testing.assert_close(feed_forward(wide[..., :8], wide[..., 8:], *others), expected, rtol=0, atol=0)


def test_nothing_but_what_is_asked_for() -> None:
    """Each argument's gradient alone is that of all together."""
    given = _arguments(2, 12, 8, torch.float32)
    leaves = [t.requires_grad_() for t in given]
    together = torch.autograd.grad(feed_forward(*leaves).sum(), leaves)
    for n, expected in enumerate(together):
        alone = [t.detach().requires_grad_(m == n) for m, t in enumerate(given)]
        (got,) = torch.autograd.grad(feed_forward(*alone).sum(), alone[n])
        assert torch.equal(got, expected)


def test_a_nan_stays_in_its_row() -> None:
    given = _arguments(2, 30, 8, torch.float32)
    given[0][1, 7] = torch.nan
    given[1][0, 3] = torch.inf
    y = feed_forward(*given)
    bad = torch.zeros(2, 30, dtype=torch.bool)
    bad[1, 7] = bad[0, 3] = True
    assert torch.equal(y.isnan().any(-1)[..., 0], bad)


@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_and_no_terms(rows: int) -> None:
    leaves = [t.requires_grad_() for t in _arguments(2, 1, 4, torch.float32)]
    x, update = (t[:, :rows] for t in leaves[:2])
    y = feed_forward(x, update, *leaves[2:])
    assert y.shape == (2, rows, 1, 4)
    grads = torch.autograd.grad(y.sum(), leaves)
    assert_finite("gradients", grads)
    if not rows:
        assert_equal("gradients", grads, [torch.zeros_like(t) for t in leaves])


@pytest.mark.parametrize("in_dim", [0, 1])
def test_autocast_rounds_the_input_and_keeps_the_weights_gradient(in_dim: int) -> None:
    leaves = [t.requires_grad_() for t in _arguments(2, 12, 8, torch.float32, in_dim)]
    with torch.autocast("cpu", torch.bfloat16):
        y = (_embedded if in_dim else feed_forward)(*leaves)
    assert y.dtype == torch.bfloat16
    halves = [t.detach().to(torch.bfloat16) for t in leaves[:2]]
    exact = oracle.feed_forward(*halves, *(t.detach() for t in leaves[2:]))
    # the weights are rounded too: two products, each relative to 2^-9 of the norm of what it sums
    assert_norm_within("y", y, exact, 4 * bounds.unit(torch.bfloat16) * exact.norm())
    assert {g.dtype for g in torch.autograd.grad(y.float().sum(), leaves)} == {torch.float32}


@pytest.mark.parametrize(
    ("position", "value", "error", "message"),
    [
        (0, torch.zeros(2, 4), ValueError, r"input must have shape \(terms, \*, dim\), got \(2, 4\)"),
        (1, torch.zeros(2, 12, 1, 3), ValueError, "update must have shape"),
        (1, torch.zeros(2, 12, 1, 4, dtype=torch.float64), TypeError, "update must"),
        (2, torch.zeros(3), ValueError, r"norm_weight must have shape \(dim\)"),
        (4, torch.zeros(2, 4, 5), ValueError, r"weight1 must have shape \(terms, dim, dim\)"),
        (5, torch.zeros(2, 4), ValueError, "bias1 must have shape"),
        (6, torch.zeros(2, 4, 4, dtype=torch.int64), TypeError, "weight2 must"),
        (7, torch.zeros(2, 1, 4, dtype=torch.float64), TypeError, "bias2 must"),
    ],
)
def test_errors(position: int, value: Tensor, error: type[Exception], message: str) -> None:
    given = _arguments(2, 12, 4, torch.float32)
    given[position] = value
    with pytest.raises(error, match=message):
        feed_forward(*given)


@pytest.mark.parametrize(
    ("embedding", "error", "message"),
    [
        (torch.zeros(2), TypeError, r"embedding must be None or a pair \(weight, bias\), got Tensor"),
        ((torch.zeros(2, 1, 4),), TypeError, "embedding must be None or a pair"),
        (
            (torch.zeros(2, 4), torch.zeros(2, 1, 4)),
            ValueError,
            r"embedding\[0\] must have shape \(terms, in_dim, dim\)",
        ),
        ((torch.zeros(2, 3, 4), torch.zeros(2, 1, 4)), ValueError, r"embedding\[0\] must have shape .* = \(2, 1, 4\)"),
        ((torch.zeros(2, 1, 4), torch.zeros(2, 4)), ValueError, r"embedding\[1\] must have shape \(terms, 1, dim\)"),
        ((torch.zeros(2, 1, 5), torch.zeros(2, 1, 5)), ValueError, r"update must have shape .* = \(2, 12, 1, 5\)"),
        ((torch.zeros(2, 1, 4).double(), torch.zeros(2, 1, 4)), TypeError, r"embedding\[0\] must be float32"),
        ((torch.zeros(2, 1, 4), None), TypeError, r"embedding\[1\] must be a tensor"),
    ],
)
def test_errors_of_an_embedding(embedding: object, error: type[Exception], message: str) -> None:
    given = _arguments(2, 12, 4, torch.float32, 1)
    with pytest.raises(error, match=message):
        feed_forward(*given[:-2], embedding=embedding)
