"""Scores of several methods over several seeds: their means, a table for the screen, a dict for JSON.

`found` is everywhere {method: [{score: value} for each seed]}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Found = Mapping[str, Sequence[Mapping[str, float]]]


def means(found: Found) -> dict[str, dict[str, float]]:
    """{method: {score: its mean over the seeds}}."""
    return {
        name: {score: float(np.mean([row[score] for row in rows])) for score in rows[0]} for name, rows in found.items()
    }


def table(found: Found, seeds: Sequence[int], headings: Mapping[str, str], *, least: bool = False) -> str:
    """A line for each method, the best mean of the first score on top: that score by seed, then the mean of every one.

    `headings`: {score: its heading}, in order; of the first more is better, or less with `least`.
    """
    mean, first = means(found), next(iter(headings))
    head = ["", *(f"{headings[first]}, seed {seed}" for seed in seeds), *(f"mean {what}" for what in headings.values())]
    rows = [
        [name, *(f"{row[first]:.3f}" for row in found[name]), *(f"{mean[name][score]:.3f}" for score in headings)]
        for name in sorted(found, key=lambda name: mean[name][first] if least else -mean[name][first])
    ]
    names, *others = ([len(cell) for cell in column] for column in zip(head, *rows, strict=True))
    widths = [max(lengths) for lengths in others]
    return "\n".join(
        row[0].ljust(max(names)) + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True))
        for row in (head, *rows)
    )


def as_json(found: Found, seeds: Sequence[int]) -> dict[str, Any]:
    """{method: {"seeds": {seed: scores}, "mean": scores}}."""
    mean = means(found)
    return {
        name: {"seeds": {str(seed): dict(row) for seed, row in zip(seeds, rows, strict=True)}, "mean": mean[name]}
        for name, rows in found.items()
    }
