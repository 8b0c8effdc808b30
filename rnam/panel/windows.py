"""Windows of consecutive visits, and regular series that are cut into them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas

from rnam import _checks
from rnam._checks import shown
from rnam.panel.columns import plain
from rnam.panel.schema import Schema
from rnam.panel.storage import Facts, Integers, Parts, Sequences, ragged

__all__ = ["Gaps", "runs", "windows"]

Gaps = Literal["refuse", "split"]


def windows(parts: Parts, length: int, step: int, burn_in: int, horizon: int | None) -> Parts:
    """`Panel.windows`."""
    length, step = _checks.positive_int("length", length), _checks.positive_int("step", step)
    burn_in = _checks.whole_number("burn_in", burn_in)
    ahead = 0 if horizon is None else _checks.whole_number("horizon", horizon)
    schema, sequences = parts.schema, parts.sequences
    if schema.targets and schema.at == "id":
        raise ValueError('windows must be cut from a panel with labels at visits, got at="id"')
    if horizon is not None and not schema.targets:
        raise ValueError("horizon must be None for a panel without a target")
    if not len(sequences.lengths):
        raise ValueError("windows must be cut from ids, got a panel of none")
    if len(schema.id) > 1:
        raise ValueError("windows must be cut from ids, got a panel of windows")
    whole = burn_in + length
    counts = np.maximum((sequences.lengths - whole - ahead) // step + 1, 0)
    if not counts.any():
        raise ValueError(
            f"windows must fit into the visits of an id: they take {whole + ahead}, got at most "
            f"{sequences.lengths.max()}"
        )
    owners = np.repeat(np.arange(len(counts)), counts)
    skipped = ragged(np.zeros_like(counts), counts) * step  # visits of the id before the window
    firsts = sequences.offsets[owners] + skipped  # among all visits of the panel
    lengths = np.full(len(owners), whole)
    shown = None if sequences.shown is None else sequences.shown[ragged(firsts, lengths)]
    if horizon is None and burn_in and schema.targets:
        late = np.tile(np.arange(whole) >= burn_in, len(owners))
        shown = late if shown is None else shown & late
    cut = Sequences(sequences.starts[owners] + skipped, lengths, shown)
    facts = Parts(schema, parts.visits, parts.facts.take(owners), cut).of_its_time().facts
    facts = replace(
        facts,
        ids=_ids(parts, owners, cut.starts + whole - 1),
        groups=facts.ids if facts.groups is None else facts.groups,
    )
    named = f"{schema.clock.name}_end"
    visits = parts.visits
    schema = replace(schema, id=(*schema.id, named), group=schema.id[0] if schema.group is None else schema.group)
    if horizon is not None:
        facts = _ahead(parts, facts, firsts + whole - 1 + horizon, cut.starts + whole - 1 + horizon)
        targets = tuple(replace(own, name=f"{own.name}_ahead", title=f"{own.title} ahead") for own in schema.targets)
        schema = replace(schema, at="id", targets=targets if horizon else schema.targets)
        visits, cut = replace(visits, labels=None, weight=None), replace(cut, shown=None)
    _refuse_twice(schema)
    return Parts(schema, visits, facts, cut)


def _refuse_twice(schema: Schema) -> None:
    """Raises ValueError if a column is called as the ends or the labels of windows are."""
    names = [*schema.id, schema.clock.name, *(column.name for _, column in schema.columns())]
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"windows must have a name of their own for {name!r}, which is a column: rename that")


def _ids(parts: Parts, owners: Integers, ends: Integers) -> Any:
    """The id and the time of the last visit of each window."""
    clock = parts.schema.clock
    times = clock.restore(parts.visits.stamps[ends])
    names = [parts.schema.id[0], f"{clock.name}_end"]
    return pandas.MultiIndex.from_arrays([parts.facts.ids.take(owners), pandas.Index(times)], names=names)


def _ahead(parts: Parts, facts: Facts, places: Integers, rows: Integers) -> Facts:
    """The labels of the visits at these places of the panel, which are these rows, as those of ids."""
    labels, weight = parts.labels(), parts.visits.weight
    assert labels is not None
    return replace(
        facts,
        labels=labels[places],
        weight=None if weight is None else weight[rows],
        known=parts.visits.stamps[rows],
    )


def runs(parts: Parts, gaps: Gaps) -> Parts:
    """The stretches of each series between which steps of the grid are missing.

    The step of the grid is the median distance between two times of a series, the lower of two.

    Raises:
        ValueError: a time does not lie on the grid; one is missing and gaps is "refuse"; the series have one time each.
    """
    _checks.one_of("gaps", gaps, ("refuse", "split"))
    stamps, owners = parts.stamps(), parts.sequences.owners()
    inner = np.flatnonzero(owners[1:] == owners[:-1])
    if not len(inner):
        raise ValueError("a series must have two times or more, got one in each")
    distance = (stamps[1:] - stamps[:-1])[inner]
    step = np.sort(distance)[(len(distance) - 1) // 2]
    count = np.rint(distance / step)
    # float times add their roundings: a grid is regular to a thousandth of its step
    off = np.abs(distance / step - count) > 1e-3
    wrong = off if gaps == "split" else off | (count > 1)
    if wrong.any():
        at = inner[int(wrong.argmax())]
        before, after = parts.schema.clock.restore(stamps[[at, at + 1]])
        told = _step(step)
        advice = "" if off[wrong.argmax()] else '; gaps="split" cuts the series there'
        raise ValueError(
            f"a series must have a time at each step of {told}, got {before} and then {after} in "
            f"{parts.schema.id_name} {plain(parts.facts.ids[owners[at]])!r}{advice}"
        )
    cuts = np.zeros(len(stamps), np.bool_)
    cuts[0] = True
    cuts[1:] = owners[1:] != owners[:-1]
    cuts[inner[count > 1] + 1] = True
    first = np.flatnonzero(cuts)
    lengths = np.diff(np.append(first, len(stamps)))
    facts = parts.facts.take(owners[first])
    rows = np.arange(len(stamps)) + parts.sequences.starts[0]
    return parts._replace(facts=facts, sequences=Sequences(rows[first], lengths, None))


def _step(step: Any) -> str:
    return str(pandas.Timedelta(step)) if isinstance(step, np.timedelta64) else shown(step)
