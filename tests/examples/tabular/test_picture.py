"""Shape functions: those of the models, in units, NAM and EBM on the same axes."""

from __future__ import annotations

import numpy as np
import pandas
import pytest

from examples import ebm
from examples.tabular import data, methods, picture

QUICK = methods.Settings(epochs=8)


@pytest.fixture(scope="module")
def fitted() -> tuple[data.Data, methods.Nam]:
    some = data.diabetes()
    return some, methods.Nam(some, np.arange(442), 0, QUICK)


def test_shapes_sum_to_the_prediction_in_points(fitted: tuple[data.Data, methods.Nam]) -> None:
    some, nam = fitted
    table = picture.shapes(some, nam)
    values = np.array([[table.rows(term).x[3] for term in some.terms[:1]] + list(some.values.iloc[0, 1:])])
    parts = [table.rows(term) for term in some.terms]
    nearest = [int(np.abs(part.x - value).argmin()) for part, value in zip(parts, values[0], strict=True)]
    at = pandas.DataFrame([[part.x[n] for part, n in zip(parts, nearest, strict=True)]], columns=list(some.terms))
    total = table.rows("(intercept)").contribution[0] + sum(
        part.contribution[n] for part, n in zip(parts, nearest, strict=True)
    )
    # predictions of up to 346 points in float32, of 11 summands: 11 * 512 * 2^-24
    assert total == pytest.approx(nam.predict(at)[0], abs=11 * 512 * 2**-24)
    assert dict(zip(table.term, table.unit, strict=True))["Age"] == "years"


def test_the_most_important_are_those_that_move_most(fitted: tuple[data.Data, methods.Nam]) -> None:
    some, nam = fitted
    table = picture.shapes(some, nam)
    shown = picture.most_important(table, some)
    spread = {term: np.ptp(table.rows(term).contribution) for term in some.terms}
    assert len(shown) == picture.SHOWN
    assert {"Body mass index", "Log of triglycerides"} <= set(shown), "as every analysis of these data finds"
    assert spread[shown[0]] > np.median(list(spread.values()))


def test_draw_has_both_on_the_same_axes(fitted: tuple[data.Data, methods.Nam], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("interpret")
    monkeypatch.setattr(ebm, "BAGS", 2)
    some, nam = fitted
    figure = picture.draw([(some, nam, methods.Ebm(some, np.arange(442), 0))])
    panels = [axes for sub in figure.subfigs for axes in sub.axes]
    assert next(axes.get_xlabel() for axes in panels).endswith(")"), "a unit"
    for axes in panels:
        assert {line.get_label() for line in axes.lines} >= {"NAM", "EBM"}
    assert panels[0].get_ylabel() == "contribution (points)"
    assert figure.subfigs[0].get_suptitle() == some.title


def test_without_an_ebm_the_nam_is_alone(fitted: tuple[data.Data, methods.Nam]) -> None:
    figure = picture.draw([(*fitted, None)])
    labels = {line.get_label() for sub in figure.subfigs for axes in sub.axes for line in axes.lines}
    assert "NAM" in labels and "EBM" not in labels
