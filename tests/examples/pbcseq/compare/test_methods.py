"""The baselines: what they may not know; and RNAM on single visits, which has no memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from examples import ebm
from examples.pbcseq import training
from examples.pbcseq.compare import methods
from examples.training import Progress


@pytest.fixture
def quick(monkeypatch) -> None:
    """An EBM of 2 bags."""
    monkeypatch.setattr(ebm, "BAGS", 2)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", list(methods.BASELINES))
def test_baselines_learn_from_training_people_and_visits_so_far(people, trained, name):
    if name.startswith("EBM"):
        pytest.importorskip("interpret")
    fold, ask = trained[1][0], methods.BASELINES[name]
    before = ask(people, fold, 3)
    assert before.shape == (len(fold.test), 16)
    assert ((before > 0) & (before < 1)).all()

    positive, weight, values = fold.positive.copy(), fold.weight.copy(), people.values.copy()
    positive[fold.test], weight[fold.test] = ~positive[fold.test], 5
    cut = 3
    values[:, fold.test, cut:] *= 1.7
    changed = replace(people, values=values, futime=people.futime + 900)
    after = ask(changed, replace(fold, positive=positive, weight=weight), 3)
    np.testing.assert_array_equal(after[:, :cut], before[:, :cut])
    later = people.is_visit()[fold.test, cut:]
    assert (after[:, cut:] != before[:, cut:])[later].any(), "the changed visits move"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", [name for name in methods.BASELINES if "summaries" in name])
def test_summaries_know_what_came_before_and_last_values_do_not(people, trained, name):
    if name.startswith("EBM"):
        pytest.importorskip("interpret")
    fold = trained[1][0]
    values = people.values.copy()
    last = np.arange(16) == people.length[:, None] - 1
    again = (np.cumsum(np.isfinite(values)[:, :, ::-1], axis=2)[:, :, ::-1] > 1) & ~last
    again[:, fold.train] = False
    values[again] *= 1.5
    before, after = (methods.BASELINES[name](cohort, fold, 0) for cohort in (people, replace(people, values=values)))
    assert (before != after)[last[fold.test]].sum() > 50


def test_bags_are_of_whole_people():
    person = np.repeat([5, 7, 8, 11, 30, 31, 40], [3, 1, 6, 2, 2, 2, 4])
    bags = methods.bags_by_person(person, 0)
    assert bags.shape == (len(person), ebm.BAGS)
    for bag in bags.T:
        kept = {p: set(bag[person == p].tolist()) for p in person}
        assert {len(kinds) for kinds in kept.values()} == {1}
        assert sum(kinds == {-1} for kinds in kept.values()) == 1, "15 % of 7 people"
    assert len({bag.tobytes() for bag in bags.T}) > 1
    np.testing.assert_array_equal(bags, methods.bags_by_person(person, 0))


def test_single_visits_against_a_loop(people, trained):
    settings, made, _ = trained
    fold = made[0]
    alone, changed = methods.single_visits(people, fold, settings)
    read, mask = fold.inputs.input.numpy(), fold.inputs.mask.numpy()
    visit = 0
    place = {}
    for person, visits in enumerate(people.length):
        for step in range(visits):
            for term in (0, 5, 14):  # a lab, cholesterol (often missing), a static term
                seen = np.flatnonzero(mask[term, person, : step + 1])
                assert bool(alone.inputs.mask[term, visit, 0]) == (len(seen) > 0)
                expected = read[term, person, seen[-1]] if len(seen) else (0, 0)
                np.testing.assert_array_equal(alone.inputs.input[term, visit, 0], expected)
            assert alone.positive[visit, 0] == fold.positive[person, step]
            assert alone.weight[visit, 0] == fold.weight[person, step]
            place[visit] = person
            visit += 1
    assert visit == len(alone.inputs.length) == 1945
    for ours, theirs in ((alone.train, fold.train), (alone.test, fold.test)):
        assert {place[v] for v in ours} == set(theirs)
        assert len(ours) == people.length[theirs].sum()
    assert changed == replace(settings, batch=round(64 * 1945 / 312))


def test_single_visits_have_no_memory(people, trained):
    """Earlier values leave a prediction be where all were measured again; the model with a memory moves."""
    settings, made, progress = trained
    fold = made[0]
    values = people.values.copy()
    last = np.arange(16) == people.length[:, None] - 1
    again = (np.cumsum(np.isfinite(values)[:, :, ::-1], axis=2)[:, :, ::-1] > 1) & ~last
    values[again] *= 1.5
    said = []
    for cohort in (people, replace(people, values=values)):
        seen = replace(fold, inputs=fold.scaler.inputs(cohort))
        alone, changed = methods.single_visits(cohort, seen, settings)
        single = training.log_odds(changed, progress.finished[:1], alone.inputs, torch.device("cpu"))[0][:, 0]
        whole = training.log_odds(settings, progress.finished[:1], seen.inputs, torch.device("cpu"))[0]
        said.append((single[last[people.is_visit()]], whole[last]))
    np.testing.assert_array_equal(said[0][0], said[1][0])
    assert (said[0][1] != said[1][1]).sum() > 200


def test_single_visits_train(people, trained):
    settings, made, _ = trained
    pairs = [methods.single_visits(people, fold, settings) for fold in made]
    progress = Progress()
    for _ in training.train([fold for fold, _ in pairs], pairs[0][1], progress, torch.device("cpu")):
        pass
    fold = pairs[0][0]
    odds = training.log_odds(pairs[0][1], progress.finished[:1], fold.inputs, torch.device("cpu"))[0][fold.test, 0]
    positive, weight = fold.positive[fold.test, 0], fold.weight[fold.test, 0] > 0
    assert np.isfinite(odds).all()
    assert odds[positive & weight].mean() > odds[~positive & weight].mean()
