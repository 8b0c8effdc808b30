"""A whole training on the kernels, in Triton's interpreter, beside the same on the reference."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rnam
from examples.training import Running, fit
from rnam.backends import choice
from tests.support import bounds

pytestmark = pytest.mark.interpreter

TERMS, PEOPLE, VISITS = 5, 12, 5
EPOCHS, BATCH, RATE, PENALTY = 2, 3, 3e-3, 0.01  # four steps in an epoch


@dataclass(frozen=True)
class Run:
    """What a training comes to, in float64.

    gradients  their running means after the first epoch: AdamW itself is blind to the scale of a gradient
    parameters, log_odds, loss   at the end, the latter two of all people
    """

    gradients: Tensor
    parameters: Tensor
    log_odds: Tensor
    loss: Tensor

    def norms(self) -> dict[str, float]:
        return {name: float(value.norm()) for name, value in vars(self).items()}

    def error(self, exact: Run) -> dict[str, float]:
        return Run(*(a - b for a, b in zip(vars(self).values(), vars(exact).values(), strict=True))).norms()


def run(dtype: torch.dtype = torch.float32, penalty: float = PENALTY) -> Run:
    """Train on made-up people with 1 to 5 visits, a third of the values missing; every second one is positive."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(TERMS, PEOPLE, VISITS, 2, generator=draw).to(dtype)
    mask = torch.rand(TERMS, PEOPLE, VISITS, generator=draw) > 1 / 3
    positive = (torch.arange(PEOPLE) % 2).to(dtype)[:, None].expand(-1, VISITS)
    lengths = 1 + torch.arange(PEOPLE) % VISITS
    weight = (torch.arange(VISITS) < lengths[:, None]) * (1 + torch.rand(PEOPLE, VISITS, generator=draw).to(dtype))
    torch.manual_seed(0)
    model = rnam.RNAM(TERMS, 8, out_dim=1, blocks=1, in_dim=2).to(dtype)

    def losses(some: Tensor) -> tuple[Tensor, Tensor]:
        told = model(x[:, some], mask[:, some], lengths=lengths[some], return_sequence=True)
        odds = told.prediction[..., 0]
        each = F.binary_cross_entropy_with_logits(odds, positive[some], reduction="none")
        each = each + penalty * told.contributions[..., 0].square().sum(0)
        return (each * weight[some]).sum() / (weight.sum() / PEOPLE * len(some)), odds

    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    states: list[Running] = []
    for state in fit(
        model, optimizer, lambda _: torch.arange(PEOPLE).split(BATCH), lambda some: losses(some)[0],
        rate=RATE, epochs=EPOCHS, running=None,
    ):  # fmt: skip
        if not states:
            moments = [own["exp_avg"].double().ravel() for own in state.optimizer["state"].values()]
            gradients = torch.cat(moments)
        states.append(state)
    with torch.no_grad():
        loss, odds = losses(torch.arange(PEOPLE))
    parameters = torch.cat([value.double().ravel() for value in states[-1].model.values()])
    return Run(gradients, parameters, odds.double(), loss.double())


def test_training_on_the_kernels_ends_where_the_reference_does(monkeypatch):
    """Both float32 trainings are held against one in float64 from the same parameters.

    A step of AdamW, p <- p - rate * (decay * p + m / sqrt(v)), has three sources of error:

    storing   each parameter is rounded: half a unit of p for each step;
    gradient  an error d of a gradient g changes m / sqrt(v), whose size is about 1, by d / |g|, and the parameter
              by rate * d / |g| with a rate of 3e-3 at most. Where g all but cancels, that is 2 * rate at worst,
              which no bound on d alone excludes;
    growth    what the parameters are off by changes the gradients of the next step.

    None is the kernels' own: they round as many operations as the reference, in another order. So the float32
    reference, whose error is measured here, tells all three, cancelling gradients included, and the kernels may
    err as tests.support.bounds allows everywhere: twice as much, and a band of 8 units of the whole (the norm
    of all gradients, that of all parameters, of all log-odds, the loss) for the order of sums.
    """
    used = []
    decide = choice.path

    def noted(device: torch.device, dtype: torch.dtype) -> str:
        used.append(decide(device, dtype))
        return used[-1]

    monkeypatch.setattr(choice, "path", noted)
    with rnam.set_backend("reference"):
        exact = run(torch.float64)
        reference = run()
        other = run(penalty=1.1 * PENALTY)
    assert set(used) == {"reference"}
    used.clear()
    with rnam.set_backend("triton"):
        kernels = run()
    assert set(used) == {"triton"}

    band, sizes, plain = bounds.BAND * bounds.unit(torch.float32), exact.norms(), reference.error(exact)
    for name, error in kernels.error(exact).items():
        tolerance = 2 * plain[name] + band * sizes[name]
        assert error <= tolerance, name
        # the tolerance is not wide: a penalty that is a tenth larger is told apart
        assert other.error(exact)[name] > 10 * tolerance, name
