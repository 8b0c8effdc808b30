"""The tables: what they hold, and their folds."""

from __future__ import annotations

import numpy as np
import pytest

from examples.tabular import data
from tests.support.assertions import assert_equal, assert_within


def test_breast_cancer_counts_malignant_tumours() -> None:
    table = data.breast_cancer()
    assert table.values.shape == (569, len(table.terms)) == (569, 30)
    assert table.target.sum() == 212, "as scikit-learn's description says of malignant ones"
    # larger nuclei are the worse sign
    radius = table.values["mean radius"]
    assert radius[table.target == 1].mean() > radius[table.target == 0].mean() + 4


def test_diabetes_is_in_units() -> None:
    table = data.diabetes()
    assert table.values.shape == (442, 10)
    assert (table.target.min(), table.target.max()) == (25, 346)
    columns = table.values
    for name, lowest, highest in (("Age", 19, 79), ("Body mass index", 15, 45), ("Mean blood pressure", 50, 150)):
        assert_within(name, columns[name].to_numpy(), (lowest + highest) / 2, (highest - lowest) / 2)
    assert set(columns["Sex"]) == {1, 2}
    ratio = columns["Total cholesterol"] / columns["HDL cholesterol"]
    assert np.corrcoef(ratio, columns["Total / HDL cholesterol"])[0, 1] > 0.9
    assert_within("triglycerides", np.exp(columns["Log of triglycerides"].to_numpy()), 310.0, 290.0)


def test_hmda_counts_denials_and_has_words() -> None:
    table = data.hmda()
    assert table.values.shape == (2380, 13) and table.target.sum() == 285, "as Stock and Watson's data have"
    assert table.words == ("phist", "selfemp", "insurance", "condomin", "afam", "single", "hschool")
    denied = table.target == 1
    assert (
        (table.values["insurance"][denied] == "yes").mean()
        > 0.15
        > (table.values["insurance"][~denied] == "yes").mean()
    )


@pytest.mark.parametrize("name", list(data.TABLES))
def test_each_row_is_tested_once_and_a_seed_repeats_its_folds(name: str) -> None:
    table = data.TABLES[name]()
    assert table.values.notna().to_numpy().all()
    assert len(table.terms) == len(set(table.terms)) == len(table.units)
    folds = table.folds(5, 0)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(table.target)))
    for train, test in folds:
        assert set(train).isdisjoint(test) and len(train) + len(test) == len(table.target)
        if table.binary:
            assert table.target[test].mean() == pytest.approx(table.target.mean(), abs=0.01)
    again, other = table.folds(5, 0), table.folds(5, 1)
    assert_equal("tested rows", [test for _, test in again], [test for _, test in folds])
    assert not np.array_equal(folds[0][1], other[0][1])
