"""The baselines: what they may not know; and RNAM on single visits, which has no memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from examples import ebm
from examples.pbcseq import data
from examples.pbcseq.compare import methods
from examples.pbcseq.models import Settings
from tests.examples.pbcseq.support import measured_again
from tests.support.assertions import assert_equal


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An EBM of 2 bags."""
    monkeypatch.setattr(ebm, "BAGS", 2)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", list(methods.BASELINES))
def test_baselines_learn_from_training_people_and_visits_so_far(visits: Any, made: Any, name: str) -> None:
    if name.startswith("EBM"):
        pytest.importorskip("interpret")
    fold, ask = made[0], methods.BASELINES[name]
    before = ask(visits, fold, 3)
    assert before.shape == (fold.is_test.sum(),)
    assert ((before > 0) & (before < 1)).all()

    step = visits.groupby("id").cumcount().to_numpy()
    labs = [term.column for term in data.TERMS if not term.static]
    changed = visits.assign(outcome=np.where(fold.is_test, 1 - visits["outcome"], visits["outcome"]))
    changed.loc[fold.is_test & (step >= 3), labs] *= 1.7
    after = ask(changed, fold._replace(weight=np.where(fold.is_test, 5, fold.weight)), 3)
    early = step[fold.is_test] < 3
    assert_equal("early visits", after[early], before[early])
    assert (after[~early] != before[~early]).any(), "the changed visits move"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", [name for name in methods.BASELINES if "summaries" in name])
def test_summaries_know_what_came_before(visits: Any, made: Any, name: str) -> None:
    fold = made[0]
    again = measured_again(visits) & fold.is_test[:, None]
    changed = visits.copy()
    changed[again.columns] = visits[again.columns].where(~again, 1.5 * visits[again.columns])
    last = ~visits["id"].duplicated(keep="last").to_numpy()[fold.is_test]
    before, after = (methods.BASELINES[name](frame, fold, 0) for frame in (visits, changed))
    assert (before != after)[last].sum() > 50


def test_bags_are_of_whole_people() -> None:
    person = np.repeat([5, 7, 8, 11, 30, 31, 40], [3, 1, 6, 2, 2, 2, 4])
    bags = methods.bags_by_person(person, 0)
    assert bags.shape == (len(person), ebm.BAGS)
    for bag in bags.T:
        kept = {p: set(bag[person == p].tolist()) for p in person}
        assert {len(kinds) for kinds in kept.values()} == {1}
        assert sum(kinds == {-1} for kinds in kept.values()) == 1, "15 % of 7 people"
    assert len({bag.tobytes() for bag in bags.T}) > 1
    np.testing.assert_array_equal(bags, methods.bags_by_person(person, 0))


def test_single_visits_are_the_last_values_of_each_visit(visits: Any, made: Any) -> None:
    alone = methods.single_visits(visits, made)[0]
    assert alone.train.ids.append(alone.test.ids).sort_values().tolist() == list(range(1945))
    assert (alone.test.lengths == 1).all()
    assert_equal("visits", alone.test.ids, np.flatnonzero(made[0].is_test))
    names = [str(column.name) for column in alone.test.schema.values]
    assert names == [*data.COLUMNS[:12], "timing"]
    last = data.logged(visits).groupby("id")[data.COLUMNS].ffill()[made[0].is_test]
    for at, name in enumerate(names[:12]):
        assert_equal(name, alone.test.values[:, at], last[name].to_numpy(), nan=True)
    assert_equal("years", alone.test.values[:, 12], visits["timing"].fillna(0)[made[0].is_test])
    assert_equal("outcome", np.asarray(alone.test.target), visits["outcome"][made[0].is_test].to_numpy(), nan=True)


def test_single_visits_have_no_memory_and_as_many_steps(visits: Any, made: Any) -> None:
    """Earlier values leave a prediction be where all were measured again."""
    settings = Settings(folds=2, epochs=1, members=1, hidden=4)
    model = methods.single_model(visits, settings, torch.device("cpu"))
    assert model.batch_size == round(64 * 1945 / 312) and not model.timing
    again = measured_again(visits)
    changed = visits.copy()
    changed[again.columns] = visits[again.columns].where(~again, 1.5 * visits[again.columns])
    fold = methods.single_visits(visits, made)[0]
    model.fit(fold.train, sample_weight=fold.weight[~fold.is_test])
    told = [
        model.decision_function(methods.single_visits(frame, made)[0].test).to_numpy() for frame in (visits, changed)
    ]
    last = ~visits["id"].duplicated(keep="last").to_numpy()[made[0].is_test]
    assert_equal("last visits", told[1][last], told[0][last])
    assert (told[1][~last] != told[0][~last]).sum() > 200
