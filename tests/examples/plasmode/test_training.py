"""The models: what they may not know, and that they add up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from examples.plasmode import data, training
from examples.training import Progress
from rnam import explain
from tests.support.assertions import assert_equal

CPU = torch.device("cpu")


def test_a_seed_halves_a_choice_of_people(people):
    settings = training.Settings(people=61, members=3)
    task = training.Task.make(people, settings)
    assert (len(task.train.id), len(task.test.id)) == (31, 30)
    assert not set(task.train.id) & set(task.test.id)
    assert task.positive_train.shape == task.train.day.shape and task.positive_test.shape == task.test.day.shape
    assert task.weight.shape == (3, 31)
    assert (task.weight.sum(1) == 31).all()
    other = training.Task.make(people, replace(settings, seed=1))
    assert set(other.train.id) != set(task.train.id)


def test_both_kinds_are_trained_on_the_same_visits_outcomes_and_weights(people):
    task = training.Task.make(people, training.Settings(people=60, members=2))
    full, last = (training.Rows.of(kind, task, CPU) for kind in training.KINDS)
    counted = full.counted.bool()
    assert torch.equal(full.positive[counted], last.positive[:, 0])
    assert last.counted.all() and last.inputs.input.shape[1] == 1
    assert torch.equal(full.weight[:, :, None].expand(-1, *counted.shape)[:, counted], last.weight)


def test_what_is_trained_is_the_weighted_cross_entropy_of_each_member(people):
    """After one full step of a constant: the gradient of each member's bias is its weighted residual."""
    settings = training.Settings(people=60, members=2, epochs=1, batch=100, penalty=0.0)
    task = training.Task.make(people, settings)
    assert settings.steps() == 1
    for number, kind in enumerate(training.KINDS):
        (running,) = training._train_one(task, CPU, number, None)
        names = [name for name, _ in settings.model().named_parameters()]
        moment = (
            running.optimizer["state"][names.index("gam.bias")]["exp_avg"] / 0.1
        )  # the gradient; AdamW's beta is 0.9
        rows = training.Rows.of(kind, task, CPU)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed_for(3, number))
            model = settings.model()
        rate = (rows.positive * rows.counted).sum() / rows.counted.sum()
        torch.nn.init.constant_(model.gam.bias, float(torch.logit(rate)))
        with torch.no_grad():
            odds, _ = model(**rows.inputs.keywords(), return_sequence=True, return_members=True)
        residual = (odds[..., 0].sigmoid() - rows.positive) * rows.counted * rows.weight[:, :, None]
        expected = residual.double().sum((1, 2)) / rows.counted.sum()
        # some 200 residuals below 1 in float32, summed in another order
        torch.testing.assert_close(moment[:, 0].double(), expected, atol=200 * 2**-24, rtol=1e-4)


def test_no_prediction_moves_when_later_visits_change(trained):
    task, progress = trained
    people, cut = task.test, 3
    values, day = people.values.copy(), people.day.copy()
    values[:, :, cut:] = np.where(np.isnan(values[:, :, cut:]), 50, np.nan)
    day[:, cut:] += 100
    changed = data.Cohort(values, day, people.length, people.facts, people.id)
    parts = [
        training.read(task.settings, progress.finished[0], task.scaler.sequences(cohort), CPU, rows=7)[0]
        for cohort in (people, changed)
    ]
    np.testing.assert_array_equal(*(part[:, :, :, :cut] for part in parts))
    later = people.length > cut
    assert (parts[0][:, later][:, :, :, cut] != parts[1][:, later][:, :, :, cut]).any((0, 2, 3)).all()


def test_training_reads_the_outcome_of_the_training_people_alone(trained):
    task, progress = trained
    again = Progress()
    for _ in training.train(replace(task, positive_test=~task.positive_test), again, CPU):
        pass
    for one, other in zip(again.finished, progress.finished, strict=True):
        assert_equal("finished", one, other)


def test_what_is_read_does_not_depend_on_how_many_rows_are_read_at_a_time(trained):
    task, progress = trained
    inputs = task.scaler.sequences(task.test)
    whole, bias = training.read(task.settings, progress.finished[0], inputs, CPU, rows=1000)
    parts, same = training.read(task.settings, progress.finished[0], inputs, CPU, rows=11)
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)  # products of other sizes round otherwise
    np.testing.assert_array_equal(bias, same)
    model = task.settings.model()
    model.load_state_dict(progress.finished[0])
    with torch.no_grad():
        odds = model(**inputs.keywords(), return_sequence=True, return_members=True).prediction
    np.testing.assert_allclose(whole.sum(2) + explain.intercept(model)[:, None, None], odds, rtol=1e-5, atol=1e-6)


def test_before_sbp_is_measured_a_member_says_one_thing(trained):
    task, progress = trained
    parts, _ = training.read(task.settings, progress.finished[0], task.scaler.sequences(task.test), CPU)
    never = task.test.is_visit() & ~task.truth_test.observed[1]
    said = parts[:, :, 1, :, 0][:, never]
    assert never.sum() > 50
    assert (said == said[:, :1]).all()
    assert (said[:, 0] == progress.finished[0]["missing"].view(2, -1)[:, 1].numpy()).all()
    assert (said != 0).all(), "learned"
