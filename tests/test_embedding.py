"""The embedding inside what follows it: the cells against their steps in float64, and the model against itself with the
embedding made first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import rnam
from rnam.functional import grouped_linear, min_gru, min_lstm
from tests.support import backends, bounds, inputs, oracle
from tests.support.assertions import assert_norm_within
from tests.support.selection import crossed

F, B, T, DIM, HIDDEN = 2, 3, 7, 8, 5
CELLS: dict[str, tuple[int, Callable[..., Any], Callable[..., Any]]] = {
    "mingru": (2, min_gru, oracle.min_gru),
    "minlstm": (3, min_lstm, oracle.min_lstm),
}


@pytest.fixture(params=backends.EACH)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with rnam.set_backend(request.param):
        yield request.param


def _arguments(parts: int, in_dim: int, dtype: torch.dtype) -> list[Tensor]:
    """x, weight, h0, and the weight and the bias of the embedding; no u is near the kink of g."""
    rng = torch.Generator().manual_seed(in_dim)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    x, weight, h0 = normal(F, B, T, in_dim), normal(F, DIM, parts * HIDDEN) / DIM**0.5, normal(F, B, 1, HIDDEN)
    embedding = [normal(F, in_dim, DIM), normal(F, 1, DIM)]
    for _ in range(200):
        u = torch.einsum("fbtd,fdh->fbth", oracle.embed(x, *embedding), weight[..., :HIDDEN].double())
        near = (u.abs() < 0.05).any(-1, keepdim=True)
        if not near.any():
            return [x, weight, h0, *embedding]
        x = torch.where(near, normal(F, B, T, in_dim), x)
    raise AssertionError("the inputs stay near the kink")


def _run(function: Callable[..., Any], given: list[Tensor], grads: tuple[Tensor, Tensor]) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in given]
    h, h_last = function(*leaves)
    loss = (h.double() * grads[0]).sum() + (h_last.double() * grads[1]).sum()
    return [h.detach(), h_last.detach(), *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize(
    ("cell", "dtype", "in_dim"),
    crossed(
        CELLS,
        (torch.float64, torch.float32, torch.bfloat16, torch.float16),
        (1, 2, 3),
        short=lambda _, dtype, in_dim: dtype != torch.float16 or in_dim == 3,
    ),
    ids=str,
)
def test_cells(backend: str, cell: str, dtype: torch.dtype, in_dim: int) -> None:
    flagged = in_dim != 2
    if backend == "triton" and dtype in (torch.float64, torch.bfloat16):
        pytest.skip("the kernels take no float64, and the interpreter truncates to bfloat16 where a GPU rounds")
    parts, function, steps = CELLS[cell]
    given, (mask, reset) = _arguments(parts, in_dim, dtype), inputs.mask_and_reset(F, B, T)
    flags = {"mask": mask, "reset": reset} if flagged else {}
    if flagged:
        given[0] = torch.where(mask[..., None], given[0], torch.nan)
    rng = torch.Generator().manual_seed(1)
    grads = tuple(torch.randn(F, B, n, HIDDEN, generator=rng, dtype=torch.float64) for n in (T, 1))
    grads = (grads[0].to(dtype).double(), grads[1].float().double())

    def apart(x: Tensor, w: Tensor, h0: Tensor, *embedding: Tensor, **options: Any) -> Any:
        x = torch.where(mask[..., None], x, 0) if flagged else x
        return steps(oracle.embed(x, *embedding, dtype=options.get("dtype", torch.float64)), w, h0, **flags, **options)

    def composed(x: Tensor, w: Tensor, h0: Tensor, e: Tensor, b: Tensor) -> Any:
        """The composed weight is rounded once."""
        x = torch.where(mask[..., None], x, 0) if flagged else x
        both = (torch.cat([e, b], 1) @ w).to(dtype).double()
        return steps(torch.nn.functional.pad(x, (0, 1), value=1.0), both, h0, **flags)

    got = _run(lambda x, w, h0, *e: function(x, w, h0, embedding=e, **flags), given, grads)
    wide = [t.double() for t in given]
    exact = _run(apart, wide, grads)
    if dtype == torch.float64:
        return bounds.assert_same(got, exact)
    inside = bounds.computed(dtype)
    same = _run(lambda *t: apart(*t, dtype=inside), [t.to(inside) for t in given], grads)
    rounded = _run(composed, wide, grads)
    assert [t.dtype for t in got] == [dtype, inside, *(t.dtype for t in given)]
    stages = 2 if backend == "triton" and dtype != torch.float32 else 1  # the gradients of u and k are rounded too
    names = ("h", "h_last", "dx", "dweight", "dh0", "dembedding", "dembedding_bias")
    for name, g, e, s, r in zip(names, got, exact, same, rounded, strict=True):
        limit = stages * (bounds.gradient(e, s, dtype) + 2 * float((r - e).norm()))
        assert_norm_within(name, g, e, limit)
    if flagged:
        assert (got[2][~mask] == 0).all()


def test_the_weight_must_fit_the_embedding() -> None:
    x, weight, h0, *embedding = _arguments(2, 1, torch.float32)
    with pytest.raises(ValueError, match=r"embedding\[0\] must have 2 terms and width 7 to go with weight"):
        min_gru(x, weight[:, 1:], h0, embedding=tuple(embedding))
    with pytest.raises(ValueError, match=r"embedding\[0\] must have shape \(terms, in_dim, dim\) = \(2, 2, 8\)"):
        rnam.minGRU(F, DIM)(torch.cat([x, x], -1), embedding=tuple(embedding))


MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one block": {"blocks": 1},
    "pairs": {"in_dim": 2},
    "minlstm": {"cell": "minlstm"},
    "columns": {"columns": [[1], [3], [5]]},
    "all": {"columns": [[0], [1, 2], [0, 3]], "missing": True, "timing": True, "static_columns": [[0], [1, 2]]},
    "members": {"columns": [[0], [1, 2], [0, 3]], "members": 2, "blocks": 1},
}


def _model(name: str, dtype: torch.dtype) -> tuple[rnam.RNAM, dict[str, Tensor]]:
    options = {"blocks": 2, **MODELS[name]}
    model = rnam.RNAM(3, DIM, 2, dtype=dtype, **options)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5)
    shape = (B, T, 6) if "columns" in options else (3, B, T, options.get("in_dim", 1))
    x, mask = torch.randn(shape, dtype=dtype), torch.rand(shape if "columns" in options else shape[:3]) > 0.4
    given = {"input": torch.where(mask if "columns" in options else mask[..., None], x, torch.nan), "mask": mask}
    if "timing" in options:
        given |= {"times": torch.rand(B, T, dtype=dtype).cumsum(-1), "static": torch.randn(B, 3, dtype=dtype)}
    return model, given


@pytest.mark.parametrize("return_sequence", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_the_one_that_embeds_first(
    name: str, return_sequence: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, given = _model(name, torch.float64)
    parameters = [p for p in model.parameters() if p.requires_grad]

    def results() -> list[Tensor]:
        out = model(**given, return_sequence=return_sequence)
        loss = (out.contributions * torch.arange(1.0, 1 + out.contributions.numel()).view_as(out.contributions)).sum()
        return [*out, *torch.autograd.grad(loss, parameters, materialize_grads=True)]

    with monkeypatch.context() as patch:
        patch.setattr("rnam.linear.grouped_linear", lambda *given: _refuse(model, *given))
        kept = results()
    monkeypatch.setattr("rnam.models.recurrent.keeps_embedding", lambda *_: False)
    bounds.assert_same(kept, results())


def _refuse(model: rnam.RNAM, input: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    """`grouped_linear` for every layer but the embedding."""
    assert weight is not model.emb.weight, "the embedding was made"
    return grouped_linear(input, weight, *rest)


def test_steps_are_those_that_embed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = _model("plain", torch.float64)

    def contributions() -> Tensor:
        state, every = None, []
        for t in range(T):
            step = model.step(given["input"][:, :, t], state, mask=given["mask"][:, :, t])
            state = step[2]
            every.append(step[1])
        return torch.stack(every)

    with monkeypatch.context() as patch:
        patch.setattr("rnam.linear.grouped_linear", lambda *given: _refuse(model, *given))
        kept = contributions()
    monkeypatch.setattr("rnam.models.recurrent.keeps_embedding", lambda *_: False)
    bounds.assert_same(kept, contributions())


def test_the_gradient_of_the_input() -> None:
    """It is there, as wide as the input, and 0 at masked places."""
    model, given = _model("plain", torch.float64)
    x = given["input"].requires_grad_()
    (got,) = torch.autograd.grad(model(**given, return_sequence=True).prediction.sum(), x)
    with rnam.set_backend("reference"):
        (expected,) = torch.autograd.grad(model(**given, return_sequence=True).prediction.sum(), x)
    bounds.assert_same(got, expected)
    assert (got[~given["mask"]] == 0).all() and (got[given["mask"]] != 0).all()
