"""The visits of each person: contributions of each term, and what it read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rnam.explanation.results import band
from rnam.explanation.words import when
from rnam.report.page import Packed

if TYPE_CHECKING:
    from rnam.explanation import Explanation
    from rnam.panel import Panel
    from rnam.panel.schema import Column

__all__ = ["choose", "visits"]

BYTES = 7_300_000  # of the page's 8 MB, for people
LONGEST = 2_000  # visits of a person that are drawn
PACKED = 16 / 3  # letters of a number


def choose(explanation: Explanation, ids: Sequence[Any] | None) -> NDArray[np.int64]:
    """The positions in the panel of the people that are on the page: those of `ids`, or all. Where all do not fit into
    8 MB, they are so many as do, evenly apart.

    Raises:
        KeyError: an id is none of the panel's.
        ValueError: there is none; one comes twice; they do not fit.
    """
    panel, costs = explanation.panel, _costs(explanation)
    if ids is not None:
        wanted = panel[list(ids)].ids
        if not len(wanted):
            raise ValueError("ids must have one at least, got none")
        chosen = np.asarray(panel.ids.get_indexer(wanted), np.int64)
        if costs[chosen].sum() > BYTES:
            raise ValueError(
                f"ids must have visits that fit into {BYTES / 1e6} MB, got {len(chosen):,} ids of "
                f"{costs[chosen].sum() / 1e6:.1f} MB"
            )
        return chosen
    count = len(panel)
    while True:
        chosen = np.unique(np.linspace(0, len(panel) - 1, count).round().astype(np.int64))
        size = costs[chosen].sum()
        if size <= BYTES or count == 1:
            return chosen
        count = max(1, min(count - 1, int(count * BYTES / size)))


def _costs(explanation: Explanation) -> NDArray[np.float64]:
    """(ids,), about how many letters of the page each id takes."""
    reader, panel = explanation.reader, explanation.panel
    schema, bands = panel.schema, 3 if reader.members > 1 else 1
    stamp = max(len(when(stamp)) for stamp in panel.stamps.iloc[:: max(1, len(panel.owners) // 1000)]) + 3
    numbers = bands * (len(reader.terms) + 1) + 2 + len(schema.values) + len(schema.categories)
    facts = len(schema.static) + len(schema.static_categories)
    return np.minimum(panel.lengths, LONGEST) * (PACKED * numbers + stamp) + PACKED * facts + 40


def visits(explanation: Explanation, chosen: NDArray[np.int64]) -> dict[str, Any]:
    """Ragged arrays, the visits of one person after those of another.

    contributions, low, high (visits, terms), and those of the total (visits,), have one row for each visit.
    """
    reader = explanation.reader
    panel = explanation.panel.take(chosen)
    by_member = explanation.centred(reader.contributions(reader.encoder.transform(panel), "visit"))
    kept = panel.offsets[1:][panel.owners] - np.arange(len(panel.owners)) <= LONGEST
    by_member = by_member[:, kept]
    parts, part_low, part_high = band(by_member)
    total, low, high = band(by_member.sum(2) + explanation.intercept[:, None])
    lengths = np.minimum(panel.lengths, LONGEST)
    offsets, times = np.concatenate([[0], np.cumsum(lengths)]), panel.times[kept]
    several = reader.members > 1
    return {
        "all": len(explanation.panel), "longest": LONGEST, "shortened": int((panel.lengths > LONGEST).sum()),
        "ids": [_told(id) for id in panel.ids],
        "offsets": offsets,
        "stamps": [when(stamp) for stamp in panel.stamps[kept]],
        "times": Packed(times - np.repeat(times[offsets[:-1]], lengths)),
        "term": list(reader.names), "title": [term.title for term in reader.terms],
        "features": [list(term.features) for term in reader.terms],
        "contribution": Packed(parts), "total": Packed(total), "predicted": Packed(reader.told(total)),
        "low": Packed(part_low) if several else None, "high": Packed(part_high) if several else None,
        "total_low": Packed(low) if several else None, "total_high": Packed(high) if several else None,
        "columns": _columns(panel, kept),
    }  # fmt: skip


def _columns(panel: Panel, kept: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """The columns that the terms read: numbers, or codes in levels, of visits or of ids."""
    schema = panel.schema
    found = []
    of_visits = (schema.values, panel.values), (schema.categories, panel.codes)
    of_ids = (schema.static, panel.static), (schema.static_categories, panel.static_codes)
    for static, groups in ((False, of_visits), (True, of_ids)):
        for columns, table in groups:
            rows = table if static else table[kept]
            found += [_column(column, rows[:, n], static) for n, column in enumerate(columns)]
    return found


def _column(column: Column, values: NDArray[Any], static: bool) -> dict[str, Any]:
    levels = None if column.levels is None else [str(level) for level in column.levels]
    return {
        "name": str(column.name), "title": column.title, "unit": column.unit, "levels": levels, "static": static,
        "values": Packed(values),
    }  # fmt: skip


def _told(id: Any) -> str:
    return ", ".join(map(str, id)) if isinstance(id, tuple) else str(id)
