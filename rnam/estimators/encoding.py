"""From the columns of a panel to the numbers that a model reads: scales, levels, and which term reads which columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnam.panel import Panel
from rnam.panel.columns import plain
from rnam.panel.schema import Column

__all__ = ["PAIR", "Encoder", "Feature", "Inputs", "Kind", "Term", "refuse_ambiguous"]

Array = NDArray[Any]
Kind = Literal["recurrent", "timing", "memoryless", "static"]

PAIR = " & "  # between the two names of a pair
ROLES = ("values", "categories", "static", "static_categories")
TAIL = 3.0  # a scaled number comes near to this and does not pass it

_NORMAL = 1.349  # the distance of the quartiles of a normal distribution, in standard deviations


class Inputs(NamedTuple):
    """A panel as a model reads it: the visits of one sequence after those of another.

    Args:
        values: float32 (visits, columns), 0 where masked.
        mask: bool (visits, columns), True where there is a value.
        times: float64 (visits,), of a model that reads them, else None.
        static: float32 (sequences, columns), 0 where masked.
        static_mask: bool (sequences, columns).
        offsets: int64 (sequences + 1,): the visits of sequence i are those from offsets[i] to offsets[i + 1] - 1.
        flat: whether each sequence is one row of a table, as `rnam.NAM` reads it.
    """

    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    times: NDArray[np.float64] | None
    static: NDArray[np.float32]
    static_mask: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    flat: bool

    @property
    def sequences(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def batch(self, positions: Any, device: torch.device | str | None = None) -> dict[str, Tensor]:
        """Some of the sequences as the arguments of the model's forward, padded to the right.

        A mask is left out where all of the batch is there, and lengths where all are equal.

        Args:
            positions: of the sequences, integers (n,).
            device: of the tensors.
        """
        positions = np.asarray(positions)
        starts, ends = self.offsets[positions], self.offsets[positions + 1]
        if self.flat:
            return _tensors({"input": self.values[starts]} | _mask("mask", self.mask[starts]), device)
        lengths = ends - starts
        longest = int(lengths.max()) if len(lengths) else 0
        rows = np.minimum(starts[:, None] + np.arange(longest), ends[:, None] - 1)  # past its end the last visit again
        batch: dict[str, Array] = {"input": self.values[rows]} | _mask("mask", self.mask[rows])
        if len(lengths) and lengths.min() < longest:
            batch["lengths"] = lengths
        if self.times is not None:
            batch["times"] = self.times[rows]
        if self.static.shape[1]:
            batch |= {"static": self.static[positions]} | _mask("static_mask", self.static_mask[positions])
        return _tensors(batch, device)


def _mask(name: str, mask: NDArray[np.bool_]) -> dict[str, Array]:
    return {} if mask.all() else {name: mask}


def _tensors(arrays: Mapping[str, Array], device: torch.device | str | None) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


@dataclass(frozen=True)
class Feature:
    """A column of the panel, and the columns of the model's input that it becomes.

    A number becomes s / sqrt(1 + (s / 3)^2) with s = (x - centre) / scale: linear near the centre, and at most 3 for
    the longest tail (the smooth clipping of RealMLP, arXiv 2407.04491). A cyclic column becomes the sine and the cosine
    of its phase; a category a column of 0 and 1 for each level.

    Args:
        name, title, unit: of the panel's column, the name as a str.
        role: "values", "categories", "static" or "static_categories".
        kind: "number", "cyclic" or "category".
        centre, scale: of a number; a scale of 0 is that of a column without a number in the training rows, which stays
            masked.
        period: of a cyclic column.
        levels: of a category, those of the training rows.
        memoryless: read at each step without memory.
        visit_columns: of `Inputs.values`; () where it is not read at visits.
        static_columns: of `Inputs.static`; () where it is none of ids.
    """

    name: str
    title: str
    unit: str
    role: str
    kind: str
    centre: float = 0.0
    scale: float = 1.0
    period: float = 0.0
    levels: tuple[Any, ...] = ()
    memoryless: bool = False
    visit_columns: tuple[int, ...] = ()
    static_columns: tuple[int, ...] = ()

    @property
    def is_static(self) -> bool:
        return self.role in ("static", "static_categories")

    @property
    def width(self) -> int:
        """How many columns it becomes."""
        return {"number": 1, "cyclic": 2}.get(self.kind, max(1, len(self.levels)))

    def codes(self, codes: Array, levels: Sequence[Any]) -> NDArray[np.int64]:
        """Codes in `levels` as codes in its own; -1 of a level that the training rows did not hold, and of none."""
        known = {level: n for n, level in enumerate(self.levels)}
        return np.array([*(known.get(plain(level), -1) for level in levels), -1], np.int64)[codes]

    def encode(self, raw: Array) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Numbers (n,) with NaN for none, or codes (n,) in its own levels with -1: float32 (n, width), 0 where there is
        none, and bool (n,), where there is one."""
        if self.kind == "category":
            there = raw >= 0
            hot = np.zeros((len(raw), self.width), np.float32)
            hot[np.flatnonzero(there), raw[there]] = 1
            return hot, there
        numbers = raw.astype(np.float64)
        there = ~np.isnan(numbers)
        if self.kind == "cyclic":
            phase = 2 * np.pi * (numbers / self.period % 1.0)
            encoded = np.stack([np.sin(phase), np.cos(phase)], axis=1)
        elif self.scale == 0:
            return np.zeros((len(raw), 1), np.float32), np.zeros(len(raw), np.bool_)
        else:
            with np.errstate(over="ignore"):  # the largest float64s less others are infinite, and have an end here
                scaled = np.clip((numbers - self.centre) / self.scale, -1e9, 1e9)
            encoded = (scaled / np.sqrt(1 + (scaled / TAIL) ** 2))[:, None]
        return np.where(there[:, None], encoded, 0).astype(np.float32), there


