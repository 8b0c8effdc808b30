"""The demo on the kernels, in Triton's interpreter: a few steps give the loss of the reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import rnam
from examples.pbcseq import data, training

pytestmark = pytest.mark.interpreter

STEPS = 3


def losses(backend: str, people: data.Cohort) -> list[float]:
    """The weighted loss before each of a few steps of the demo's optimiser, over all the people at once."""
    settings = training.Settings(hidden_dim=8)
    fold = training.make_folds(people, replace(settings, folds=2))[0]
    inputs, positive = fold.inputs, torch.tensor(fold.positive, dtype=torch.float32)
    weight = torch.tensor(fold.weight, dtype=torch.float32)
    torch.manual_seed(0)
    model = settings.model()
    optimizer = settings.optimizer(model)
    found = []
    with rnam.set_backend(backend):
        for _ in range(STEPS):
            prediction, contributions = model(inputs.input, inputs.mask, lengths=inputs.length, return_sequence=True)
            loss = F.binary_cross_entropy_with_logits(prediction[..., 0], positive, weight)
            loss = loss + settings.penalty * contributions.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
    return found


def test_a_few_steps_have_the_loss_of_the_reference(small):
    """Adam divides each gradient by its own size, so a step moves a parameter by the learning rate whatever the
    gradient's size: where rounding decides a sign the step differs by twice that. Of the loss, float32 leaves
    some 1e-6 after the few steps where no gradient is that small; 1e-4 would be a wrong kernel.
    """
    on_kernels, expected = losses("triton", small), losses("reference", small)
    assert expected[0] > expected[-1] > 0, "it learns"
    for got, want in zip(on_kernels, expected, strict=True):
        assert abs(got - want) <= 1e-5 * want
