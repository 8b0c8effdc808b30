"""Contributions as the objects of shap and of interpret."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from rnam.explain._arrays import Floats
from rnam.explanation.axes import column_of
from rnam.explanation.sources import Source

__all__ = ["to_interpret", "to_shap"]


def to_shap(source: Source) -> Any:
    """`Explanation.to_shap`."""
    shap = _needed("shap", "to_shap")
    parts = source.contributions.mean(0)
    base = np.full(len(parts), source.intercept.mean())
    return shap.Explanation(
        values=parts, base_values=base, data=_read(source), feature_names=list(source.reader.names),
        output_names=source.reader.output,
    )  # fmt: skip


def to_interpret(source: Source) -> Any:
    """`Explanation.to_interpret`."""
    templates = _needed("interpret.api.templates", "to_interpret")
    names, parts, read = list(source.reader.names), source.contributions.mean(0), _read(source)
    size = np.average(np.abs(parts), axis=0, weights=source.weight)
    extra = {"names": ["Intercept"], "scores": [float(source.intercept.mean())], "values": [1]}
    specific = [
        {
            "type": "univariate", "names": names, "scores": row.tolist(),
            "values": [None if np.isnan(value) else value for value in values], "extra": extra, "perf": None,
        }
        for row, values in zip(parts, read.tolist(), strict=True)
    ]  # fmt: skip
    overall = {"type": "univariate", "names": names, "scores": size.tolist()}
    kinds = ["interaction" if term.is_pair else "continuous" for term in source.reader.terms]
    return templates.FeatureValueExplanation(
        "local", {"overall": overall, "specific": specific, "mli": []}, feature_names=names, feature_types=kinds,
        name=repr(source).partition(":")[0],
    )  # fmt: skip


def _needed(module: str, asked: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ImportError(f"{asked} needs {name}, which is not installed: pip install {name}") from error


def _read(source: Source) -> Floats:
    """(rows, terms), what each term reads then: a number, the place of a level, NaN where it is missing, and NaN of a
    pair and of the timing term, which read no single one."""
    panel, rows = source.panel, source.rows(source.panel)
    found = np.full((len(rows), len(source.reader.terms)), np.nan)
    for n, term in enumerate(source.reader.terms):
        if len(term.features) != 1:
            continue
        feature = source.reader.feature(term.features[0])
        column = column_of(panel, feature)
        shown = column[panel.owners[rows]] if feature.is_static else column[rows]
        found[:, n] = np.where(shown < 0, np.nan, shown) if feature.kind == "category" else shown
    return found
