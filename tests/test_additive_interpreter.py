"""The options of the additive models on the kernels, in the interpreter: float32 against the loops in float64."""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch

import rnam
from tests.support import additive_oracle as oracle
from tests.support import bounds
from tests.support.assertions import assert_norm_within

pytestmark = pytest.mark.interpreter

BATCH, SEQ, COLUMNS = 4, 7, 6


@pytest.fixture(autouse=True)
def _on_the_kernels() -> Iterator[None]:
    with rnam.set_backend("triton"):
        yield


@pytest.mark.parametrize(
    "columns",
    [
        *(pytest.param(own, marks=pytest.mark.long) for own in ([[1], [3], [5]], [[0, 1], [2, 3]])),
        [[0], [1, 2, 3], [0, 4], [4]],
    ],
    ids=str,
)
def test_columns(columns: list[list[int]]) -> None:
    model = rnam.RNAM(len(columns), 6, 2, 2, columns=columns)
    x, mask = torch.randn(BATCH, SEQ, COLUMNS), torch.rand(BATCH, SEQ, COLUMNS) > 0.3
    observed = torch.stack([mask[..., own].all(-1) for own in columns])
    got = model(torch.where(mask, x, torch.nan), mask, return_sequence=True).contributions.detach()
    plain, exact = (
        oracle.sequences(oracle.named(model, dtype), [x[..., own].to(dtype) for own in columns], observed, 2)
        for dtype in (torch.float32, torch.float64)
    )
    assert_norm_within("contributions", got, exact, bounds.gradient(exact, plain, torch.float32))


def _options() -> tuple[rnam.RNAM, dict[str, torch.Tensor]]:
    columns = [[0], [1, 2], [0, 3]]
    model = rnam.RNAM(3, 6, 2, 1, columns=columns, missing=True, timing=True, static_columns=columns, members=2)
    torch.nn.init.normal_(model.missing)
    x, mask = torch.randn(BATCH, SEQ, 4), torch.rand(BATCH, SEQ, 4) > 0.4
    mask[0] = False
    inputs = {"input": torch.where(mask, x, torch.nan), "mask": mask}
    inputs |= {"times": torch.rand(BATCH, SEQ).cumsum(-1), "static": torch.randn(BATCH, 4)}
    return model, inputs


def _bound(
    run: Callable[[torch.nn.Module, dict[str, torch.Tensor]], torch.Tensor],
    model: torch.nn.Module,
    inputs: dict[str, torch.Tensor],
) -> None:
    """The kernels' result against the reference in float64, which other tests hold to the loops."""
    got = run(model, inputs)
    with rnam.set_backend("reference"):
        plain = run(model, inputs)
        wide = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
        exact = run(copy.deepcopy(model).double(), wide)
    assert_norm_within("result", got, exact, bounds.gradient(exact, plain, torch.float32))


@torch.no_grad()
def test_all_options() -> None:
    model, inputs = _options()
    _bound(lambda m, i: m(**i, return_sequence=True, return_members=True).contributions, model, inputs)
    got = model(**inputs, return_members=True).contributions
    assert torch.equal(got[:, :4, 0], model.missing.unflatten(0, (2, -1))[:, :4])


def _steps(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    state, all_steps = None, []
    for t in range(3):
        now = {name: inputs[name][:, t] for name in ("input", "mask", "times")}
        _, contributions, state = model.step(now.pop("input"), state, **now, static=inputs["static"])
        all_steps.append(contributions)
    return torch.stack(all_steps)


@torch.no_grad()
def test_steps() -> None:
    _bound(_steps, *_options())


@torch.no_grad()
def test_nam() -> None:
    model = rnam.NAM(3, (6, 5), 2, columns=[[0], [1, 2], [0, 3]], activation="silu")
    _bound(lambda m, i: m(**i).contributions, model, {"input": torch.randn(BATCH, 4)})
