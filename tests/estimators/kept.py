"""Models of each version of the format, which every later rnam reads. `python -m tests.estimators.kept` adds those that
the version which the package writes does not have; what is there is never written again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from torch import nn

import rnam
from rnam.estimators.folder import VERSION

FILES = Path(__file__).parent / "files"


def panel() -> rnam.Panel:
    """Dates in a zone, a period, categories of visits and ids, gaps, labels at visits."""
    day = pandas.date_range("2020-03-27", periods=6, tz="Europe/Berlin", unit="s")
    frame = pandas.DataFrame(
        {
            "person": ["b", "b", "b", "a", "a", "c"],
            "day": day[[0, 1, 3, 0, 5, 2]],
            "bili": [1.0, np.nan, 3.5, 0.5, 0.75, 2.0],
            "ward": ["x", "y", None, "x", "z", "y"],
            "hour": [0, 6, 12, 18, 3, 9],
            "age": [50.0, 50.0, 50.0, 41.0, 41.0, 33.0],
            "sex": ["f", "f", "f", "m", "m", "m"],
            "state": ["well", "ill", "well", "well", "ill", "ill"],
        }
    )
    return rnam.Panel.from_frame(
        frame, id="person", time="day", values=["bili"], categories=["ward"], cyclic={"hour": 24}, memoryless=["hour"],
        static=["age", "sex"], target="state", at="visit", units={"bili": "mg/dl"}, titles={"bili": "Bilirubin"},
    )  # fmt: skip


def rows() -> Any:
    return pandas.DataFrame(
        {"age": [50.0, 41.0, np.nan, 33.0], "ward": ["x", "y", "x", "z"], "smokes": [True, False] * 2}
    )


QUICK: dict[str, Any] = dict(max_epochs=2, learning_rate=0.1, validation=None, random_state=0, verbose=0)


def visits_model() -> Any:
    model = rnam.RNAMClassifier(3, members=2, pairs=[("bili", "ward")], timing=True, class_weight="balanced", **QUICK)
    return model.fit(panel())


def rows_model() -> Any:
    y = pandas.DataFrame({"low": [1.0, 2.0, 4.0, 8.0], "high": [9.0, 7.0, 8.0, 5.0]})
    return rnam.NAMRegressor((3, 2), loss="gaussian", pairs=1, regularizer={"concurvity": 0.1}, **QUICK).fit(rows(), y)


def courses() -> rnam.Panel:
    """Days as numbers, and times to an event at visits, of which some are not known."""
    frame = pandas.DataFrame(
        {
            "person": np.repeat([7, 3, 5, 9], 2),
            "day": [0, 10, 0, 20, 5, 30, 0, 40],
            "bili": [1.0, np.nan, 3.5, 4.5, 0.5, 0.75, 2.0, 1.5],
            "until": np.repeat([60.0, 45.0, 90.0, 75.0], 2),
            "died": np.repeat([True, True, False, True], 2),
        }
    )
    roles: dict[str, Any] = dict(values=["bili"], target=["until", "died"], at="visit", time_unit="day")
    return rnam.Panel.from_frame(frame, id="person", time="day", **roles)


def survival_model() -> Any:
    return rnam.RNAMSurvival(8, times=[5, 10], bins=2, time_scale="clock", **QUICK).fit(courses())


def horizons_model() -> Any:
    return rnam.RNAMSurvival(8, times=[40.0, 80.0], method="ipcw", **QUICK).fit(courses())


def network() -> Any:
    torch.manual_seed(0)
    model = rnam.RNAM(
        2, 3, 1, 2, columns=[[0], [1, 2]], missing=True, static_columns=[[0]], cell="minlstm", timescales=(1, 9),
        dtype=torch.bfloat16,
    )  # fmt: skip
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0, 0.5)
    rnam.explain.describe(model, ["a", "b", "c"], ["mg", "", "years"])
    return model


def network_answer(model: Any) -> Any:
    """In float64, in which another order of the sums counts for nothing."""
    x = torch.arange(24, dtype=torch.float64).reshape(2, 4, 3).sin()
    found = model.double()(x, mask=x > -0.9, static=x[:, 0, :1], return_sequence=True)
    return found.prediction[..., 0].detach().numpy()


KEPT: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], float]] = {
    # float32: a sum of fewer than 1,000 products of size 10 and less, each of which is rounded by 2^-24 of itself
    "visits.rnam": (visits_model, lambda model: model.decision_function(panel()), 1000 * 10 * 2**-24),
    "rows.rnam": (rows_model, lambda model: model.predict(rows()), 1000 * 10 * 2**-24),
    "survival.rnam": (survival_model, lambda model: model.predict(courses()), 1000 * 10 * 2**-24),
    "horizons.rnam": (horizons_model, lambda model: model.predict_survival(courses()), 1000 * 10 * 2**-24),
    "network.rnam": (network, network_answer, 1000 * 10 * 2**-53),
}


def main() -> None:
    place = FILES / f"version-{VERSION}"
    place.mkdir(parents=True, exist_ok=True)
    told = place / "answers.json"
    answers = json.loads(told.read_text()) if told.exists() else {}
    for name, (make, answer, _) in KEPT.items():
        if name not in answers:
            rnam.save(make(), place / name)
            answers[name] = np.asarray(answer(rnam.load(place / name))).tolist()
    told.write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main()
