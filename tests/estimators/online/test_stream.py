"""Visits as they come give what the whole history gives, in any form and any portions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest

import rnam
from rnam.estimators.online import stream
from tests.estimators.online.support import assert_whole, fitted, inputs, live, panel, people
from tests.support.assertions import assert_equal

START = pandas.Timestamp("2024-03-29")


def _dates(zone: str | None) -> Any:
    df = people()
    return df.assign(day=(START + pandas.to_timedelta(df["day"] * 7, unit="h")).dt.tz_localize(zone))


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (dict(categories=[], static=[], cyclic={}, memoryless=[]), dict(continuous=False)),
    "steps": ({}, dict(continuous=False, blocks=2)),
    "continuous": ({}, dict(continuous=True)),
    "timing": ({}, dict(continuous=True, timing=True, members=3)),
    "minlstm": ({}, dict(continuous=True, cell="minlstm")),
    "pairs": ({}, dict(pairs=[("bili", "albumin"), ("bili", "ward"), ("age", "albumin"), ("age", "sex")])),
    "dates": (dict(df=_dates(None), time_unit="hour"), dict(timing=True)),
    "zone": (dict(df=_dates("Europe/Berlin"), time_unit="hour"), dict(continuous=True)),
    "regression": (dict(target=["days", "died"]), dict(kind=rnam.RNAMRegressor, timing=True)),
    "quantiles": (dict(target="days"), dict(kind=rnam.RNAMRegressor, loss="quantile", quantiles=[0.1, 0.9])),
    "poisson": (dict(target="died"), dict(kind=rnam.RNAMRegressor, loss="poisson")),
    "classes": (dict(target="kind", df=people().assign(kind=np.resize([*"abc"], len(people())))), {}),
}


@pytest.mark.parametrize("name", KINDS)
def test_visits_one_at_a_time_are_the_whole_history(name: str) -> None:
    changes, options = KINDS[name]
    df = changes.get("df", people())
    of = panel(**{"df": df, **changes})
    model = fitted(of, **options)
    live, answers = model.online(), []
    visits = df.drop(columns=["died", "days", "kind"], errors="ignore")
    visits = visits[[column for column in visits if column in {c.name for c in of.columns} | {"person", "day"}]]
    for _, visit in visits.iterrows():
        answers.append((visit["person"], visit["day"], live.update(visit.to_dict())))
    index = pandas.MultiIndex.from_tuples([(id, time) for id, time, _ in answers])
    contributions = pandas.DataFrame([answer.contributions for *_, answer in answers]).set_axis(index)
    decision = pandas.DataFrame([np.atleast_1d(answer.decision) for *_, answer in answers]).set_axis(index)
    assert_whole(model, of, contributions, decision)
    predicted = model.predict(of)
    told = pandas.DataFrame([np.atleast_1d(answer.prediction) for *_, answer in answers]).set_axis(index)
    told = told.reindex(predicted.index).to_numpy()
    if name == "classes" or not hasattr(model, "intercept_") or hasattr(model, "classes_"):
        assert_equal("prediction", told[:, 0] == predicted.to_numpy(), np.ones(len(of.times), bool))
        chances = model.predict_proba(of)
        own = pandas.DataFrame([answer.probability for *_, answer in answers]).set_axis(index).reindex(chances.index)
        assert list(own) == list(chances)
        np.testing.assert_allclose(own, chances, rtol=0, atol=1e-5)
    else:
        np.testing.assert_allclose(told, np.asarray(predicted).reshape(told.shape), rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_any_portions_are_the_whole_history(seed: int) -> None:
    """One call has many ids, some of them with several visits; a small limit makes several calls of the model."""
    df, rng = people(), np.random.default_rng(seed)
    of = panel(df)
    model = fitted(of, timing=True, continuous=True)
    live, parts = model.online(), []
    cuts = np.sort(rng.choice(len(df), 3, replace=False))
    for part in np.split(np.arange(len(df)), cuts):
        parts.append(live.update(inputs(df.iloc[part])) if len(part) else None)
    parts = [part for part in parts if part is not None]
    whole = pandas.concat([part.contributions for part in parts]), pandas.concat([part.decision for part in parts])
    assert_whole(model, of, *whole)
    assert whole[0].index.equals(pandas.MultiIndex.from_frame(df[["person", "day"]]))  # in the order of the rows
