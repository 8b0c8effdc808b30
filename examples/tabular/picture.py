"""Shape functions of the terms that matter most, NAM and EBM on the same axes; a row of panels for each table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas
import torch
from matplotlib.figure import Figure

from examples import drawing
from examples.tabular.data import Data, Floats
from examples.tabular.methods import Ebm, Nam
from rnam import explain, plot
from rnam.estimators import tables

SHOWN = 4  # terms of each table


def shapes(data: Data, nam: Nam) -> explain.Table:
    """The NAM's shape functions over the whole table, in the unit of the prediction."""
    model = nam.model

    def encode(values: Floats) -> dict[str, torch.Tensor]:
        panel = tables.read(model, pandas.DataFrame(values, columns=list(data.terms))).panel
        found: dict[str, torch.Tensor] = model.encoder_.transform(panel).batch(np.arange(len(values)))
        return found

    table = explain.table(model.model_, data.values.to_numpy(), encode=encode, units=data.units)
    (gain,), (offset,) = model.loss_.gain, model.loss_.offset
    intercept = np.array([name not in data.terms for name in table.term])
    return replace(table, contribution=gain * table.contribution + offset * intercept)


def most_important(table: explain.Table, data: Data, count: int = SHOWN) -> list[str]:
    """The terms with the largest mean size of the contribution over the data, the largest first."""
    rows = {term: table.rows(term) for term in data.terms}
    size = {term: np.average(np.abs(row.contribution), weights=row.n) for term, row in rows.items()}
    return sorted(size, key=lambda term: -size[term])[:count]


def draw(parts: Sequence[tuple[Data, Nam, Ebm | None]]) -> Figure:
    """The picture, at 150 dpi; without an EBM the NAM is alone on the axes."""
    figure = drawing.figure(15, 3.9 * len(parts), layout="constrained")
    for sub, (data, nam, boosted) in zip(np.atleast_1d(figure.subfigures(len(parts), 1)), parts, strict=True):
        table = shapes(data, nam)
        panels = sub.subplots(1, SHOWN)
        for axes, term in zip(panels, most_important(table, data), strict=True):
            plot.shape(
                table, term, ebm=None if boosted is None else boosted.model, label="NAM", ax=axes,
                contribution=f"contribution ({data.unit})" if axes is panels[0] else "",
            )  # fmt: skip
        low, high = zip(*(axes.get_ylim() for axes in panels), strict=True)
        for axes in panels:
            axes.set_ylim(min(low), max(high))
            axes.tick_params(axis="y", labelleft=axes is panels[0])
        sub.suptitle(data.title, fontsize=13)
    return figure
