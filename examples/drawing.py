"""A figure as the examples save it."""

from __future__ import annotations

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def figure(width: float, height: float, **options: Any) -> Figure:
    """White, of so many inches at 150 dpi; `options` are those of Figure. No pyplot: nothing global, no window."""
    made = Figure(figsize=(width, height), dpi=150, facecolor="white", **options)
    FigureCanvasAgg(made)
    return made
