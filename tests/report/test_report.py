"""The page without a browser: its parts, its numbers, its names, its size, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import r2_score, roc_auc_score

import rnam
from rnam.report import page as pages
from rnam.report import people
from tests.report import support
from tests.support.assertions import assert_equal, assert_within


@pytest.fixture(scope="session")
def data(page: Path) -> Any:
    return support.data_of(page.read_text("utf-8"))


def test_the_page_is_one_document_that_may_load_nothing(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text.startswith("<!DOCTYPE html>")
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0].split("; ")
    assert policy[0] == "default-src 'none'"
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    for name, content in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy
    shown = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert re.findall(r'src=|href="[^#]|@import|url\(', shown) == []


def test_a_name_can_not_end_the_data_or_become_an_element(page: Path, data: Any) -> None:
    text = page.read_text("utf-8")
    assert text.count("<script") == 2 and text.count("</script") == 2
    assert "<img" not in text
    assert f"<title>{html.escape(support.SCRIPT)}</title>" in text
    assert data["title"] == support.SCRIPT
    assert {support.BREAK, "{{script}}", "=1+1"} <= set(data["people"]["ids"])
    assert support.SCRIPT in data["people"]["term"]


def test_importance_is_that_of_the_explanation(explanation: Any, data: Any) -> None:
    frame, shown = explanation.importance().frame(), data["overview"]["importance"]
    assert shown["term"] == frame["term"].tolist()
    for name in ("importance", "low", "high", "share"):
        assert_equal(name, np.array(shown[name]), frame[name].to_numpy())


def test_scores_are_those_of_the_predictions(explanation: Any, data: Any) -> None:
    model, panel = explanation.reader.estimator, explanation.panel
    truth = panel.target == "dead & gone"
    chance = model.predict_proba(panel)["dead & gone"].to_numpy()
    shown = {score["name"]: score["value"] for score in data["overview"]["scores"]}
    assert shown["AUC"] == pytest.approx(roc_auc_score(truth, chance), abs=1e-12)
    assert shown["Brier skill"] == pytest.approx(rnam.explain.brier_skill(chance, truth), abs=1e-12)
    calibration, exact = data["overview"]["calibration"], explanation.calibration()
    assert sum(calibration["n"]) == calibration["labels"] == len(truth)
    for name in ("predicted", "observed"):
        assert_equal(name, np.array(calibration[name]), getattr(exact, f"bin_{name}"))
    assert (calibration["bias"], calibration["slope"]) == (exact.bias[0], exact.slope[0])


@pytest.mark.parametrize("part", ["memory", "missing", "trust"])
def test_memory_missing_values_and_trust_are_those_of_the_explanation(part: str, explanation: Any, data: Any) -> None:
    shown, e = data["overview"][part], explanation
    answers = {
        "memory": [(e.memory(), "timescale change gain low high")],
        "missing": [(e.missingness(), "effect low high never held n_never")],
        "trust": [(e.concurvity(), "worst observed estimate"), (e.stability(), "agreement identified")],
    }  # fmt: skip
    for answer, names in answers[part]:
        order = [answer.term.index(name) for name in shown["term"]]
        for name in names.split():
            exact = getattr(answer, name)[order]
            assert_equal(name, np.array(shown[name], exact.dtype), exact, nan=True)  # null is NaN


def test_people_are_those_of_the_explanation(explanation: Any, data: Any) -> None:
    """float32 rounds by at most 2^-24 of a number."""
    shown = data["people"]
    terms, offsets = len(shown["term"]), shown["offsets"]
    parts = support.unpacked(shown["contribution"]).reshape(-1, terms)
    low, total = support.unpacked(shown["low"]).reshape(-1, terms), support.unpacked(shown["total"])
    predicted, times = support.unpacked(shown["predicted"]), support.unpacked(shown["times"])
    chance = explanation.reader.estimator.predict_proba(explanation.panel)["dead & gone"].to_numpy()
    assert_within("predicted", predicted, chance, 1e-6)
    for n, id in enumerate(explanation.panel.ids):
        own, person = slice(offsets[n], offsets[n + 1]), explanation.person(id)
        exact = person.contribution
        # the model's float32 depends on the batch by a few of its roundings
        limit = 2.0**-20 * max(1.0, float(np.abs(exact).max()))
        assert_within("contribution", parts[own], exact, limit)
        assert_within("total", total[own], person.total, 4 * limit)
        assert_within("low", low[own], exact - person.by_member.std(0, ddof=1), limit)
        assert_equal("times", times[own], (person.time - person.time[0]).astype(np.float32))
        assert shown["ids"][n] == id


def test_what_terms_read_is_what_the_panel_holds(explanation: Any, data: Any) -> None:
    columns = {column["name"]: column for column in data["people"]["columns"]}
    panel = explanation.panel
    assert_equal("bili", support.unpacked(columns["bili"]["values"]), panel.values[:, 0].astype(np.float32), nan=True)
    codes = support.unpacked(columns["stage"]["values"])
    assert [columns["stage"]["levels"][code] for code in codes] == panel.to_frame()["stage"].tolist()
    assert columns["age"]["static"] and len(support.unpacked(columns["age"]["values"])) == len(panel)


def test_panels_of_terms_are_those_of_the_explanation(explanation: Any, data: Any) -> None:
    panels = {panel["name"]: panel for panel in data["terms"]}
    assert set(panels) == set(explanation.reader.names)
    for name, panel in panels.items():
        exact = explanation.shape(name)
        fields = ("interaction", "n") if panel["shape"]["pair"] else ("contribution", "low", "high", "n", "outside")
        for own in fields:
            assert_equal(f"{own} of {name}", np.array(panel["shape"][own]), getattr(exact, own))
    lag = panels["bili"]["lag"]
    answer = explanation.lag_response("bili", lags=len(lag["lag"]) - 1, values=[])
    assert_equal("change", np.array(lag["change"]), answer.response.change)
    assert lag["terms"] == ["bili", "bili & stage"]
    assert panels["stage"]["lag"]["why"] == "No response over lags: stage is no plain number."
    assert panels["sex"]["lag"] is None


def test_a_regression_without_memory_has_its_score(tmp_path: Path) -> None:
    panel = support.panel("cost", values=["bili"], static=[])
    model = support.fitted(rnam.NAMRegressor, panel, members=1, hidden=(4,))
    model.explain(panel).report(tmp_path / "page.html")
    data = support.data_of((tmp_path / "page.html").read_text("utf-8"))
    scores = {score["name"]: score["value"] for score in data["overview"]["scores"]}
    assert scores["R2"] == pytest.approx(model.score(panel), abs=1e-12)
    assert scores["R2"] == pytest.approx(r2_score(panel.target, model.predict(panel)), abs=1e-12)
    assert data["people"]["low"] is None and data["members"] == 1
    assert [panel["lag"] for panel in data["terms"]] == [None, None]


def test_without_labels_the_page_says_so(explanation: Any, tmp_path: Path) -> None:
    model = explanation.reader.estimator
    model.explain(support.panel(None)).report(tmp_path / "page.html")
    overview = support.data_of((tmp_path / "page.html").read_text("utf-8"))["overview"]
    assert overview["scores"] == [] and "y must be given, or be the target of the panel" in overview["why"]


def test_several_classes_are_explained_one_at_a_time(tmp_path: Path) -> None:
    panel = support.panel("stage", categories=[])
    model = support.fitted(rnam.RNAMClassifier, panel, hidden=4, max_epochs=1)
    model.explain(panel, output="two").report(tmp_path / "page.html")
    data = support.data_of((tmp_path / "page.html").read_text("utf-8"))
    assert data["link"] == "softmax" and data["output"] == "two"
    shown = {score["name"]: score["value"] for score in data["overview"]["scores"]}
    assert shown["AUC"] == pytest.approx(roc_auc_score(panel.target == "two", model.predict_proba(panel)["two"]))


def forged(ids: int, terms: int, visits: int, stamp: str = "2020-12-31") -> dict[str, Any]:
    """The data of a page as large as they come: noise, which nothing packs."""
    rng = np.random.default_rng(0)
    rows, names = ids * visits, [f"a term with a name {n}" for n in range(terms)]

    def noise(*shape: int) -> Any:
        return rng.normal(size=shape)

    panels = [
        {
            "name": name, "title": name, "unit": "mg/dl", "kind": "recurrent", "features": [name], "share": noise(1)[0],
            "shape": {
                "pair": False, **{own: noise(48) for own in ("x", "contribution", "low", "high")}, "n": np.arange(48),
                "outside": np.zeros(48, bool), "after": noise(3, 48), "level": [], "after_told": ["a"] * 3,
                "settled": 5.0, "missing": 0.1, "n_missing": 3,
            },
            "lag": {
                "lag": np.arange(11), **{own: noise(11) for own in ("time", "change", "low", "high", "cumulative")},
                "outside": noise(11), "size": 1.0, "histories": 100, "terms": [name], "why": "",
            },
        }
        for name in names
    ]  # fmt: skip
    packed = {name: pages.Packed(noise(rows, terms)) for name in ("contribution", "low", "high")}
    totals = ("times", "total", "predicted", "total_low", "total_high")
    columns = [
        {"name": n, "title": n, "unit": "", "levels": None, "static": False, "values": pages.Packed(noise(rows))}
        for n in names
    ]
    return {
        "title": "forged", "terms": panels,
        "people": {
            "ids": [f"person {n}" for n in range(ids)], "offsets": np.arange(ids + 1) * visits,
            "stamps": [stamp] * rows, "term": names, **packed, "columns": columns,
            **{name: pages.Packed(noise(rows)) for name in totals},
        },
    }  # fmt: skip


def test_a_thousand_people_with_thirty_terms_take_less_than_8_mb() -> None:
    assert len(pages.render(forged(1000, 30, 10)).encode()) < 8_000_000


class Many:
    """As much of an explanation as `people.choose` reads."""

    def __init__(self, panel: rnam.Panel, terms: int) -> None:
        self.panel = panel
        self.reader = type("Reader", (), {"terms": [None] * terms, "members": 3})


@pytest.mark.parametrize(("ids", "terms", "visits"), [(1000, 30, 40), (3000, 1, 100), (1, 3, 30_000)])
def test_more_people_than_fit_are_so_many_as_do_evenly_apart(ids: int, terms: int, visits: int) -> None:
    X = np.zeros((ids, visits, terms), np.float32)
    panel = rnam.Panel.from_array(X)
    chosen = people.choose(Many(panel, terms), None)  # type: ignore[arg-type]
    assert len(chosen) < ids or ids == 1
    if ids > 1:
        steps = np.diff(chosen)
        assert chosen[0] == 0 and chosen[-1] == ids - 1 and steps.max() - steps.min() <= 1
        with pytest.raises(ValueError, match=r"ids must have visits that fit into 7.3 MB, got"):
            people.choose(Many(panel, terms), list(panel.ids))  # type: ignore[arg-type]
    size = len(pages.render(forged(len(chosen), terms, min(visits, people.LONGEST), str(visits))).encode())
    assert size < 8_000_000
    assert ids == 1 or size > 5_000_000


def test_chosen_people_and_the_last_of_their_visits(
    explanation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "LONGEST", 2)
    ids = [explanation.panel.ids[3], explanation.panel.ids[0]]
    explanation.report(tmp_path / "page.html", ids=ids)
    shown = support.data_of((tmp_path / "page.html").read_text("utf-8"))["people"]
    assert shown["ids"] == ids and shown["offsets"] == [0, 2, 4] and shown["shortened"] > 0
    exact = np.concatenate([explanation.person(id).total[-2:] for id in ids])
    assert_within("total", support.unpacked(shown["total"]), exact, 1e-5)
    stamps = np.concatenate([explanation.person(id).stamp[-2:] for id in ids])
    assert shown["stamps"] == [str(stamp).removesuffix(" 00:00:00") for stamp in stamps]
    assert_equal("times", support.unpacked(shown["times"])[[0, 2]], np.zeros(2, np.float32))


def test_a_page_that_is_there_stays_unless_it_is_to_go(explanation: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True replaces it"):
        explanation.report(path)
    with pytest.raises(KeyError):
        explanation.report(path, ids=["nobody"], overwrite=True)
    assert path.read_text() == "mine"
    explanation.report(path, ids=[explanation.panel.ids[0]], overwrite=True)
    assert "rnam" in path.read_text("utf-8") and os.listdir(tmp_path) == ["page.html"]


def test_what_is_refused(explanation: Any, tmp_path: Path) -> None:
    for error, message, path, more in (
        (ValueError, "must end in .html, got page.htm", "page.htm", {}),
        (FileNotFoundError, "folder that is there", "none/page.html", {}),
        (TypeError, "title must be a str", "page.html", {"title": 3}),
        (ValueError, "lags must be", "page.html", {"lags": -1}),
        (TypeError, "overwrite must be", "page.html", {"overwrite": 1}),
        (ValueError, "ids must have one at least", "page.html", {"ids": []}),
    ):
        with pytest.raises(error, match=message):
            explanation.report(tmp_path / path, **more)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(IsADirectoryError, match="got the folder"):
        explanation.report(tmp_path / "folder.html", overwrite=True)
    assert os.listdir(tmp_path) == ["folder.html"]
