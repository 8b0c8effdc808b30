"""The true contributions, beside loops over single measurements."""

from __future__ import annotations

import math

import numpy as np
import pytest

from examples.plasmode import data, truth


def loop_average(values: list[float], days: list[float], memory: float) -> float:
    """The average of measurements (oldest first) with the weights written out: no recurrence."""
    count = len(values)
    keep = [0.0] + [math.exp(-min((days[k] - days[k - 1]) / 365.25, 10) / memory) for k in range(1, count)]
    weights = [(1 - keep[k]) * math.prod(keep[k + 1 :]) for k in range(count)]
    assert math.isclose(sum(weights), 1)
    return sum(w * v for w, v in zip(weights, values, strict=True))


def loop_contributions(people: data.Cohort, person: int, visit: int) -> dict[str, float]:
    def measured(lab: int) -> tuple[list[float], list[float]]:
        found = [k for k in range(visit + 1) if not math.isnan(people.values[lab, person, k])]
        return [people.values[lab, person, k] for k in found], [people.day[person, k] for k in found]

    hdl, sbp = measured(0), measured(1)
    age = people.facts[person, 0]
    return {
        "hdl": -1.2 * math.tanh((loop_average(*hdl, 5) - 50) / 20) if hdl[0] else 0.0,
        "sbp": 1.2 * math.tanh((loop_average(*sbp, 0.5) - loop_average(*sbp, 5)) / 12) if sbp[0] else 1.0,
        "age": 0.7 * (age - 55) / 15,
    }


def test_the_terms_are_those_of_a_loop(people):
    found = truth.truth(people)
    visits, never = 0, 0
    for person, length in enumerate(people.length):
        for visit in range(length):
            expected = loop_contributions(people, person, visit)
            for name, number in truth.TERM.items():
                # twelve visits, each a rounding or two of numbers below 200 over 12
                assert math.isclose(found.contributions[number, person, visit], expected.get(name, 0), abs_tol=1e-12)
            odds = -1.5 + sum(expected.values())
            assert math.isclose(found.log_odds()[person, visit], odds, abs_tol=1e-12)
            seen = [np.isfinite(people.values[lab, person, : visit + 1]).any() for lab in range(4)]
            assert found.observed[:4, person, visit].tolist() == seen
            visits, never = visits + 1, never + (not seen[1])
    assert visits > 300 and visits - never > 100 and never > 100


def test_the_truth_at_a_visit_reads_no_later_one(people):
    cut = 3
    values = people.values.copy()
    values[:, :, cut:] *= 1.3
    day = people.day.copy()
    day[:, cut:] += 77
    changed = data.Cohort(values, day, people.length, people.facts, people.id)
    before, after = (truth.truth(cohort).log_odds() for cohort in (people, changed))
    np.testing.assert_array_equal(before[:, :cut], after[:, :cut])
    later = people.length > cut
    assert (before[later, cut] != after[later, cut]).mean() > 0.9


def test_idle_terms_have_no_share(people):
    values, facts = people.values.copy(), people.facts.copy()
    values[2:] *= 3
    facts[:, 1:] *= 3
    changed = data.Cohort(values, people.day, people.length, facts, people.id)
    np.testing.assert_array_equal(truth.truth(people).log_odds(), truth.truth(changed).log_odds())
    assert truth.IDLE == ("fib4", "smoke", "male", "bmi")


def test_an_unknown_age_adds_nothing(people):
    facts = people.facts.copy()
    facts[4, 0] = np.nan
    found = truth.truth(data.Cohort(people.values, people.day, people.length, facts, people.id))
    assert (found.contributions[truth.TERM["age"], 4] == 0).all()
    assert not found.observed[truth.TERM["age"], 4].any()


@pytest.mark.parametrize("odds", [-1.0, 0.0, 2.0])
def test_outcomes_have_the_probability_of_their_log_odds(odds):
    rate = truth.draw(np.full((100, 1000), odds), seed=3).mean()
    p = 1 / (1 + math.exp(-odds))
    assert abs(rate - p) < 4 * math.sqrt(p * (1 - p) / 1e5)  # four standard errors
    assert not np.array_equal(truth.draw(np.zeros((9, 9)), 0), truth.draw(np.zeros((9, 9)), 1))
