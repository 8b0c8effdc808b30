"""Recovery and coverage, of models that are made to say what is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from examples.plasmode import baselines, evaluation, training
from examples.plasmode.truth import IDLE, TERM
from examples.sequences import carried_forward

CPU = torch.device("cpu")


def says(monkeypatch, task, errors: np.ndarray, constants: np.ndarray | float = 0.0) -> evaluation.Recovery:
    """The recovery of members that say the truth plus errors (members, 1, terms, 1, 1), and constants that the bias
    takes back."""
    truth = np.moveaxis(task.truth_test.contributions, 0, 1)[None, ..., None]
    parts = truth + errors + constants
    bias = np.broadcast_to(-1.5 - np.sum(np.broadcast_to(constants, errors.shape), axis=(1, 2, 3)), (len(errors), 1))
    monkeypatch.setattr(evaluation, "read", lambda *_: (parts, bias))
    return evaluation.recover(task, {}, CPU)


def test_the_truth_is_recovered_whatever_constants_members_have(trained, monkeypatch):
    task, _ = trained
    terms = len(TERM)
    constants = np.random.default_rng(0).normal(size=(3, 1, terms, 1, 1))
    found = says(monkeypatch, task, np.zeros((3, 1, terms, 1, 1)), constants)
    visits = task.test.is_visit()
    np.testing.assert_allclose(found.mean, found.truth, atol=1e-12)
    np.testing.assert_allclose(found.sd, 0, atol=1e-12)
    np.testing.assert_allclose(found.odds, task.truth_test.log_odds(), atol=1e-12)
    for term in TERM.values():
        places = visits & found.observed[:, term]
        assert abs(found.truth[:, term][places].mean()) < 1e-12, "centred where observed"


def test_correlation_idle_share_and_missing_error(trained, monkeypatch):
    task, progress = trained
    visits = task.test.is_visit()
    truth = np.moveaxis(task.truth_test.contributions, 0, 1)
    parts = np.stack([truth, truth])[..., None]
    parts[:, :, TERM["hdl"]] *= 0.5  # any slope has correlation 1
    parts[:, :, TERM["sbp"]] = np.where(np.moveaxis(task.truth_test.observed, 0, 1)[None, :, TERM["sbp"], :, None],
                                        -parts[:, :, TERM["sbp"]], 1.3)  # fmt: skip
    parts[:, :, TERM["male"], :, 0] = np.where(task.test.facts[:, 1] == 1, 0.2, -0.2)[None, :, None]
    monkeypatch.setattr(evaluation, "read", lambda *_: (parts, np.full((2, 1), -1.5)))
    found = evaluation.recover(task, {}, CPU)
    assert evaluation.correlation(found, visits, TERM["hdl"]) == pytest.approx(1)
    assert evaluation.correlation(found, visits, TERM["sbp"]) == pytest.approx(-1)
    male = np.where(np.repeat(task.test.facts[:, 1], task.test.length) == 1, 0.2, -0.2)
    share = male.var() / task.truth_test.log_odds()[visits].var()
    assert evaluation.idle_share(found, visits, TERM["male"], task) == pytest.approx(share)
    assert evaluation.idle_share(found, visits, TERM["bmi"], task) == pytest.approx(0)

    monkeypatch.setattr(evaluation, "probabilities", lambda *_: {"full": np.full(visits.sum(), 0.4) + 0.001 * male})
    result, _ = evaluation.evaluate(task, progress.finished, CPU)
    mean = truth[:, TERM["sbp"]][visits & found.observed[:, TERM["sbp"]]].mean()
    assert result.missing == {"truth": pytest.approx(1 - mean), "estimate": pytest.approx(1.3 + mean)}
    assert result.missing_error == pytest.approx(abs(0.3 + 2 * mean))
    assert set(result.idle) == set(IDLE)
    assert result.visits["never"] == (visits & ~found.observed[:, TERM["sbp"]]).sum()


def test_coverage_counts_the_visits_within_the_interval(trained, monkeypatch):
    """sd 1 everywhere; the mean is off by 1.64 on one half of the people and by 1.65 on the other."""
    task, _ = trained
    truth = np.zeros((len(task.test.id), len(TERM), task.test.day.shape[1]))
    off = np.where(np.arange(len(truth)) < 10, 1.64, 1.65)[:, None, None]
    observed = np.moveaxis(task.truth_test.observed, 0, 1)
    found = evaluation.Recovery(truth + off, np.ones_like(truth), truth, observed, truth[:, 0])
    visits = task.test.is_visit()
    never = visits & ~observed[:, TERM["sbp"]]
    coverage = evaluation.coverage(found, visits, never)
    for name, term in TERM.items():
        places = visits & observed[:, term]
        assert coverage[name] == pytest.approx(places[:10].sum() / places.sum())
    assert coverage[evaluation.MISSING] == pytest.approx(never[:10].sum() / never.sum())


def test_what_is_asked_is_compared_in_the_right_direction(trained, monkeypatch):
    task, progress = trained
    good, _ = evaluation.evaluate(task, progress.finished, CPU)
    good = replace(
        good, auc={"full": 0.75, "last": 0.74}, correlations={"hdl": 0.9, "sbp": 0.6, "age": 0},
        missing={"truth": 1.0, "estimate": 0.8}, idle=dict.fromkeys(IDLE, 0.02),
    )  # fmt: skip
    assert all(good.met().values())
    for worse, name in (
        ({"auc": {"full": 0.75, "last": 0.7425}}, "recurrence"),
        ({"correlations": {"hdl": 0.89, "sbp": 0.6}}, "hdl"),
        ({"correlations": {"hdl": 0.9, "sbp": 0.59}}, "sbp"),
        ({"missing": {"truth": 1.0, "estimate": 1.3}}, "missing"),
        ({"idle": {"male": 0.0, "bmi": 0.021}}, "idle"),
    ):
        met = replace(good, **worse).met()
        assert [key for key, value in met.items() if not value] == [name]


def test_summaries_are_those_of_a_loop(people):
    task = training.Task.make(people, training.Settings(people=60, members=2))
    labs, facts = task.scaler.values(task.test)
    found = baselines.summaries(task, task.test)
    row = 0
    for person, length in enumerate(task.test.length):
        for visit in range(length):
            so_far = [lab[person, : visit + 1][np.isfinite(lab[person, : visit + 1])] for lab in labs]
            columns = [[s[-1] if len(s) else np.nan for s in so_far], facts[person]]
            for f in (np.mean, np.min, np.max):
                columns.append([f(s) if len(s) else np.nan for s in so_far])
            columns.append([len(s) for s in so_far])
            np.testing.assert_allclose(found[row], np.concatenate(columns), rtol=1e-12)
            row += 1
    assert row == len(found)
    np.testing.assert_array_equal(baselines.last_values(task, task.test), found[:, :7])
    np.testing.assert_array_equal(found[:, 0], carried_forward(labs)[0][task.test.is_visit()])


def test_baselines_predict_every_visit_and_read_no_outcome_of_the_test_people(trained):
    task, _ = trained
    found = baselines.predict(task)
    assert set(found) == {"regression on last values", "regression on summaries", "boosting on summaries"}
    again = baselines.predict(replace(task, positive_test=~task.positive_test))
    for name, p in found.items():
        assert p.shape == (task.test.length.sum(),)
        low, high = p.min(), p.max()
        assert 0 < low <= high < 1
        np.testing.assert_array_equal(p, again[name])
