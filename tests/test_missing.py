"""Missingness and the visit pattern as effects of their own."""

import pytest
import torch
from torch import Tensor, nn

import rnam
from tests.support import additive_oracle as oracle
from tests.support import bounds

TERMS, BATCH, SEQ = 3, 4, 7


def _model(**options: object) -> rnam.RNAM:
    torch.manual_seed(0)
    model = rnam.RNAM(TERMS, 6, 2, 2, dtype=torch.float64, **options)  # type: ignore[arg-type]
    if model.missing is not None:
        nn.init.normal_(model.missing)
    return model


def _inputs() -> tuple[Tensor, Tensor]:
    """Values, NaN where they are masked, and a mask in which term 1 of row 2 is never observed."""
    mask = torch.rand(TERMS, BATCH, SEQ) > 0.6
    mask[1, 2] = False
    mask[0, 0, :3] = False
    x = torch.randn(TERMS, BATCH, SEQ, 1, dtype=torch.float64)
    return torch.where(mask[..., None], x, torch.nan), mask


def test_missing_starts_at_zero_and_changes_nothing() -> None:
    torch.manual_seed(0)
    plain = rnam.RNAM(TERMS, 6, 2, 2, dtype=torch.float64)
    model = _model(missing=True)
    assert model.missing.shape == (TERMS, 2) and "missing" in model.state_dict()
    assert "missing" not in plain.state_dict()
    model.reset_parameters()
    assert (model.missing == 0).all()
    torch.manual_seed(0)
    model.reset_parameters()
    assert torch.equal(model.emb.weight, plain.emb.weight)
    x, mask = _inputs()
    assert torch.equal(model(x, mask).contributions, plain(x, mask).contributions)


@pytest.mark.usefixtures("backend")
def test_never_observed_gives_exactly_missing() -> None:
    model, (x, mask) = _model(missing=True), _inputs()
    end, every = model(x, mask), model(x, mask, return_sequence=True)
    assert torch.equal(end.contributions[1, 2], model.missing[1])
    assert torch.equal(every.contributions[1, 2], model.missing[1].expand(SEQ, 2))
    assert torch.equal(every.contributions[0, 0, :3], model.missing[0].expand(3, 2))
    nothing = model(x, lengths=torch.zeros(BATCH, dtype=torch.int64))
    assert torch.equal(nothing.contributions, model.missing[:, None].expand(TERMS, BATCH, 2))
    assert torch.equal(model(x[:, :, :0]).contributions, model.missing[:, None].expand(TERMS, BATCH, 2))
    assert torch.equal(end.prediction, end.contributions.sum(0) + model.gam.bias)


@pytest.mark.usefixtures("backend")
def test_is_the_loop_and_separable() -> None:
    model, (x, mask) = _model(missing=True), _inputs()
    exact = oracle.sequences(oracle.named(model), list(x), mask, 2, model.missing)
    got = model(x, mask, return_sequence=True).contributions
    bounds.assert_same(got, exact)
    weight = torch.randn_like(exact)
    parameters = [p for p in model.parameters() if p is not model.gam.bias]
    grads = torch.autograd.grad((got * weight).sum(), parameters)
    bounds.assert_same(grads, torch.autograd.grad((exact * weight).sum(), parameters))
    seen = model.observed(x, mask, return_sequence=True)
    assert torch.equal(seen, mask.cumsum(-1) > 0)
    assert torch.equal(model.observed(x, mask), mask.any(-1))
    effect = torch.where(seen[..., None], 0, got)
    assert torch.equal(effect, torch.where(seen[..., None], 0, model.missing[:, None, None]))


def test_observed_without_a_mask() -> None:
    model, x = _model(), torch.randn(TERMS, BATCH, SEQ, 1, dtype=torch.float64)
    assert model.observed(x).all() and model.observed(x, return_sequence=True).shape == (TERMS, BATCH, SEQ)
    assert not model.observed(x[:, :, :0]).any()


def test_bad_flag() -> None:
    with pytest.raises(TypeError, match="missing must be True or False, got int"):
        _model(missing=1)
