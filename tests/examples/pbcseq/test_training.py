"""The models: what they may not know, and that they add up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from examples.pbcseq import data, training
from examples.training import seed_for
from tests.support.assertions import assert_equal


def test_no_prediction_moves_when_later_visits_or_the_outcome_change(people, trained):
    settings, made, progress = trained
    fold, models = made[0], progress.finished[:1]
    cut = 2  # visits from the third on are changed
    values, day = people.values.copy(), people.day.copy()
    values[:, fold.test, cut:] *= 1.7
    values[:6, fold.test, cut::2] = np.nan
    day[fold.test, cut:] += 100
    shorter = np.minimum(people.length, np.where(np.arange(len(people.id)) % 2 == 0, cut, 16))
    length = np.where(np.isin(np.arange(len(people.id)), fold.test), shorter, people.length)
    changed = replace(people, values=values, day=day, futime=people.futime + 900, event=~people.event)
    truncated = replace(people, length=length)

    def predicted(cohort: data.Cohort) -> np.ndarray:
        return training.log_odds(settings, models, fold.scaler.inputs(cohort), torch.device("cpu"))[0]

    before = predicted(people)
    many = fold.test[people.length[fold.test] > cut]
    for cohort in (changed, truncated):
        np.testing.assert_array_equal(predicted(cohort)[:, :cut], before[:, :cut])
    assert (predicted(changed)[many, cut] != before[many, cut]).all(), "the changed visit itself moves"


def test_training_reads_the_outcome_of_the_training_people_alone(people, trained):
    settings, made, progress = trained
    futime, event = people.futime.copy(), people.event.copy()
    test = made[0].test
    futime[test], event[test] = people.futime[test][::-1], ~event[test]
    positive, _ = data.outcome(replace(people, futime=futime, event=event))
    weight = made[0].weight.copy()
    weight[test] = 7
    fold = replace(made[0], positive=positive, weight=weight)
    again = training.Progress()
    for _ in training.train([fold, made[1]], settings, again, torch.device("cpu")):
        if again.finished:
            break
    assert_equal("finished", again.finished[0], progress.finished[0])


def test_a_missing_lab_keeps_its_last_contribution(people, trained):
    settings, made, progress = trained
    inputs = made[0].inputs
    predicted, contributions = training.log_odds(settings, progress.finished[:1], inputs, torch.device("cpu"))
    missing = ~inputs.mask.numpy()[:, :, 1:] & people.is_visit()[:, 1:]
    assert missing[[not term.static for term in data.TERMS]].sum() > 500
    np.testing.assert_array_equal(contributions[:, :, 1:][missing], contributions[:, :, :-1][missing])
    assert (contributions[:, :, 0][~inputs.mask.numpy()[:, :, 0]] == 0).all(), "before the first, 0"
    bias = progress.finished[0]["gam.bias"].item()
    # 16 float32 numbers below 4 in any order: 16 roundings of 2^-24 * 4 * 16 at most
    np.testing.assert_allclose(contributions.sum(0) + bias, predicted, atol=16 * 64 * 2**-24)


def test_the_average_of_members_is_additive(people, trained):
    settings, made, progress = trained
    parts = [training.log_odds(settings, [state], made[0].inputs, torch.device("cpu")) for state in progress.finished]
    both = training.log_odds(settings, progress.finished, made[0].inputs, torch.device("cpu"))
    for a, b, mean in zip(*parts, both, strict=True):
        np.testing.assert_allclose(mean, (a + b) / 2, rtol=1e-6, atol=1e-6)


def test_no_two_models_and_no_two_epochs_share_a_seed():
    """A path and that path with 0 at its end do, as the docstring says: one is torch's and one numpy's."""
    settings = training.Settings()
    models = [(fold, member) for fold in range(settings.folds) for member in range(settings.members)]
    epochs = [(*model, epoch) for model in models for epoch in range(settings.epochs)]
    for paths in (models, epochs):
        assert len({settings.seed_for(*path) for path in paths}) == len(paths)
    assert settings.seed_for(1, 2) == settings.seed_for(1, 2, 0)
    assert "one seed" in seed_for.__doc__
