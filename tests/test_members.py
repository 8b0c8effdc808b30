"""Ensembles as more terms: K members in one call are K models, and share nothing."""

import pytest
import torch
from torch import Tensor, nn

import rnam
from tests.support import bounds
from tests.support.assertions import assert_within
from tests.support.members import member

TERMS, BATCH, SEQ, MEMBERS = 3, 4, 6, 3
COLUMNS = [[0], [1, 2], [0, 3]]
OPTIONS = {
    "plain": {},
    "columns": {"columns": COLUMNS},
    "all": {"columns": COLUMNS, "missing": True, "timing": True},
}
EXACT = torch.float64


def _model(name: str, members: int = MEMBERS) -> rnam.RNAM:
    torch.manual_seed(0)
    model = rnam.RNAM(TERMS, 6, 2, 2, dtype=EXACT, members=members, **OPTIONS[name])
    for p in (model.gam.bias, *([] if model.missing is None else [model.missing])):
        nn.init.normal_(p)
    return model


def _inputs(name: str) -> dict[str, Tensor]:
    shape = (TERMS, BATCH, SEQ) if name == "plain" else (BATCH, SEQ, 4)
    x, mask = torch.randn(shape, dtype=EXACT), torch.rand(shape) > 0.4
    inputs = {"input": x[..., None] if name == "plain" else x, "mask": mask}
    if name == "all":
        inputs["times"] = torch.rand(BATCH, SEQ, dtype=EXACT).cumsum(-1)
    return inputs


@pytest.mark.parametrize("return_sequence", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.usefixtures("backend")
def test_members_are_models(name: str, return_sequence: bool) -> None:
    model, inputs = _model(name), _inputs(name)
    each = model(**inputs, return_sequence=return_sequence, return_members=True)
    total, middle = TERMS + (name == "all"), (BATCH, SEQ) if return_sequence else (BATCH,)
    assert each.prediction.shape == (MEMBERS, *middle, 2)
    assert each.contributions.shape == (MEMBERS, total, *middle, 2)
    for k in range(MEMBERS):
        single = member(model, _model(name, 1), k)
        alone = single(**inputs, return_sequence=return_sequence)
        bounds.assert_same(each.prediction[k], alone.prediction)
        bounds.assert_same(each.contributions[k], alone.contributions)
    mean = model(**inputs, return_sequence=return_sequence)
    bounds.assert_same(mean, (each.prediction.mean(0), each.contributions.mean(0)))
    assert torch.equal(mean.prediction, mean.contributions.sum(0) + model.gam.bias.mean(0))


def test_initial_parameters_differ_by_member() -> None:
    model = _model("columns")
    for name, p in model.named_parameters():
        if ".ff.0." in name:
            continue
        first, second, third = p if name == "gam.bias" else p.unflatten(0, (MEMBERS, -1))
        assert (first != second).any() and (second != third).any(), name


def test_a_loss_of_one_member_moves_no_other() -> None:
    recurrent = _inputs("all")
    recurrent["mask"][0] = False  # so that `missing` has a part
    for model, inputs in (
        (_model("all"), recurrent),
        (rnam.NAM(4, members=MEMBERS, dtype=EXACT), {"input": torch.randn(BATCH, 4, dtype=EXACT)}),
    ):
        learns = [p for p in model.parameters() if p.requires_grad]
        model(**inputs, return_members=True).prediction[1].square().sum().backward()
        for p in learns:
            grads = p.grad if p is model.gam.bias else p.grad.unflatten(0, (MEMBERS, -1))
            assert (grads[[0, 2]] == 0).all() and (grads[1] != 0).any()


def test_one_member_is_the_model() -> None:
    model, inputs = _model("plain", 1), _inputs("plain")
    torch.manual_seed(0)
    plain = rnam.RNAM(TERMS, 6, 2, 2, dtype=EXACT)
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}
    assert torch.equal(model.emb.weight, plain.emb.weight)
    assert not [name for name, p in model.named_parameters() if not p.requires_grad]
    each, mean = model(**inputs, return_members=True), model(**inputs)
    assert torch.equal(each.prediction, mean.prediction[None])
    assert torch.equal(each.contributions, mean.contributions[None])


@pytest.mark.usefixtures("backend")
def test_members_of_a_nam() -> None:
    torch.manual_seed(0)
    model = rnam.NAM(3, (5, 4), 2, columns=COLUMNS, missing=True, members=MEMBERS, dtype=EXACT)
    nn.init.normal_(model.missing)
    x, mask = torch.randn(BATCH, 4, dtype=EXACT), torch.rand(BATCH, 4) > 0.4
    each = model(x, mask, return_members=True)
    for k in range(MEMBERS):
        single = member(model, rnam.NAM(3, (5, 4), 2, columns=COLUMNS, missing=True, dtype=EXACT), k)
        bounds.assert_same(each.contributions[k], single(x, mask).contributions)
    bounds.assert_same(model(x, mask), (each.prediction.mean(0), each.contributions.mean(0)))


def test_steps_of_members() -> None:
    model, inputs = _model("all"), _inputs("all")
    every = model(**inputs, return_sequence=True, return_members=True)
    state = None
    for t in range(SEQ):
        step = {name: value[:, t] for name, value in inputs.items()}
        prediction, contributions, state = model.step(step.pop("input"), state, **step, return_members=True)
        assert_within("prediction", prediction, every.prediction[:, :, t], 1e-12)
        assert_within("contributions", contributions, every.contributions[:, :, :, t], 1e-12)


def test_bootstrap_draws_people() -> None:
    ids = torch.tensor([7, 7, 3, 100, 3, 7, -2])
    weights = rnam.bootstrap_weights(ids, 500, generator=torch.Generator().manual_seed(1))
    assert weights.shape == (500, 7) and weights.dtype == torch.float32
    assert (weights[:, [0, 0, 2]] == weights[:, [1, 5, 4]]).all()
    people = weights[:, [0, 2, 3, 6]]
    assert (people.sum(1) == 4).all()  # as many draws as people
    # each count is binomial(4, 1/4): mean 1, variance 3/4; 500 members leave 0.039 of it
    assert_within("mean", people.mean(0), 1.0, 5 * 0.039)
    # of a binomial's sample variance the standard deviation is about 0.75 sqrt(2 / 500) = 0.047, times 1.1
    assert_within("variance", people.var(0), 0.75, 5 * 0.06)
    again = rnam.bootstrap_weights(ids, 500, generator=torch.Generator().manual_seed(1))
    assert torch.equal(weights, again)
    assert rnam.bootstrap_weights(ids[:0], 2).shape == (2, 0)


@pytest.mark.parametrize(
    ("ids", "members", "error", "message"),
    [
        (torch.zeros(3), 2, TypeError, "ids must be a tensor of integers, got float32"),
        (torch.zeros(3, 1).long(), 2, ValueError, r"ids must have shape \(rows\), got \(3, 1\)"),
        (torch.zeros(3).long(), 0, ValueError, "members must be at least 1, got 0"),
        ([1, 2], 1, TypeError, "ids must be a tensor, got list"),
    ],
)
def test_bad_bootstrap(ids: object, members: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rnam.bootstrap_weights(ids, members)
