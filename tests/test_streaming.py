"""`RNAM.step`: one step at a time is the whole sequence, and the state can be saved, sent and resumed."""

import io
import itertools

import pytest
import torch
from torch import Tensor, nn

import rnam
from tests.support.assertions import assert_equal, assert_within

TERMS, BATCH, SEQ = 3, 4, 23
COLUMNS = [[0], [1, 2], [0, 3]]


def _model(dtype: torch.dtype = torch.float64, **options: object) -> rnam.RNAM:
    torch.manual_seed(0)
    model = rnam.RNAM(TERMS, 6, 2, 2, dtype=dtype, **options)  # type: ignore[arg-type]
    nn.init.normal_(model.gam.bias)
    if model.missing is not None:
        nn.init.normal_(model.missing)
    return model


def _inputs(columns: object, masked: bool, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor | None]:
    if columns is not None:
        x, mask = torch.randn(BATCH, SEQ, 4, dtype=dtype), torch.rand(BATCH, SEQ, 4) > 0.5
        mask[0, :, 1] = mask[1, :9] = False
        return (torch.where(mask, x, torch.nan), mask) if masked else (x, None)
    x, mask = torch.randn(TERMS, BATCH, SEQ, 1, dtype=dtype), torch.rand(TERMS, BATCH, SEQ) > 0.5
    mask[1, 0] = mask[:, 1, :9] = False
    return (torch.where(mask[..., None], x, torch.nan), mask) if masked else (x, None)


def _reload(state: rnam.State) -> rnam.State:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    ("columns", "masked", "missing", "timing"),
    list(itertools.product([None, COLUMNS], [False, True], [False, True], [False, True])),
)
@pytest.mark.usefixtures("backend")
def test_steps_are_the_whole(columns: object, masked: bool, missing: bool, timing: bool) -> None:
    model = _model(columns=columns, missing=missing, timing=timing)
    x, mask = _inputs(columns, masked)
    times = torch.rand(BATCH, SEQ, dtype=torch.float64).cumsum(-1) if timing else None
    every = model(x, mask, times=times, return_sequence=True)
    seen = model.observed(x, mask, times=times, return_sequence=True)
    at = (slice(None),) * (1 if columns else 2)
    state = None
    for t in range(SEQ):
        options = {} if mask is None else {"mask": mask[(*at, t)]}
        if times is not None:
            options["times"] = times[:, t]
        with torch.no_grad():
            prediction, contributions, state = model.step(x[(*at, t)], state, **options)
        assert prediction.shape == (BATCH, 2)
        assert_within("prediction", prediction, every.prediction[:, t], 1e-12)
        assert_within("contributions", contributions, every.contributions[:, :, t], 1e-12)
        assert torch.equal(state["observed"], seen[:, :, t])
        if t % 7 == 0:
            state = _reload(state)


def test_a_state_is_not_changed() -> None:
    model, (x, mask) = _model(missing=True), _inputs(None, True)
    _, _, state = model.step(x[:, :, 0], mask=mask[..., 0])
    kept = _reload(state)
    first = model.step(x[:, :, 1], state, mask=mask[..., 1])
    again = model.step(x[:, :, 1], state, mask=mask[..., 1])
    assert torch.equal(first[1], again[1])
    for name in ("contributions", "observed"):
        assert torch.equal(kept[name], state[name])
    assert_equal("hidden", state["hidden"], kept["hidden"])


def test_gradients_flow_through_the_state() -> None:
    model, (x, mask) = _model(missing=True), _inputs(None, True)
    state, total = None, 0
    for t in range(SEQ):
        prediction, _, state = model.step(x[:, :, t], state, mask=mask[..., t])
        total = total + prediction.sum()
    stepped = torch.autograd.grad(total, list(model.parameters()))
    whole = torch.autograd.grad(model(x, mask, return_sequence=True).prediction.sum(), list(model.parameters()))
    for (name, _), a, b in zip(model.named_parameters(), stepped, whole, strict=True):
        assert_within(name, a, b, 1e-12 * max(1, b.abs().max()))


def test_halves_keep_a_float32_state() -> None:
    model, (x, _) = _model(torch.bfloat16), _inputs(None, False, torch.bfloat16)
    prediction, contributions, state = model.step(x[:, :, 0])
    assert contributions.dtype == prediction.dtype == torch.bfloat16
    assert {h.dtype for h in state["hidden"]} == {torch.float32}
    model.step(x[:, :, 1], _reload(state))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input": torch.zeros(3, 4, 1, 1)}, ValueError, r"input must have shape \(terms, batch, in_dim\), got \(3"),
        ({"state": 3}, TypeError, "state must be None or a State that step or forward returned, got int"),
        ({"state": {}}, ValueError, r"state must have the entries \['contributions', 'hidden', 'observed'\], got \[\]"),
        ({"input": torch.zeros(3, 5, 1)}, ValueError, r"state\['hidden'\]\[0\] must have shape .* = \(3, 5, 1, 6\)"),
        ({"mask": torch.ones(3, 4)}, TypeError, "mask must be a bool tensor, got float32"),
        (
            {"times": torch.zeros(4)},
            ValueError,
            "times must be given with timing=True or continuous=True, and only then",
        ),
    ],
)
def test_bad_input(change: dict, error: type[Exception], message: str) -> None:
    model = _model(torch.float32)
    _, _, state = model.step(torch.zeros(3, 4, 1))
    with pytest.raises(error, match=message):
        model.step(**{"input": torch.zeros(3, 4, 1), "state": state} | change)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("contributions", torch.zeros(8, 4, 1), ValueError, r"must have shape \(terms, batch, out_dim\) = \(8, 4, 2\)"),
        ("observed", torch.ones(4, 1, dtype=torch.bool), ValueError, r"must have shape \(terms, batch\) = \(4, 4\)"),
        ("observed", torch.ones(4, 4), TypeError, "must be a bool tensor, got float32"),
        ("last_visit", torch.zeros(1), ValueError, r"must have shape \(batch\) = \(4,\), got \(1,\)"),
        ("visited", None, TypeError, "must be a tensor, got NoneType"),
        ("static", torch.zeros(2, 4, 1), ValueError, r"must have shape \(static terms, batch, out_dim\) = \(2, 4, 2\)"),
        ("static_observed", torch.ones(1, 1, dtype=torch.bool), ValueError, r"= \(1, 4\), got \(1, 1\)"),
    ],
)
def test_every_part_of_a_state_must_be_of_this_model(
    name: str, value: object, error: type[Exception], message: str
) -> None:
    """Some of these would be broadcast, and be wrong without a word."""
    model = rnam.RNAM(3, 6, out_dim=2, blocks=1, timing=True, static_columns=[[0]], members=2)
    _, _, state = model.step(torch.zeros(3, 4, 1), times=torch.zeros(4), static=torch.zeros(4, 1))
    with pytest.raises(error, match=rf"state\['{name}'\] {message}" if "must" in message else message):
        model.step(torch.zeros(3, 4, 1), {**state, name: value}, times=torch.ones(4), mask=torch.zeros(3, 4) > 0)
