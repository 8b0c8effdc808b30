"""The models: what they may not know, and that they add up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from examples.finished import CheckpointError, Finished
from examples.pbcseq import data, models
from tests.support.assertions import assert_equal, assert_within


def test_no_prediction_moves_when_later_visits_or_the_outcome_change(visits: Any, made: Any, models: Any) -> None:
    model, test = models[0], visits[made[0].is_test].reset_index(drop=True)
    step = test.groupby("id").cumcount()
    labs = [term.column for term in data.TERMS if not term.static]
    changed = test.copy()
    changed.loc[step >= 2, labs] *= 1.7
    changed.loc[(step >= 2) & (step % 2 == 0), labs[:6]] = np.nan
    changed.loc[step >= 2, "day"] += 100
    changed["outcome"] = 1 - test["outcome"]
    before, after, shorter = (
        model.decision_function(data.panel(frame)).to_numpy() for frame in (test, changed, test[step < 2])
    )
    early = (step < 2).to_numpy()
    assert_equal("changed", after[early], before[early])
    # the same numbers in batches of another shape: float32 roundings of sums near 1
    assert_within("cut", shorter, before[early], 2**-18)
    assert (after[~early] != before[~early]).mean() > 0.9, "the changed visits themselves move"


def test_a_missing_lab_keeps_its_last_contribution(visits: Any, made: Any, models: Any) -> None:
    test = visits[made[0].is_test].reset_index(drop=True)
    parts = models[0].contributions(made[0].test).reset_index(drop=True)
    labs = [term.column for term in data.TERMS if not term.static]
    later = test.groupby("id").cumcount() > 0
    missing = test[labs].isna().to_numpy() & later.to_numpy()[:, None]
    assert missing.sum() > 200
    before = parts[labs].shift(1).to_numpy()
    assert_equal("contributions", parts[labs].to_numpy()[missing], before[missing])


def test_training_reads_the_training_people_alone(visits: Any, made: Any) -> None:
    settings, cpu = models.Settings(folds=2, epochs=1, members=1, hidden=4), torch.device("cpu")
    fold, told = made[0], []
    changed = visits.assign(**{name: visits[name] + 5 * fold.is_test for name in ("bili", "futime", "age")})
    for frame in (visits, changed):
        again = data.folds(frame, 2, 0)[0]
        model = settings.model(cpu).fit(again.train, sample_weight=again.weight[~again.is_test])
        told.append(model.decision_function(fold.test).to_numpy())
    assert_equal("log-odds", told[1], told[0])


def test_an_interrupted_fit_is_not_kept(made: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pressed(Callback):  # type: ignore[misc]
        def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
            if len(net.history) == 2:
                raise KeyboardInterrupt

    finished = Finished(tmp_path / "finished.json", {})
    model = models.Settings(epochs=3, members=1, hidden=4).model(torch.device("cpu"))
    with pytest.raises(KeyboardInterrupt):
        models.trained(made, model.set_params(callbacks=[Pressed()]), finished)
    assert finished.done == {} and [each.name for each in tmp_path.iterdir()] == ["finished.json"]


def test_a_damaged_model_is_refused_by_name(made: Any, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "finished.json"
    weights = tmp_path / "run" / "fold1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    model = models.Settings().model(torch.device("cpu"))
    with pytest.raises(CheckpointError, match=r"model.safetensors must have .* Delete .*run to start over"):
        models.trained(made, model, Finished(path, json.loads(path.read_text())["settings"]))
