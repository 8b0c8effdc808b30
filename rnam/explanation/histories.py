"""Histories that occurred: which visits they are cut at, and the model's input up to some visits after these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rnam import _checks
from rnam.estimators.encoding import Feature, Inputs
from rnam.explain._arrays import Floats, as_array
from rnam.explanation.reading import Rows
from rnam.explanation.words import called, when
from rnam.panel import Panel
from rnam.panel.storage import ragged

__all__ = ["Histories", "raw_values"]

NEAREST = 0.1  # of the visits, those whose value is nearest to the one that is asked for


@dataclass(frozen=True, eq=False)
class Histories:
    """Sequences of visits up to `lags` visits after the visit at which each is cut.

    Args:
        inputs: of these sequences.
        raw: (visits,), the column at their visits, in its units, NaN where missing.
        cut: (histories,), the visit of each among `inputs`.
        visits: (histories,), the same among those of the panel.
        lags: the visits after it.
    """

    inputs: Inputs
    raw: Floats
    cut: Rows
    visits: Rows
    lags: int

    @classmethod
    def of(
        cls, panel: Panel, inputs: Inputs, feature: Feature, lags: int, *, histories: Any = None,
        value: float | None = None, quantile: float | None = None, before: int = 0, sample: int = 100, seed: int = 0,
    ) -> Histories:  # fmt: skip
        """
        Args:
            panel, inputs: of the histories.
            feature: the column that is observed where a history is cut.
            lags: the visits that follow.
            histories: None or "sample" for all visits that have so many after them; a list of ids, of each of which the
                last such visit is taken, or the one with the value nearest to `value`; or bools (visits,), the visits
                themselves.
            value, quantile: of the column where histories are cut: the tenth of the visits nearest to it are taken.
            before: the fewest visits before the cut.
            sample: the most histories, which are drawn of these.
            seed: of the draw.

        Raises:
            TypeError, ValueError: an argument is not what it must be; no history is long enough; one that was asked for
                is too short.
            KeyError: an id is none of the panel's.
        """
        raw = raw_values(panel, feature)
        sample, before = _checks.positive_int("sample", sample), _checks.whole_number("before", before)
        if value is not None and quantile is not None:
            raise ValueError("value must be None where quantile is given")
        seen = ~np.isnan(raw)
        ends = inputs.offsets[1:][panel.owners]
        places = np.arange(len(raw))
        eligible = seen & (places + lags < ends) & (places - before >= inputs.offsets[panel.owners])
        wanted = f"{lags} visits after and {before} before" if before else f"{lags} visits after"
        if value is not None:
            value = _checks.finite_number("value", value)
        elif quantile is not None:
            share = _checks.finite_number("quantile", quantile)
            if not 0 <= share <= 1:
                raise ValueError(f"quantile must be from 0 to 1, got {share}")
            value = float(np.quantile(raw[seen], share))
        if isinstance(histories, str) and histories != "sample":
            raise ValueError(f"histories must be 'sample', a list of ids or bools for each visit, got {histories!r}")
        if histories is None or isinstance(histories, str):
            chosen = np.flatnonzero(eligible)
            if not len(chosen):
                raise ValueError(f"histories must have {wanted} one at which {feature.name!r} is observed, got none")
            if value is not None:
                away = np.abs(raw[chosen] - value)
                chosen = chosen[away <= np.quantile(away, NEAREST)]
        else:
            chosen = _given(panel, histories, eligible, raw, value, wanted, feature)
        if len(chosen) > sample:
            chosen = np.sort(np.random.default_rng(seed).choice(chosen, sample, replace=False))
        owner = panel.owners[chosen]
        starts = inputs.offsets[owner]
        lengths = chosen - starts + lags + 1
        rows, offsets = ragged(starts, lengths), np.concatenate([[0], np.cumsum(lengths)])
        times = None if inputs.times is None else inputs.times[rows]
        cut_inputs = Inputs(
            inputs.values[rows],
            inputs.mask[rows],
            times,
            inputs.static[owner],
            inputs.static_mask[owner],
            offsets,
            False,
        )
        return cls(cut_inputs, raw[rows], offsets[1:] - 1 - lags, chosen, lags)

    def __len__(self) -> int:
        return len(self.cut)

    @property
    def steps(self) -> Rows:
        """(histories,), the visit of each counted from the start of its sequence."""
        return np.asarray(self.cut - self.inputs.offsets[:-1], np.int64)

    @property
    def lagged(self) -> Rows:
        """(histories, lags + 1), the visits from the cut on."""
        return np.asarray(self.cut[:, None] + np.arange(self.lags + 1), np.int64)

    def with_column(self, feature: Feature, raw: Floats) -> Inputs:
        """The inputs with other values (visits,) of the column; where it is missing it stays so."""
        values = self.inputs.values.copy()
        encoded, there = feature.encode(np.where(np.isnan(self.raw), np.nan, raw))
        values[:, feature.visit_columns] = np.where(there[:, None], encoded, 0)
        return self.inputs._replace(values=values)

    def moved(self, kind: str) -> Any:
        """bool (visits,): at the cut, or with "step" from it on."""
        if kind == "impulse":
            where = np.zeros(len(self.raw), np.bool_)
            where[self.cut] = True
            return where
        return np.arange(len(self.raw)) >= np.repeat(self.cut, self.inputs.lengths)


def raw_values(panel: Panel, feature: Feature) -> Floats:
    """(visits,), a column of numbers of visits in its units, NaN where missing.

    Raises:
        ValueError: the column is none of visits, or holds no numbers.
    """
    if feature.role != "values":
        kind = "one of ids" if feature.is_static else "one of levels"
        raise ValueError(f"column must be one of numbers of visits, got {feature.name!r}, {kind}")
    at = next(n for n, column in enumerate(panel.schema.values) if str(column.name) == feature.name)
    return panel.values[:, at].astype(np.float64)


def _given(
    panel: Panel, histories: Any, eligible: Any, raw: Floats, value: float | None, wanted: str, feature: Feature
) -> Rows:
    array = as_array(histories) if not isinstance(histories, list | tuple) else None
    if isinstance(histories, list) and histories and all(isinstance(own, bool | np.bool_) for own in histories):
        array = np.array(histories)
    if array is not None and array.dtype == np.bool_:
        if array.shape != raw.shape:
            raise ValueError(f"histories must have shape {raw.shape}, one for each visit, got {array.shape}")
        chosen = np.flatnonzero(array)
        if not len(chosen):
            raise ValueError("histories must choose a visit, got none")
        short = chosen[~eligible[chosen]]
        if len(short):
            at = when(panel.stamps.iloc[short[0]])
            id = called(panel.schema.id_name, panel.ids[panel.owners[short[0]]])
            raise ValueError(f"histories must have {feature.name!r} and {wanted} it, got visit {at} of {id}")
        return chosen
    ids = list(histories)
    if not ids:
        raise ValueError("histories must have an id, got none")
    positions = panel.ids.get_indexer(panel[ids].ids)
    found = []
    for id, position in zip(ids, positions, strict=True):
        own = np.arange(panel.offsets[position], panel.offsets[position + 1])
        own = own[eligible[own]]
        if not len(own):
            raise ValueError(
                f"histories must have {wanted} one at which {feature.name!r} is observed, got "
                f"{panel.lengths[position]} visits of {called(panel.schema.id_name, id)}"
            )
        found.append(own[-1] if value is None else own[np.abs(raw[own] - value).argmin()])
    return np.array(found, np.int64)
