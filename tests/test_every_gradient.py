"""Every parameter that learns gets a gradient from every call, 0 where it has no part: who waits for all of them, as
DistributedDataParallel does, goes on."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import rnam
from rnam.regularizers import concurvity, output_penalty, term_dropout

TERMS = 3
MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "lstm": {"cell": "minlstm"},
    "timing": {"timing": True},
    "static": {"static_columns": [[0], [1, 2]]},
    "continuous": {"continuous": True, "timescales": (1.0, 9.0)},
    "memoryless": {"columns": [[0], [1], [2]], "memoryless_columns": [[3]]},
    "all": {
        "columns": [[0], [1, 2], [0, 3]],
        "timing": True,
        "memoryless_columns": [[3], [0, 1]],
        "static_columns": [[0]],
    },
}
SHAPES = ((4, 5), (4, 1), (4, 0), (0, 5), (0, 0))


def _model(name: str, missing: bool = True, members: int = 1) -> nn.Module:
    if name == "NAM":
        return rnam.NAM(TERMS, (6,), missing=missing, members=members)
    return rnam.RNAM(TERMS, 6, 2, 2, missing=missing, members=members, **MODELS[name])


def _inputs(name: str, masked: str | None, batch: int = 4, seq: int = 5) -> dict[str, Tensor]:
    """masked: None, "some", or "all" of the values."""
    options = MODELS.get(name, {})
    shape = (batch, TERMS) if name == "NAM" else (batch, seq, 4) if "columns" in options else (TERMS, batch, seq)
    by_columns = name == "NAM" or "columns" in options
    given = {"input": torch.randn(shape if by_columns else (*shape, 1))}
    if masked is not None:
        given["mask"] = torch.rand(shape) > (0.5 if masked == "some" else 1)
    if "timing" in options or "continuous" in options:
        given["times"] = torch.rand(batch, seq).cumsum(1)
    if "static_columns" in options:
        given["static"] = torch.randn(batch, 3)
        if masked == "all":
            given["static_mask"] = torch.zeros(batch, 3, dtype=torch.bool)
    return given


def _without_gradient(model: nn.Module, loss: Tensor) -> list[str]:
    model.zero_grad()
    loss.backward()
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize(
    ("name", "missing", "members", "masked"),
    list(itertools.product([*MODELS, "NAM"], (False, True), (1, 2), (None, "some", "all"))),
)
@pytest.mark.usefixtures("backend")
def test_whole_sequences(name: str, missing: bool, members: int, masked: str | None) -> None:
    model = _model(name, missing, members)
    for batch, seq in SHAPES:
        given = _inputs(name, masked, batch, seq)
        calls: list[dict[str, Any]] = [{}, {"return_members": True}]
        if name != "NAM":
            calls = [c | s for c in calls for s in ({}, {"return_sequence": True})]
        for options in calls:
            lost = _without_gradient(model, model(**given, **options).prediction.sum())
            assert not lost, (batch, seq, options)


@pytest.mark.parametrize(
    ("name", "members", "masked"), list(itertools.product(MODELS, (1, 2), (None, "some", "all"))), ids=str
)
def test_steps(name: str, members: int, masked: str | None) -> None:
    """From a state without a graph, as in truncated backpropagation through time."""
    model, given, state = _model(name, True, members), _inputs(name, masked), None
    for t in range(2):
        step = {
            key: value if "static" in key else value[:, t] if "columns" in MODELS[name] or key == "times"
            else value[:, :, t] for key, value in given.items()
        }  # fmt: skip
        prediction, _, state = model.step(state=state, **step)
        assert not _without_gradient(model, prediction.sum())
        state = state.detach()


def test_a_loss_of_contributions() -> None:
    """The prediction is made of them anew, with the bias."""
    model = rnam.NAM(TERMS, (6,), missing=True)
    _, parts = model(torch.randn(20, TERMS))
    prediction = term_dropout(parts, 0.5).sum(0) + model.gam.bias
    assert not _without_gradient(model, prediction.sum() + concurvity(parts) + output_penalty(parts))
    assert torch.equal(model.missing.grad, torch.zeros(TERMS, 1))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_parameter_without_a_part_changes_no_number(value: float) -> None:
    """Its factor is not 0, it is not there: 0 * NaN would be NaN."""
    plain, model = rnam.RNAM(TERMS, 6, 2, 2), rnam.RNAM(TERMS, 6, 2, 2, missing=True)
    plain.load_state_dict(model.state_dict(), strict=False)
    nn.init.constant_(model.missing, value)
    x = torch.randn(TERMS, 4, 5, 1)
    assert torch.equal(model(x).prediction, plain(x).prediction)
    for p in model.parameters():
        (gradient,) = torch.autograd.grad(model(x).prediction.sum(), p)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", [*MODELS, "NAM"])
@pytest.mark.parametrize("masked", [None, "some"])
@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel(name: str, masked: str | None) -> None:
    """Batches with and without a mask, in turn."""
    torch.manual_seed(0)
    model = _model(name)
    torch.manual_seed(0)
    alone = _model(name)
    parallel = DistributedDataParallel(model)
    for n in range(4):
        given = _inputs(name, masked if n % 2 else None)
        for each in (parallel, alone):
            each.zero_grad()
            each(**given).prediction.square().mean().backward()
        for (label, p), q in zip(model.named_parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, msg=label)
