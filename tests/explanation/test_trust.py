"""Memory, concurvity, missingness, stability, calibration and drift, each against what it is by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnam
from tests.explanation import support
from tests.explanation.test_explanation import ROUNDED
from tests.support.assertions import assert_within


def drawn(answer: Any, tmp_path: Any) -> Any:
    """A table, a file and a picture, as every answer has them. Returns the axes."""
    answer.to_csv(tmp_path / "answer.csv")
    assert len((tmp_path / "answer.csv").read_text().splitlines()) == len(answer.frame()) + 1
    return answer.plot()


def test_memory_is_that_of_the_model(explanation: Any, model: Any, panel: rnam.Panel, tmp_path: Any) -> None:
    answer = explanation.memory()
    assert answer.term == ("rain", "temp", "kind", "rain & temp", "rain & soil") and answer.unit == "visits"
    batch = explanation.inputs.batch(np.arange(12))
    own = rnam.explain.memory(model.model_, batch.pop("input"), over_time=True, **batch)
    np.testing.assert_allclose(answer.timescale, own.quantiles((0.1, 0.5, 0.9)).mean(0)[:, 0], rtol=1e-6)
    np.testing.assert_allclose(answer.change, own.change.mean(0)[:, 0] * model.loss_.gain[0], rtol=1e-6)
    y = panel.target
    error = ((np.asarray(explanation.total) - y) ** 2).mean(1) / model.loss_.scale[0] ** 2
    assert answer.loss == pytest.approx(error.mean(), rel=1e-4)
    assert (answer.high - answer.low).min() > 0
    assert "gain of memory" in drawn(answer, tmp_path).get_xlabel()
    assert len(explanation.memory(sample=3).term) == 5
    frame = support.weather().drop(columns=["flow", "high"])
    untold = model.explain(frame).memory()
    assert np.isnan(untold.gain).all() and "without memory" in untold.plot().get_xlabel()


def test_concurvity_is_the_mean_over_members(explanation: Any, tmp_path: Any) -> None:
    answer = explanation.concurvity()
    each = [rnam.explain.concurvity(own) for own in explanation.contributions]
    np.testing.assert_allclose(answer.observed, np.mean([own.observed for own in each], axis=0))
    np.testing.assert_allclose(answer.pairwise_worst, np.mean([own.pairwise_worst for own in each], axis=0))
    assert drawn(answer, tmp_path).get_ylabel() == "is said by"


def test_the_effect_of_missing_is_apart(tmp_path: Any) -> None:
    frame = support.weather()
    frame.loc[frame["basin"] < 104, "temp"] = np.nan
    panel = rnam.Panel.from_frame(frame, **support.ROLES, target="flow")
    model = support.fitted(rnam.RNAMRegressor, panel)
    e = model.explain(panel)
    answer = e.missingness()
    temp = answer.term.index("temp")
    assert answer.never[temp] == pytest.approx(4 / 12) and answer.n_never[temp] == 120
    inside = e.contributions[0, :120, temp]
    assert_within("effect", inside, np.full(120, answer.effect[temp]), ROUNDED)
    assert answer.importance[temp] == pytest.approx(abs(answer.effect[temp]) / 3)
    kind = answer.term.index("kind")
    gone = frame["kind"].isna().to_numpy()
    first = gone & (gone.reshape(12, 30).cumsum(1) == np.arange(1, 31)).ravel()
    assert answer.held[kind] == pytest.approx((gone & ~first).mean()) and answer.held[0] == 0
    assert "effect of being missing on flow" in drawn(answer, tmp_path).get_xlabel()


def test_stability_is_the_agreement_of_members(explanation: Any, tmp_path: Any, panel: rnam.Panel) -> None:
    answer = explanation.stability()
    parts = explanation.contributions
    expected = [np.corrcoef(parts[0, :, n], parts[1, :, n])[0, 1] for n in range(7)]
    np.testing.assert_allclose(answer.agreement, expected, atol=1e-9)
    assert answer.identified.tolist() == (np.array(expected) >= 0.5).tolist()
    np.testing.assert_allclose(answer.importance, explanation.importance().importance)
    np.testing.assert_allclose(answer.relative, answer.sd / answer.importance)
    assert "agreement" in drawn(answer, tmp_path).get_xlabel()
    alone = support.fitted(rnam.RNAMRegressor, panel, max_epochs=1).explain(panel)
    with pytest.raises(ValueError, match="the model must have 2 members or more"):
        alone.stability()


def test_calibration_of_numbers(explanation: Any, model: Any, panel: rnam.Panel, tmp_path: Any) -> None:
    predicted, y = model.predict(panel).to_numpy(), panel.target
    answer = explanation.calibration()
    slope, intercept = np.polyfit(predicted, y, 1)
    np.testing.assert_allclose([answer.slope[0], answer.intercept[0]], [slope, intercept], rtol=1e-6)
    assert answer.bias[0] == pytest.approx((predicted - y).mean())
    assert answer.error[0] == pytest.approx(np.sqrt(((predicted - y) ** 2).mean()))
    assert answer.bin_n.sum() == 360 and len(answer.bin_n) == 10
    soil = explanation.calibration("soil")
    assert soil.group == ("all", "clay", "sand") and soil.n[1:].sum() == 360
    clay = (support.weather()["soil"] == "clay").to_numpy()
    assert soil.bias[1] == pytest.approx((predicted - y)[clay].mean())
    assert "observed (flow)" in drawn(soil, tmp_path).get_ylabel()
    assert explanation.calibration("kind").group[-1] == "missing"
    temp = explanation.calibration("temp", groups=2)
    assert temp.n.tolist() == [360, 180, 180] and temp.group[1].endswith("°C")
    time = explanation.calibration("time", groups=3)
    assert time.group[1:] == ("0 to 9", "10 to 19", "20 to 29")
    blocks = explanation.calibration(panel.owners // 6)
    assert blocks.group == ("all", "0", "1") and blocks.n.tolist() == [360, 180, 180]


def test_weights_count_in_every_mean(model: Any) -> None:
    frame = support.weather()
    frame["weight"] = np.where(frame["basin"] == 101, 2.0, 0.0) + (frame["basin"] == 102)
    panel = rnam.Panel.from_frame(frame, **support.ROLES, target="flow", weight="weight")
    e = model.explain(panel)
    away = model.predict(panel).to_numpy() - panel.target
    bias = (2 * away[30:60].mean() + away[60:90].mean()) / 3
    assert e.calibration().bias[0] == pytest.approx(bias) and e.calibration().n[0] == 60
    assert e.drift(1).residual[0] == pytest.approx(-bias)
    once = rnam.explain.concurvity(e.contributions[0], frame["weight"])
    other = rnam.explain.concurvity(e.contributions[1], frame["weight"])
    np.testing.assert_allclose(e.concurvity().observed, (once.observed + other.observed) / 2)


def test_calibration_of_classes(tmp_path: Any) -> None:
    panel = support.basins("high")
    model = support.fitted(rnam.RNAMClassifier, panel)
    answer = model.explain(panel).calibration("soil")
    p, y = model.predict_proba(panel).to_numpy()[:, 1], panel.target.astype(float)
    line = rnam.explain.recalibrate(np.log(p) - np.log1p(-p), y)
    assert answer.slope[0] == pytest.approx(line.slope, rel=1e-6) and answer.classes
    assert answer.error[0] == pytest.approx(((p - y) ** 2).mean())
    assert "probability of True" in drawn(answer, tmp_path).get_xlabel()


def test_drift_over_blocks(explanation: Any, model: Any, panel: rnam.Panel, tmp_path: Any) -> None:
    answer = explanation.drift(3)
    day = panel.times
    inside = day <= 9
    np.testing.assert_allclose(answer.contribution[0], explanation.contributions[:, inside].mean((0, 1)), atol=1e-12)
    away = (panel.target - model.predict(panel).to_numpy())[inside]
    assert answer.residual[0] == pytest.approx(away.mean())
    assert answer.error[0] == pytest.approx(away.std(ddof=1) / np.sqrt(120)) and answer.n.tolist() == [120] * 3
    limits = explanation.drift([9, 24])
    assert limits.block == ("to 9", "9 to 24", "after 24") and limits.n.tolist() == [120, 180, 60]
    np.testing.assert_allclose(limits.contribution[0], answer.contribution[0])
    assert drawn(answer, tmp_path).get_xlabel() == "block"
    untold = model.explain(support.weather().drop(columns=["flow", "high"])).drift(2)
    assert np.isnan(untold.residual).all() and np.isfinite(untold.contribution).all()
    for wrong, message in (([3, 1], "limits that rise"), ([], "limits that rise"), ("a", "blocks must be an int")):
        with pytest.raises((TypeError, ValueError), match=message):
            explanation.drift(wrong)
    with pytest.raises(TypeError, match=r"blocks\[0\] must be numbers"):
        explanation.drift(["x"])


def test_questions_without_an_answer_are_refused(explanation: Any, model: Any, panel: rnam.Panel) -> None:
    with pytest.raises(ValueError, match="by must be 'time' or one of area, kind, rain, soil, temp, got 'snow'"):
        explanation.calibration("snow")
    with pytest.raises(ValueError, match=r"by must have shape \(360,\), one for each prediction, got \(3,\)"):
        explanation.calibration([1, 2, 3])
    with pytest.raises(ValueError, match="groups must be"):
        explanation.calibration("time", groups=0)
    with pytest.raises(ValueError, match="y must be given, or be the target of the panel"):
        model.explain(support.weather().drop(columns=["flow", "high"])).calibration()
    rows = rnam.NAMRegressor((4,), max_epochs=1, random_state=0, verbose=0).fit(panel)
    with pytest.raises(ValueError, match="the model must be recurrent to have a memory"):
        rows.explain(panel).memory()
    quantiles = support.fitted(rnam.RNAMRegressor, panel, loss="quantile", quantiles=(0.1, 0.9), max_epochs=1)
    with pytest.raises(ValueError, match=r"output must be a prediction of a label, got 'flow at 0.9'"):
        quantiles.explain(panel, output="flow at 0.9").calibration()
    assert np.isnan(quantiles.explain(panel, output="flow at 0.9").drift(2).residual).all()
