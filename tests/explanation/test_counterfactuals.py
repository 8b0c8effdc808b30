"""A counterfactual reaches its target by the smallest change inside of what occurred, or is refused; exports."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import rnam
from rnam.explanation.support import Support
from tests.explanation import support
from tests.explanation.support import CROSSED, KERNEL
from tests.support.assertions import assert_within


def test_a_filter_is_solved_exactly(model: Any, panel: rnam.Panel, tmp_path: Any) -> None:
    e = support.filtering(model).explain(panel)
    id = 104
    now = e.person(id).total[-1]
    temp, rain = float(panel[id].values[-1, 1]), float(panel[id].values[-1, 0])
    slope = KERNEL[0] + CROSSED[0] * temp
    answer = e.counterfactual(id, now + 0.5 * slope)
    row = answer.frame().set_index("column").loc["rain"]
    assert row["before"] == rain
    assert_within("after", row["after"], rain + 0.5, 1e-5)
    assert answer.predicted == pytest.approx(now) and answer.distance == answer.others["distance"].min()
    assert_within("reached", answer.reached, answer.target, 1e-4)
    assert answer.words().startswith(f"basin 104: with {answer.column} ") and repr(answer).startswith("Counterfactual")
    answer.to_csv(tmp_path / "counterfactual.csv")
    assert len(answer.plot().lines) >= 3


def test_it_is_what_the_model_predicts(explanation: Any, model: Any) -> None:
    now = explanation.person(105).total[-1]
    answer = explanation.counterfactual(105, now + 0.002)
    frame = support.weather()
    own = frame[frame["basin"] == 105].drop(columns=["flow", "high"]).copy()
    own.loc[own["day"] == 29, answer.column] = answer.after
    assert_within("predicted", model.predict(own).iloc[-1], answer.reached, 1e-5)


def test_levels_and_probabilities() -> None:
    panel = support.basins("high", values=["rain"], units={})
    model = rnam.NAMClassifier((4,), max_epochs=10, random_state=0, verbose=0).fit(panel[[100]].windows(1))
    one = panel.windows(1)
    e = model.explain(one)
    id = next(own for own, code in zip(one.ids, one.codes[:, 0], strict=True) if code >= 0)
    now = e.person(id).predicted[-1]
    answer = e.counterfactual(id, now + 1e-3)
    assert 0 < answer.reached < 1 and answer.distance > 0
    with pytest.raises(ValueError, match=r"target must be between 0.0 and 1.0, got 1.5"):
        e.counterfactual(id, 1.5)


def test_what_nothing_reaches_is_refused(explanation: Any) -> None:
    with pytest.raises(ValueError, match=r"target must be reached by a change of one column .* got 50.0 for basin 101"):
        explanation.counterfactual(101, 50.0)
    with pytest.raises(ValueError, match="target must be"):
        explanation.counterfactual(101, float("nan"))
    with pytest.raises(KeyError, match="no basin 1 "):
        explanation.counterfactual(1, 0.5)


def test_what_lies_outside_is_no_answer(explanation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = explanation.person(105).total[-1]
    assert explanation.counterfactual(105, now + 0.002).distance > 0
    monkeypatch.setattr(Support, "outside", lambda _, inputs, visits: np.ones(len(visits), bool))
    with pytest.raises(ValueError, match="inside of what occurred"):
        explanation.counterfactual(105, now + 0.002)


def test_contributions_for_interpret(explanation: Any) -> None:
    pytest.importorskip("interpret")
    found = explanation.to_interpret()
    row = found.data(3)
    assert row["names"] == list(explanation.reader.names)
    np.testing.assert_allclose(row["scores"], explanation.contributions.mean(0)[3])
    total = sum(row["scores"]) + row["extra"]["scores"][0]
    assert total == pytest.approx(explanation.total.mean(0)[3])
    np.testing.assert_allclose(row["values"][0], explanation.panel.values[3, 0])
    assert row["values"][3] is None, "a pair reads no single value"
    assert found.data()["scores"] == pytest.approx(np.abs(explanation.contributions.mean(0)).mean(0).tolist())


def test_contributions_for_shap(explanation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = ModuleType("shap")
    stand_in.Explanation = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shap", stand_in)
    found = explanation.to_shap()
    total = found.values.sum(1) + found.base_values
    assert_within("total", total, explanation.total.mean(0), 1e-12)
    assert found.feature_names == list(explanation.reader.names) and found.data.shape == found.values.shape
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(ImportError, match="to_shap needs shap, which is not installed: pip install shap"):
        explanation.to_shap()
