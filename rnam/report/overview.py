"""The head of the page: what the model is, how well it predicts, which terms count, and how far to trust them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import r2_score, roc_auc_score

from rnam import explain
from rnam.explanation.labelled import Labelled, labelled

if TYPE_CHECKING:
    from rnam.explanation import Explanation

__all__ = ["about", "overview"]


def about(explanation: Explanation) -> dict[str, Any]:
    """The model and the people that are explained."""
    reader, panel = explanation.reader, explanation.panel
    own = explanation.background is explanation.panel
    clock = panel.schema.clock
    return {
        "model": type(reader.estimator).__name__, "output": reader.output, "scale": reader.scale_name,
        "link": reader.link, "members": reader.members, "at": reader.at,
        "ids": len(panel), "visits": len(panel.owners), "id_name": _name(panel.schema.id_name),
        "background": None if own else [len(explanation.background), len(explanation.background.owners)],
        "clock": {"name": _name(clock.name), "kind": clock.kind, "unit": clock.unit},
    }  # fmt: skip


def overview(explanation: Explanation) -> dict[str, Any]:
    """Scores, calibration, importance, memory, missing values and trust, each term in the order of importance."""
    importance = explanation.importance()
    order = np.argsort(-importance.importance, kind="stable")
    titles = {term.name: term.title for term in explanation.reader.terms}
    names = [importance.term[n] for n in order]
    ranked = {name: getattr(importance, name)[order] for name in ("importance", "low", "high", "share")}
    return {
        **_agreement(explanation),
        "importance": {"term": names, "title": [titles[name] for name in names], **ranked},
        "memory": _memory(explanation, names, titles),
        "missing": _missing(explanation, names, titles),
        "trust": _trust(explanation, names, titles),
    }


def _agreement(explanation: Explanation) -> dict[str, Any]:
    """Scores and calibration, or why there are none."""
    try:
        found = labelled(explanation)
    except ValueError as error:  # no labels, or outputs that are no predictions of them
        return {"scores": [], "calibration": None, "why": f"No score: {error}."}
    line = explanation.calibration()
    calibration = {
        "predicted": line.bin_predicted, "observed": line.bin_observed, "n": line.bin_n, "bias": line.bias[0],
        "slope": line.slope[0], "classes": line.classes, "labels": line.n[0],
    }  # fmt: skip
    return {"scores": _scores(found), "calibration": calibration, "why": ""}


def _scores(found: Labelled) -> list[dict[str, Any]]:
    """Each with a name, the value, and how it is to be read."""
    told: list[tuple[str, float, str]] = []
    truth, predicted, weight = found.truth, found.predicted, found.weight
    differ = len(np.unique(truth)) > 1
    if found.classes and differ:
        auc = roc_auc_score(truth, predicted, sample_weight=weight)
        told.append(("AUC", auc, "1 is perfect, 0.5 is chance"))
        skill = explain.brier_skill(predicted, truth, weight)
        told.append(("Brier skill", skill, "1 is perfect, 0 is no better than the overall rate"))
    if not found.classes and differ:
        told.append(("R2", r2_score(truth, predicted, sample_weight=weight), "1 is perfect, 0 is the mean"))
    if not found.classes:
        error = np.sqrt(np.average((truth - predicted) ** 2, weights=weight))
        told.append(("RMSE", error, "the typical error, in units of the target"))
    return [{"name": name, "value": float(value), "told": how} for name, value, how in told]


def _memory(explanation: Explanation, names: list[str], titles: dict[str, str]) -> dict[str, Any] | None:
    """None of a model without memory."""
    if explanation.inputs.flat:
        return None
    found = explanation.memory()
    if not found.term:
        return None
    order = [found.term.index(name) for name in names if name in found.term]
    columns = {name: getattr(found, name)[order] for name in ("timescale", "change", "gain", "low", "high")}
    return {**_named(found.term, order, titles), **columns, "unit": found.unit, "loss": found.loss}


def _missing(explanation: Explanation, names: list[str], titles: dict[str, str]) -> dict[str, Any]:
    found = explanation.missingness()
    order = [found.term.index(name) for name in names]
    columns = {name: getattr(found, name)[order] for name in ("effect", "low", "high", "never", "held", "n_never")}
    return {**_named(found.term, order, titles), **columns}


def _trust(explanation: Explanation, names: list[str], titles: dict[str, str]) -> dict[str, Any] | None:
    """Concurvity, and the agreement of members where there are several; None of a model of one term."""
    if len(names) < 2:
        return None
    found = explanation.concurvity()
    order = [found.term.index(name) for name in names]
    columns = {name: getattr(found, name)[order] for name in ("worst", "observed", "estimate")}
    if explanation.reader.members > 1:
        stable = explanation.stability()
        columns |= {"agreement": stable.agreement[order], "identified": stable.identified[order]}
    return {**_named(found.term, order, titles), **columns}


def _named(terms: tuple[str, ...], order: list[int], titles: dict[str, str]) -> dict[str, list[str]]:
    return {"term": [terms[n] for n in order], "title": [titles[terms[n]] for n in order]}


def _name(name: Any) -> str:
    return ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)
