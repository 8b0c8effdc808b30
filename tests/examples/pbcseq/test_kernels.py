"""The demo's training on the kernels, in Triton's interpreter, beside the same on the reference."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

import rnam
from examples.pbcseq import data, training
from rnam.backends import choice
from tests.examples.pbcseq.support import frame
from tests.support import bounds

pytestmark = pytest.mark.interpreter

CPU = torch.device("cpu")
SETTINGS = training.Settings(folds=2, epochs=2, members=1, hidden_dim=8, batch=3)  # two steps in an epoch


class Double(training.Settings):
    """The same models in float64, from the same float32 parameters."""

    def model(self) -> rnam.RNAM:
        return super().model().double()


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


def cohort() -> data.Cohort:
    """Twelve made-up people with 1 to 5 visits, a third of the cholesterol missing; every second one dies."""
    days = {person: [400 * visit for visit in range(1 + person % 5)] for person in range(12)}
    futime = {person: visits[-1] + (500 if person % 2 else 900) for person, visits in days.items()}
    return data.cohort(frame(days, futime, {person: 2 * (person % 2) for person in days}))


def run(people: data.Cohort, settings: training.Settings) -> Run:
    """Train the model of the first of two folds."""
    fold, other = training.make_folds(people, settings)
    if isinstance(settings, Double):
        fold = replace(fold, inputs=replace(fold.inputs, input=fold.inputs.input.double()))
    progress = training.Progress()
    for now in training.train([fold, other], settings, progress, CPU):
        if now.finished:
            break
        state = now.running.optimizer["state"]
        gradients = torch.cat([moments["exp_avg"].double().ravel() for moments in state.values()])
    odds, _ = training.log_odds(settings, progress.finished, fold.inputs, CPU)
    loss = (fold.weight * (np.logaddexp(0, odds) - fold.positive * odds)).sum()
    return Run(
        gradients=gradients,
        parameters=torch.cat([value.double().ravel() for value in progress.finished[0].values()]),
        log_odds=torch.tensor(odds),
        loss=torch.tensor(loss),
    )


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
    people, used = cohort(), []
    decide = choice.path

    def noted(device: torch.device, dtype: torch.dtype) -> str:
        used.append(decide(device, dtype))
        return used[-1]

    monkeypatch.setattr(choice, "path", noted)
    with rnam.set_backend("reference"):
        exact = run(people, Double(**vars(SETTINGS)))
        reference = run(people, SETTINGS)
        other = run(people, replace(SETTINGS, penalty=1.1 * SETTINGS.penalty))
    assert set(used) == {"reference"}
    used.clear()
    with rnam.set_backend("triton"):
        kernels = run(people, SETTINGS)
    assert set(used) == {"triton"}

    band, sizes, plain = bounds.BAND * bounds.unit(torch.float32), exact.norms(), reference.error(exact)
    for name, error in kernels.error(exact).items():
        tolerance = 2 * plain[name] + band * sizes[name]
        assert error <= tolerance, name
        # the tolerance is not wide: a penalty that is a tenth larger is told apart
        assert other.error(exact)[name] > 10 * tolerance, name
