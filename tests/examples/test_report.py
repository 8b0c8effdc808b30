"""Means and tables of scores."""

from __future__ import annotations

import pytest

from examples import report

FOUND = {
    "a": [{"auc": 0.5, "slope": 1.0}, {"auc": 0.7, "slope": 0.5}],
    "long name": [{"auc": 0.9, "slope": 2.0}, {"auc": 0.8, "slope": 1.0}],
}


def test_means() -> None:
    mean = report.means(FOUND)
    assert mean["a"] == pytest.approx({"auc": 0.6, "slope": 0.75})
    assert mean["long name"] == pytest.approx({"auc": 0.85, "slope": 1.5})


def test_table_has_the_best_first_and_is_aligned() -> None:
    assert report.table(FOUND, [0, 7], {"auc": "AUC", "slope": "slope"}).splitlines() == [
        "           AUC, seed 0  AUC, seed 7  mean AUC  mean slope",
        "long name        0.900        0.800     0.850       1.500",
        "a                0.500        0.700     0.600       0.750",
    ]


def test_of_an_error_the_least_is_first() -> None:
    lines = report.table(FOUND, [0, 7], {"auc": "AUC"}, least=True).splitlines()
    assert [line[:4] for line in lines[1:]] == ["a   ", "long"]


def test_json_has_every_seed_and_the_mean() -> None:
    content = report.as_json(FOUND, [0, 7])
    assert content["a"]["seeds"] == {"0": FOUND["a"][0], "7": FOUND["a"][1]}
    assert content["a"]["mean"] == report.means(FOUND)["a"]
