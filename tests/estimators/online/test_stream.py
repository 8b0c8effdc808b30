"""Visits as they come give what the whole history gives, in any form and any portions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.exceptions import NotFittedError

import rnam
from rnam.estimators.online import stream
from tests.estimators.online.support import assert_whole, fitted, inputs, panel, people
from tests.support.assertions import assert_equal, assert_within

START = pandas.Timestamp("2024-03-29")


def _dates(zone: str | None) -> Any:
    df = people()
    return df.assign(day=(START + pandas.to_timedelta(df["day"] * 7, unit="h")).dt.tz_localize(zone))


def _outcomes() -> Any:
    """Each visit is followed by an event, or by its absence."""
    df = people()
    return df.assign(until=df["day"] + 1 + np.arange(len(df)) % 7)


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
    "survival": (dict(target=["until", "died"], df=_outcomes()), dict(kind=rnam.RNAMSurvival, bins=3)),
    "classes": (dict(target="kind", df=people().assign(kind=np.resize([*"abc"], len(people())))), {}),
}


@pytest.mark.parametrize("name", KINDS)
def test_visits_one_at_a_time_are_the_whole_history(name: str) -> None:
    changes, options = KINDS[name]
    df = changes.get("df", people())
    of = panel(**{"df": df, **changes})
    model = fitted(of, **options)
    live, answers = model.online(), []
    read = [name for name in df if name in {"person", "day", *(column.name for column in of.columns)}]
    for visit in df[read].to_dict("records"):
        answers.append(live.update(visit))

    def together(attribute: str) -> Any:
        rows = [np.atleast_1d(getattr(answer, attribute)) for answer in answers]
        return pandas.DataFrame(rows, pandas.MultiIndex.from_frame(df[["person", "day"]]))

    assert_whole(model, of, together("contributions"), together("decision"))
    predicted = model.predict(of)
    told = together("prediction").reindex(predicted.index).to_numpy()
    if hasattr(model, "classes_"):
        assert told[:, 0].tolist() == predicted.tolist()
        chances = model.predict_proba(of)
        assert answers[0].probability.index.tolist() == list(chances)
        told = together("probability").reindex(chances.index).to_numpy()
        assert_within("probability", told, chances.to_numpy(), 1e-6)  # links of slopes below 1
    else:
        assert_within("prediction", told, predicted.to_numpy().reshape(told.shape), 1e-6 * np.abs(told).max())


@pytest.mark.parametrize("most", [2**22, 500, 1])
def test_any_portions_are_the_whole_history(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call has many ids, some of them with several visits; a limit makes several calls of the network of it."""
    monkeypatch.setattr(stream, "_NUMBERS", most)
    df = people()
    of = panel(df)
    model = fitted(of, timing=True, continuous=True)
    live, answers = model.online(), []
    for part in np.split(np.arange(len(df)), [3, 4, len(df) // 2]):
        answers.append(live.update(inputs(df.iloc[part])))
    contributions, decision = (pandas.concat([getattr(a, of) for a in answers]) for of in ("contributions", "decision"))
    assert_whole(model, of, contributions, decision)
    assert contributions.index.equals(pandas.MultiIndex.from_frame(df[["person", "day"]]))  # in the order of the rows


def test_a_model_that_was_trained_in_bf16_answers_in_float32() -> None:
    of = panel()
    model = fitted(of, precision="bf16")
    answer = model.online().update(of)
    assert_whole(model, of, answer.contributions, answer.decision)


def test_an_id_has_a_state_which_the_network_goes_on_from() -> None:
    live = _live()
    live.update(inputs(people()))
    state = live["p3"]
    assert isinstance(state, rnam.State) and state.rows == 1
    state.contributions.zero_()
    assert live["p3"].contributions.any()  # in memory of its own
    assert "p3" in live and "p33" not in live and len(live) == 9
    assert list(live) == live.ids.tolist() and live.ids.name == "person"
    assert repr(live) == "Online(RNAMClassifier): 9 ids (person)"
    for asked in (lambda: live["p33"], lambda: live.forget("p33")):
        with pytest.raises(KeyError, match="no person 'p33' among 9 ids"):
            asked()


def test_a_forgotten_id_begins_again() -> None:
    live, visit = _live(), {"person": "p1", "day": 3, "bili": 2.0, "sex": "f"}
    first = live.update(visit)
    live.update({"person": "p1", "day": 9, "bili": 5.0})
    live.update({"person": "p2", "day": 9, "bili": 5.0})
    live.forget("p1")
    assert live.ids.tolist() == ["p2"]
    again = live.update({**visit, "sex": "f"})
    assert_equal("contributions", again.contributions.to_numpy(), first.contributions.to_numpy())


@pytest.mark.parametrize("warm_start", [False, True])
def test_a_later_fit_of_the_estimator_has_no_part_in_a_stream(warm_start: bool) -> None:
    """States of one network mean nothing to another one. An answer, too, is read when it is asked for."""
    df, model = people(), fitted()
    live, other = model.online(), fitted().online()
    first, expected = (each.update(inputs(df)) for each in (live, other))
    model.set_params(warm_start=warm_start, random_state=1, learning_rate=0.1).fit(panel())
    pandas.testing.assert_frame_equal(first.probability, expected.probability, check_exact=True)
    visit = {"person": "p1", "day": 99, "bili": 2.0}
    later, expected = (each.update(visit).contributions for each in (live, other))
    assert_equal("contributions", later.to_numpy(), expected.to_numpy())
    assert (model.online().update(visit).contributions.to_numpy() != later.to_numpy()).any()


def test_a_call_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    df = people()
    live = _live()
    live.update(inputs(df[df["day"] < 30]))
    ids, before = live.ids, [live[id] for id in live]
    later = inputs(df[df["day"] >= 30])
    monkeypatch.setattr(stream, "_NUMBERS", 1)
    calls, call = [], stream._call

    def stopped(*arguments: Any) -> Any:
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return call(*arguments)

    monkeypatch.setattr(stream, "_call", stopped)
    with pytest.raises(KeyboardInterrupt):
        live.update(later)
    assert live.ids.equals(ids)
    for id, state in zip(ids, before, strict=True):
        state.map(lambda name, own, other: assert_equal(name, other, own) or own, live[id])
    monkeypatch.setattr(stream, "_call", call)
    assert len(live.update(later)) == len(later)


def test_models_that_have_no_states_are_refused() -> None:
    with pytest.raises(NotFittedError):
        rnam.RNAMClassifier().online()
    assert not hasattr(rnam.NAMClassifier(), "online")
    with pytest.raises(TypeError, match="model must be a fitted RNAM estimator, got NAMClassifier"):
        stream.Online(rnam.NAMClassifier())
    with pytest.raises(ValueError, match="late must be one of 'refuse', 'ignore', got 'drop'"):
        _live(late="drop")


def _live(**options: Any) -> stream.Online:
    return fitted(timing=True, continuous=True).online(**options)
