"""`explain.memory`: time scales from the gates on given data, and what a term's memory is worth."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import rnam
from rnam import explain

TERMS, BATCH, SEQ = 2, 5, 8
EXACT = torch.float64
ROUNDING = 1e-10  # float64, some thousand roundings of numbers of size 1


def _model(**options: Any) -> rnam.RNAM:
    torch.manual_seed(0)
    model = rnam.RNAM(TERMS, 4, 1, 2, dtype=EXACT, **options)
    if model.missing is not None:
        nn.init.normal_(model.missing)
    return model


def _inputs() -> tuple[Tensor, Tensor]:
    x, mask = torch.randn(TERMS, BATCH, SEQ, 1, dtype=EXACT), torch.rand(TERMS, BATCH, SEQ) > 0.4
    mask[0, 0] = False
    return torch.where(mask[..., None], x, torch.nan), mask


def _alone(mask: Tensor) -> Tensor:
    """The last observed step of each row."""
    steps = torch.where(mask, torch.arange(1, mask.shape[-1] + 1), 0)
    return mask & (steps == steps.amax(-1, keepdim=True))


def _constant_gates(model: rnam.RNAM, scales: Tensor) -> None:
    """Gates that read nothing, with the time scales (channels,) in both blocks."""
    with torch.no_grad():
        for block in model.blocks:
            project = block.gru.to_hidden_and_gate
            project.weight[..., 4:] = 0
            project.bias[..., 4:] = torch.expm1(1 / scales).log()


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("members", [1, 2])
def test_constant_gates_have_their_time_scales(continuous: bool, members: int) -> None:
    """In steps or, of continuous time, in the unit of the times."""
    options = {"continuous": True, "time_unit": 7.0} if continuous else {}
    model = _model(timescales=(1.0, 9.0), members=members, **options)
    scales = torch.tensor([0.5, 2.0, 30.0, 1000.0], dtype=EXACT)
    _constant_gates(model, scales)
    x, mask = _inputs()
    given = {"times": torch.rand(BATCH, SEQ, dtype=EXACT).cumsum(1)} if continuous else {}
    found = explain.memory(model, x, mask, **given)
    expected = np.broadcast_to(scales.numpy() * (7 if continuous else 1), found.timescale.shape)
    assert found.timescale.shape == ((2,) if members == 2 else ()) + (TERMS, 2, 4)
    np.testing.assert_allclose(found.timescale, expected, rtol=ROUNDING)
    np.testing.assert_array_equal(found.steps, (mask.sum(-1) - 1).clamp(min=0).sum(-1))
    assert found.term == ("term 0", "term 1")
    assert found.loss is None and found.cut_loss is None
    # the quantile is taken of the rates
    median = 1 / np.median(1 / expected, axis=-1)
    np.testing.assert_allclose(found.quantiles([0.0, 0.5, 1.0])[..., 1], median, rtol=ROUNDING)
    np.testing.assert_allclose(found.quantiles([0.0, 1.0]), expected[..., [0, 3]], rtol=ROUNDING)
    if members == 2:
        np.testing.assert_allclose(found.spread.mean, median[0], rtol=ROUNDING)
        np.testing.assert_allclose(found.spread.sd, 0, atol=ROUNDING * 1000)
    else:
        with pytest.raises(ValueError, match="model must be of at least 2 members to have a spread, got one"):
            found.spread  # noqa: B018


@pytest.mark.parametrize("cell", ["mingru", "minlstm"])
@pytest.mark.parametrize("continuous", [False, True])
def test_the_mean_rate_of_the_first_block_by_hand(cell: str, continuous: bool) -> None:
    """Over the steps after the first observed one, weighted by the time that passes."""
    model, (x, mask) = _model(cell=cell, continuous=continuous, timescales=(1.0, 5.0)), _inputs()
    times = torch.rand(BATCH, SEQ, dtype=EXACT).mul(3).exp().cumsum(1)
    found = explain.memory(model, x, mask, **({"times": times} if continuous else {}))
    for f in range(TERMS):
        forgotten, passed = torch.zeros(4, dtype=EXACT), 0.0
        for b in range(BATCH):
            steps = mask[f, b].nonzero()[:, 0].tolist()
            for before, now in zip(steps, steps[1:]):  # noqa: B905, RUF007
                y = x[f, b, now] @ model.emb.weight[f] + model.emb.bias[f, 0]
                project = model.blocks[0].gru.to_hidden_and_gate
                _, *gates = (y @ project.weight[f] + project.bias[f, 0]).split(4)
                if cell == "mingru":
                    rate = F.softplus(gates[0])
                else:
                    rate = -(gates[0].sigmoid() / (gates[0].sigmoid() + gates[1].sigmoid())).log()
                elapsed = float(times[b, now] - times[b, before]) if continuous else 1.0
                forgotten, passed = forgotten + elapsed * rate, passed + elapsed
        exact = (passed / forgotten).detach().numpy()
        np.testing.assert_allclose(found.timescale[f, 0], exact, rtol=ROUNDING)


def _cut(model: rnam.RNAM, x: Tensor, mask: Tensor, over_time: bool, **options: Any) -> Tensor:
    """The contributions of terms that see their last observed step alone."""
    if not over_time:
        return model(x, _alone(mask), **options).contributions
    each = [model(x[:, :, : t + 1], _alone(mask[..., : t + 1]), **options).contributions for t in range(SEQ)]
    return torch.stack(each, -2)


@pytest.mark.parametrize("over_time", [False, True])
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("cell", ["mingru", "minlstm"])
def test_what_a_memory_is_worth(over_time: bool, members: int, cell: str) -> None:
    """Each term is given its last value alone, and the others are as they are."""
    model, (x, mask) = _model(members=members, cell=cell, missing=True), _inputs()
    target = torch.randn(BATCH, *((SEQ,) if over_time else ()), 1, dtype=EXACT)
    found = explain.memory(model, x, mask, target=target, over_time=over_time, names=["a", "b"])
    with torch.no_grad():
        options = {"return_members": True, "return_sequence": over_time}
        whole = model(x, mask, **options)
        cut = _cut(model, x, mask, over_time, return_members=True)
    seen = mask if over_time else mask.any(-1)
    for k in range(members):
        own = (k,) if members == 2 else ()
        assert found.loss is not None and found.cut_loss is not None
        np.testing.assert_allclose(found.loss[own], F.mse_loss(whole.prediction[k], target).item(), rtol=ROUNDING)
        for f in range(TERMS):
            difference = cut[k, f] - whole.contributions[k, f]
            loss = F.mse_loss(whole.prediction[k] + difference, target).item()
            np.testing.assert_allclose(found.cut_loss[(*own, f)], loss, rtol=ROUNDING)
            change = difference[seen[f]].square().mean().sqrt().item()
            np.testing.assert_allclose(found.change[(*own, f, 0)], change, rtol=ROUNDING)
    assert found.term == ("a", "b")
    assert found.change.min() > 0


def test_padding_changes_no_change() -> None:
    model, (x, _) = _model(), _inputs()
    padded, lengths = torch.cat([x, torch.full_like(x, torch.nan)], dim=2), torch.full((BATCH,), SEQ)
    found = explain.memory(model, padded, lengths=lengths, over_time=True)
    np.testing.assert_allclose(found.change, explain.memory(model, x, over_time=True).change, rtol=ROUNDING)


def test_a_gap_without_end_is_left_out() -> None:
    model, x = _model(continuous=True), torch.randn(TERMS, 1, 4, 1, dtype=EXACT)
    times = torch.tensor([[0.0, 1.0, torch.inf, torch.inf]], dtype=EXACT)
    found = explain.memory(model, x, times=times)
    np.testing.assert_array_equal(found.steps, [2] * TERMS)  # the last two times are one
    np.testing.assert_allclose(found.timescale, explain.memory(model, x[:, :, :2], times=times[:, :2]).timescale)


def test_a_state_is_refused() -> None:
    model, (x, _) = _model(), _inputs()
    state = model(x, return_state=True).state
    with pytest.raises(ValueError, match="state must be None"):
        explain.memory(model, x, state=state)
    with pytest.raises(ValueError, match="return_state must be False"):
        explain.contributions(model, x, return_state=True)


def test_other_terms_and_the_timing_term() -> None:
    """The pattern of the visits stays what it was; memoryless and static terms have no memory to report."""
    columns = {"columns": [[0], [1]], "memoryless_columns": [[2]], "static_columns": [[0]]}
    model = _model(timing=True, continuous=True, missing=True, **columns)
    x, times = torch.randn(BATCH, SEQ, 3, dtype=EXACT), torch.rand(BATCH, SEQ, dtype=EXACT).cumsum(1)
    static, target = torch.randn(BATCH, 1, dtype=EXACT), torch.randn(BATCH, 1, dtype=EXACT)
    names = ["a", "b", "visits", "hour", "sex"]
    found = explain.memory(
        model, x, times=times, static=static, target=target, names=names, lengths=torch.full((BATCH,), 6)
    )
    assert found.term == ("a", "b", "visits")
    np.testing.assert_array_equal(found.steps, [5 * BATCH] * 3)
    assert found.timescale.shape == (3, 2, 4) and found.change.shape == (3, 1)
    assert found.cut_loss is not None and found.cut_loss.shape == (3,)
    assert found.change.min() > 0


def test_a_model_without_history_has_nothing_to_forget() -> None:
    model, (x, _) = _model(), _inputs()
    found = explain.memory(model, x[:, :, :1].nan_to_num(), target=torch.zeros(BATCH, 1, dtype=EXACT))
    np.testing.assert_array_equal(found.steps, 0)
    assert np.isnan(found.timescale).all()
    np.testing.assert_allclose(found.change, 0, atol=ROUNDING)
    np.testing.assert_allclose(found.cut_loss, found.loss, rtol=ROUNDING)


def test_a_state_that_is_kept_for_ever() -> None:
    model = _model(timescales=(1.0, 9.0))
    _constant_gates(model, torch.tensor([1.0, 2.0, 3.0, math.inf], dtype=EXACT))
    x, mask = _inputs()
    found = explain.memory(model, x, mask)
    assert np.isinf(found.timescale[..., 3]).all()
    np.testing.assert_allclose(found.quantiles([0.0])[..., 0], 1, rtol=ROUNDING)
    assert np.isinf(found.quantiles([1.0])).all()


def test_the_model_is_as_it_was() -> None:
    model, (x, mask) = _model(), _inputs()
    model.train()
    before = model(x, mask).prediction
    explain.memory(model, x, mask)
    assert model.training
    assert not [m for m in model.modules() if m._forward_pre_hooks]
    assert torch.equal(model(x, mask).prediction, before)
    with pytest.raises(ValueError, match="mask must be broadcastable"):
        explain.memory(model, x, mask[..., :2])
    assert not [m for m in model.modules() if m._forward_pre_hooks]


def test_a_loss_of_ones_own() -> None:
    model, (x, mask) = _model(), _inputs()
    target = torch.zeros(BATCH, 1, dtype=EXACT)
    found = explain.memory(model, x, mask, target=target, loss=lambda p, t: float((p - t).abs().max()))
    assert found.loss == pytest.approx(model(x, mask).prediction.abs().max().item(), rel=ROUNDING)
    with pytest.raises(TypeError, match="what loss gives must be a number, got Tensor"):
        explain.memory(model, x, mask, target=target, loss=lambda p, t: p - t)


def test_models_without_a_memory_are_refused() -> None:
    with pytest.raises(TypeError, match=r"model must be an rnam\.RNAM, whose terms have a memory, got NAM"):
        explain.memory(rnam.NAM(2), torch.zeros(3, 2))
    model = _model()
    model.blocks[1].gru = nn.Identity()
    with pytest.raises(
        TypeError, match=r"blocks\[1\] must be a block with a cell of rnam\.gru, got one with a Identity"
    ):
        explain.memory(model, _inputs()[0])
    model.blocks[1] = nn.Identity()
    with pytest.raises(TypeError, match=r"blocks\[1\] must be a block with a cell of rnam\.gru, got Identity"):
        explain.memory(model, _inputs()[0])