@dataclass(frozen=True)
class Term:
    """A term of the model, in the order in which the model reports them.

    Args:
        name: that of its feature, "a & b" of a pair, or "timing"; those of the model's description.
        title: what people read.
        unit: of a feature that is a number; "" else.
        kind: the network that reads it: "recurrent", "timing", "memoryless" (feed-forward at each visit, as all terms
            of a NAM are) or "static".
        features: the names of the columns that it reads: one, two of a pair, none of the timing term.
        columns: of `Inputs.static` for a static term, else of `Inputs.values`.
    """

    name: str
    title: str
    unit: str
    kind: Kind
    features: tuple[str, ...]
    columns: tuple[int, ...]

    @property
    def is_pair(self) -> bool:
        return len(self.features) == 2


@dataclass(frozen=True)
class Encoder:
    """How the columns of a panel become a model's inputs; of plain values alone, so that it can be written as JSON.

    Args:
        features: the columns of the panel, in its order.
        terms: of the model, in its order.
        flat: each visit is a row by itself, with what is known of its id beside it, for a NAM.
        timed: the model reads times.
        clock, time_unit: of the panel's times: "number", "date" or "duration", and their unit.

    Example:
        >>> import pandas
        >>> df = pandas.DataFrame({"id": [1, 1, 2], "day": [0, 3, 0], "x": [1.0, None, 5.0], "ward": ["a", "b", "a"]})
        >>> panel = rnam.Panel.from_frame(df, id="id", time="day", values=["x"], categories=["ward"])
        >>> encoder = Encoder.fit(panel, pairs=[("x", "ward")])
        >>> [(term.name, term.columns) for term in encoder.terms]
        [('x', (0,)), ('ward', (1, 2)), ('x & ward', (0, 1, 2))]
        >>> encoder.transform(panel).batch([0])["mask"].int().tolist()
        [[[1, 1, 1], [0, 1, 1]]]
        >>> Encoder.from_dict(encoder.to_dict()) == encoder
        True
    """

    features: tuple[Feature, ...]
    terms: tuple[Term, ...]
    flat: bool = False
    timed: bool = False
    clock: str = "number"
    time_unit: str = ""

    @classmethod
    def fit(
        cls, panel: Panel, *, pairs: Iterable[Sequence[Hashable]] = (), timing: bool = False, timed: bool = False,
        flat: bool = False,
    ) -> Self:  # fmt: skip
        """Scales and levels of the visits and ids of a panel, each of which counts alike.

        Args:
            panel: of the training part.
            pairs: of names of columns.
            timing: there is a term on the pattern of the visits.
            timed, flat: as above.

        Raises:
            TypeError, ValueError: two columns have the same name as words; a pair names no columns, one twice, or comes
                twice, or its term is called as another one is; no column is read by a recurrent term.
        """
        found = [_fitted(panel, role, n) for role in ROLES for n in range(len(getattr(panel.schema, role)))]
        twice = next((name for name, count in Counter(f.name for f in found).items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"columns must have different names as words, got {twice!r} twice")
        known = {feature.name: feature for feature in found}
        chosen = _pairs(pairs, known)
        carried = {a.name for a, b in chosen if a.is_static and not b.is_static}
        carried |= {b.name for a, b in chosen if b.is_static and not a.is_static}
        features = tuple(_placed(found, carried, flat))
        known = {feature.name: feature for feature in features}
        terms = [_term((feature,), flat) for feature in features]
        terms += [_term((known[a.name], known[b.name]), flat) for a, b in chosen]
        if timing:
            name = "timing"
            while any(term.name == name for term in terms):
                name += "_"
            terms.append(Term(name, name, "", "timing", (), ()))
        order: tuple[Kind, ...] = ("recurrent", "timing", "memoryless", "static")
        terms.sort(key=lambda term: order.index(term.kind))  # which keeps the order within a kind
        if not flat and terms[0].kind != "recurrent":
            raise ValueError(
                "the panel must have a column of visits that is not memoryless, got "
                f"{', '.join(repr(f.name) for f in features)}; a NAM reads columns of ids alone"
            )
        clock = panel.schema.clock
        return cls(features, tuple(terms), flat, timed or timing, clock.kind, clock.unit)

    def columns(self, kind: Kind) -> list[list[int]] | None:
        """The columns that each term of a kind reads, as `rnam.RNAM` takes them; None where there is no such term."""
        return [list(term.columns) for term in self.terms if term.kind == kind] or None

    def transform(self, panel: Panel) -> Inputs:
        """The model's inputs of a panel. Columns are found by name; a level that was not there in training is
        missing.

        Raises:
            ValueError: the panel lacks a column, has one in another role or one that is not known, or, where times are
                read, has times of another kind or unit.
        """
        self._check(panel)
        ids, owners = len(panel), panel.owners
        visits = len(owners)
        numbers, codes, static, static_codes = panel.values, panel.codes, panel.static, panel.static_codes
        sources = dict(zip(ROLES, (numbers, codes, static, static_codes), strict=True))
        values = np.zeros((visits, sum(len(f.visit_columns) for f in self.features)), np.float32)
        mask = np.zeros(values.shape, np.bool_)
        facts = np.zeros((ids, sum(len(f.static_columns) for f in self.features)), np.float32)
        facts_mask = np.zeros(facts.shape, np.bool_)
        for feature in self.features:
            at, column = _find(panel, feature)
            raw = sources[feature.role][:, at]
            encoded, there = feature.encode(raw if column.levels is None else feature.codes(raw, column.levels))
            if feature.static_columns:
                facts[:, feature.static_columns], facts_mask[:, feature.static_columns] = encoded, there[:, None]
            if feature.visit_columns:
                rows = owners if feature.is_static else slice(None)
                values[:, feature.visit_columns] = encoded[rows]
                mask[:, feature.visit_columns] = there[rows][:, None]
        offsets = np.arange(visits + 1) if self.flat else panel.offsets
        return Inputs(values, mask, panel.times if self.timed else None, facts, facts_mask, offsets, self.flat)

    def to_dict(self) -> dict[str, Any]:
        """The encoder as dicts, lists, words, numbers and bools."""
        return dict(_plain(asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The encoder that `to_dict` gave, before or after JSON.

        Raises:
            TypeError, ValueError: the fields are not those of an encoder.
        """
        given = dict(values)
        features = tuple(Feature(**_tuples(own)) for own in given.pop("features"))
        return cls(features, tuple(Term(**_tuples(own)) for own in given.pop("terms")), **given)

    def _check(self, panel: Panel) -> None:
        if not isinstance(panel, Panel):
            raise TypeError(f"panel must be a Panel, got {type(panel).__name__}")
        roles = {str(column.name): role for role in ROLES for column in getattr(panel.schema, role)}
        known = {feature.name for feature in self.features}
        for feature in self.features:
            if feature.name not in roles:
                raise ValueError(f"the panel must have the column {feature.name!r}, which the fit had, got none")
            if roles[feature.name] != feature.role:
                raise ValueError(
                    f"column {feature.name!r} must be in {feature.role}, as in the fit, got it in {roles[feature.name]}"
                )
        for name in roles:
            if name not in known:
                raise ValueError(f"the panel must have the columns of the fit, got {name!r} beside them")
        clock = panel.schema.clock
        if self.timed and (clock.kind, clock.unit) != (self.clock, self.time_unit):
            raise ValueError(
                f"times must be of the kind {self.clock!r} and the unit {self.time_unit!r}, as in the fit, got "
                f"{clock.kind!r} and {clock.unit!r}"
            )


def _find(panel: Panel, feature: Feature) -> tuple[int, Column]:
    columns = getattr(panel.schema, feature.role)
    at = next(n for n, column in enumerate(columns) if str(column.name) == feature.name)
    return at, columns[at]


def _fitted(panel: Panel, role: str, at: int) -> Feature:
    """One column with its scale or levels, before it has a place."""
    column: Column = getattr(panel.schema, role)[at]
    told: dict[str, Any] = dict(
        name=str(column.name), title=column.title, unit=column.unit, role=role, memoryless=column.memoryless
    )
    if column.levels is not None:
        codes = (panel.codes if role == "categories" else panel.static_codes)[:, at]
        there = np.unique(codes[codes >= 0])
        return Feature(**told, kind="category", levels=tuple(plain(column.levels[code]) for code in there))
    if column.period is not None:
        return Feature(**told, kind="cyclic", period=float(column.period))
    centre, scale = _scale((panel.values if role == "values" else panel.static)[:, at])
    return Feature(**told, kind="number", centre=centre, scale=scale)


def _scale(values: Array) -> tuple[float, float]:
    """The median, and the distance of the quartiles as a standard deviation. Where most numbers are the median, it is
    the median distance of the others from it; of a constant 1, and 0 where there is no number."""
    numbers = values[~np.isnan(values)].astype(np.float64)
    if not len(numbers):
        return 0.0, 0.0
    with np.errstate(over="ignore"):  # an infinite spread has an end below
        low, centre, high = np.quantile(numbers, [0.25, 0.5, 0.75])
        spread = (high - low) / _NORMAL
        if not spread > 0:
            distance = np.abs(numbers - centre)
            spread = np.median(distance[distance > 0]) if distance.any() else 1.0
    return float(centre), float(spread) if np.isfinite(spread) else float(np.finfo(np.float64).max)


def _pairs(pairs: Iterable[Sequence[Hashable]], known: Mapping[str, Feature]) -> list[tuple[Feature, Feature]]:
    found: list[tuple[Feature, Feature]] = []
    for pair in pairs:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise TypeError(f"pairs must be pairs of names, got {pair!r}")
        for name in pair:
            if str(name) not in known:
                raise ValueError(f"pairs must name columns of {', '.join(known)}, got {name!r}")
        first, second = (known[str(name)] for name in pair)
        if first is second:
            raise ValueError(f"pairs must be of two columns, got {pair[0]!r} twice")
        if any({first.name, second.name} == {a.name, b.name} for a, b in found):
            raise ValueError(f"pairs must name each pair once, got {tuple(pair)!r} twice")
        found.append((first, second))
    refuse_ambiguous(known, [(a.name, b.name) for a, b in found])
    return found


def refuse_ambiguous(columns: Iterable[str], pairs: Iterable[tuple[str, str]]) -> None:
    """Raises ValueError where the term of a pair is called as a column or another pair is."""
    taken = {name: f"the column {name!r}" for name in columns}
    for pair in pairs:
        name = PAIR.join(pair)
        if name in taken:
            raise ValueError(
                f"pairs must have names of their own, got {pair!r}, whose term is called as {taken[name]} is: another "
                "name of a column helps"
            )
        taken[name] = f"that of {pair!r}"


def _placed(features: Sequence[Feature], carried: set[str], flat: bool) -> Iterator[Feature]:
    """The features with their columns. A static column stands at the visits, too, where a pair or a row of its own
    needs it there."""
    at_visits = at_ids = 0
    for feature in features:
        told = asdict(feature)
        if not feature.is_static or flat or feature.name in carried:
            told["visit_columns"] = tuple(range(at_visits, at_visits + feature.width))
            at_visits += feature.width
        if feature.is_static and not flat:
            told["static_columns"] = tuple(range(at_ids, at_ids + feature.width))
            at_ids += feature.width
        yield Feature(**told)


def _term(features: tuple[Feature, ...], flat: bool) -> Term:
    static = not flat and all(feature.is_static for feature in features)
    held = flat or all(feature.memoryless or feature.is_static for feature in features)
    kind: Kind = "static" if static else "memoryless" if held else "recurrent"
    columns = [feature.static_columns if static else feature.visit_columns for feature in features]
    names = tuple(feature.name for feature in features)
    unit = features[0].unit if len(features) == 1 else ""
    title = PAIR.join(feature.title for feature in features)
    return Term(PAIR.join(names), title, unit, kind, names, sum(columns, ()))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(own) for name, own in value.items()}
    return [_plain(own) for own in value] if isinstance(value, tuple | list) else value


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(own) if isinstance(own, list) else own for name, own in fields.items()}
