"""A panel of the page for each term: shape, response over lags, missing values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from rnam.explanation.shapes import PairShape, Shape

if TYPE_CHECKING:
    from rnam.estimators.encoding import Term
    from rnam.explanation import Explanation

__all__ = ["panels"]

LAGS = 10  # visits after a change, at most


def panels(explanation: Explanation, lags: int | None, verbose: int) -> list[dict[str, Any]]:
    """A panel for each term, the most important first.

    Args:
        lags: of the responses; None for 10, or less where fewer than a tenth of the people have so many visits.
        verbose: 1 shows a bar.
    """
    importance = explanation.importance()
    order = np.argsort(-importance.importance, kind="stable")
    lags = _lags(explanation) if lags is None else lags
    return [
        {**_panel(explanation, explanation.reader.terms[n], lags), "share": float(importance.share[n])}
        for n in tqdm(order, desc="Explaining", unit="term", disable=not verbose, dynamic_ncols=True)
    ]


def _lags(explanation: Explanation) -> int:
    return int(min(LAGS, np.quantile(explanation.panel.lengths, 0.9, method="lower") - 1))


def _panel(explanation: Explanation, term: Term, lags: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": term.name, "title": term.title, "unit": term.unit, "kind": term.kind, "features": list(term.features),
        "shape": None, "lag": None,
    }  # fmt: skip
    if not term.features:
        return found | {"why": "The term reads when visits are, and no column."}
    try:
        shape = explanation.shape(term.name)
    except ValueError as error:  # a column without a value
        return found | {"why": f"No shape: {error}."}
    if isinstance(shape, PairShape):
        return found | {"shape": _pair(shape)}
    found["shape"] = _single(shape)
    if term.kind == "recurrent":
        found["lag"] = _response(explanation, term.features[0], lags)
    return found


def _single(shape: Shape) -> dict[str, Any]:
    names = "x", "contribution", "low", "high", "n", "outside", "after"
    told = {name: getattr(shape, name) for name in names}
    return {
        "pair": False, **told, "level": list(shape.level), "after_told": list(shape.after_told),
        "settled": shape.settled, "missing": shape.missing, "n_missing": shape.n_missing,
    }  # fmt: skip


def _pair(shape: PairShape) -> dict[str, Any]:
    names = "x", "y", "interaction", "low", "high", "n"
    return {
        "pair": True, **{name: getattr(shape, name) for name in names}, "x_level": list(shape.x_level),
        "y_level": list(shape.y_level), "column": list(shape.column), "unit": list(shape.unit),
        "settled": shape.settled,
    }  # fmt: skip


def _response(explanation: Explanation, column: str, lags: int) -> dict[str, Any]:
    feature = explanation.reader.feature(column)
    if feature.kind != "number":
        return {"why": f"No response over lags: {feature.title} is no plain number."}
    if lags < 1:
        return {"why": "No response over lags: too few people have two visits."}
    try:
        answer = explanation.lag_response(column, lags=lags, values=[])
    except ValueError as error:  # no history is long enough
        return {"why": f"No response over lags: {error}."}
    line, total = answer.response, answer.cumulative
    return {
        "lag": answer.lag, "time": answer.time, "size": answer.size, "histories": len(answer.by_history[0]),
        "terms": list(answer.term), "change": line.change, "low": line.low, "high": line.high,
        "cumulative": total.change, "outside": line.outside, "why": "",
    }  # fmt: skip
