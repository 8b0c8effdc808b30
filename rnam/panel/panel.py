"""`Panel`: people with visits, read from a table, and what is made of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal, Self, overload

import numpy as np
import pandas

from rnam import _checks
from rnam.panel import joining, matrices, reading, splitting, windows
from rnam.panel.arrays import positions_in
from rnam.panel.columns import Unseen
from rnam.panel.contents import Contents
from rnam.panel.roles import Roles
from rnam.panel.schema import At
from rnam.panel.storage import Integers, Parts
from rnam.panel.windows import Gaps

__all__ = ["Panel"]

Names = Iterable[Hashable]


class Panel(Contents):
    """Ids with visits: who was seen when, what was measured, and what is to be predicted.

    A panel is made by `from_frame`, `from_array` or `from_series`. It holds numbers as they came: scaling and one-hot
    encoding belong to a model's fit. It is never changed: an operation gives a new panel, and both share the memory of
    the visits. Its length is the number of ids, it is iterated over ids, and `panel[id]` and `panel[[id, ...]]` are
    panels of these ids alone.

    Example:
        >>> import pandas
        >>> df = pandas.DataFrame({
        ...     "id": [1, 1, 2, 2, 2], "year": [68, 70, 68, 69, 72], "wage": [1.5, 1.6, 2.1, None, 2.4],
        ...     "race": ["a", "a", "b", "b", "b"], "union": [0, 1, 0, 0, 1],
        ... })
        >>> panel = rnam.Panel.from_frame(
        ...     df, id="id", time="year", values=["wage"], static=["race"], target="union", at="visit"
        ... )
        >>> panel
        Panel: 2 ids (id), 5 visits, 2 to 3 each
          time        year, 68 to 72
          values      wage; 20.0% missing
          static      race [2 levels]
          target      union at visits, 5 of 5 labelled
        >>> panel[2].values[:, 0]
        array([2.1, nan, 2.4])
    """

    @classmethod
    def from_frame(
        cls, df: Any, *, id: Hashable | None = None, time: Hashable | None = None, values: Names = (),
        categories: Names = (), static: Names = (), cyclic: Mapping[Any, float] | None = None,
        one_hot: Mapping[Any, Names] | None = None, memoryless: Names = (),
        levels: Mapping[Any, Iterable[Any]] | None = None, ordered: Names = (),
        target: Hashable | Names | None = None, at: At = "id", weight: Hashable | None = None,
        group: Hashable | None = None, time_unit: str | None = None, units: Mapping[Any, str] | None = None,
        titles: Mapping[Any, str] | None = None, sort: bool = False, like: Contents | None = None,
        unseen: Unseen = "refuse",
    ) -> Self:  # fmt: skip
        """From a table with a row for each visit. Columns that no argument names are not read.

        Args:
            df: a DataFrame of pandas, whose columns may be of pyarrow, or one of polars, which takes pyarrow, too.
            id, time: the columns of ids and times, or the levels of the index; both are left out of a frame with an
                (id, time) index. The rows of an id must be in order of time; the ids may take turns, and come in the
                order of their first rows. Times are numbers, dates, periods (their starts) or durations, each once for
                an id.
            values: columns of numbers. NaN, NA and None are missing.
            categories: columns of levels: words, numbers or bools.
            static: columns of which an id has one value. It may stand in some of its rows only. Words are levels,
                numbers are numbers, or levels where `categories` names the column, too. Words that are all numbers,
                such as "41", are refused unless `categories` names the column.
            cyclic: periods, such as {"hour": 24}: a column of numbers that begins again after so much. A column that
                is not in `values` or `static` is read as if it were in `values`.
            one_hot: {"stage": ["stage_1", "stage_2"]}: columns of 0 and 1, one of which is 1 at each visit, or all of
                which are missing. They become one category, whose levels are the columns.
            memoryless: columns of visits that are to be read at each step without memory, such as the calendar.
            levels: of categories, in order. Without, a category of pandas or polars and a dictionary of pyarrow keep
                their own, and others have those that occur, sorted.
            ordered: categories the order of whose levels means something.
            target: the column of labels, or several. Numbers or, as words, classes. A missing one is no label.
            at: "id": an id has one label, which may stand in some of its rows only. "visit": each visit has its own.
            weight: a column of weights of at least 0, of ids or visits as `at` says.
            group: a column of groups. Each id is in one, and no split by id divides a group. It has no other role: a
                copy with another name may be static.
            time_unit: "year" (365.25 days), "week", "day", "hour", "minute" or "second" of dates and durations, by
                default "day"; of numbers what they count, "" by default.
            units, titles: of columns, what people read on a picture: {"bili": "mg/dl"}, {"bili": "Bilirubin"}.
            sort: sort rows of an id that are not in order of time, rather than refuse them.
            like: a panel whose roles, kinds, levels, units and titles are taken; no other argument is given then but
                `df`, `sort`, `unseen`. A target, a weight or a group that `df` lacks is left out.
            unseen: of a level that is not among those given or known: "refuse" it, or take it as "missing". A class of
                the target that is not known is refused.

        Raises:
            TypeError: `df` is no frame, an argument is of another kind, times are neither numbers nor dates, levels
                are neither words, numbers nor bools.
            ValueError: `df` is empty; a column is missing, or named twice, or has two roles; an id or a time is
                missing; an id has a time twice or out of order, or two values of what is static; a value is infinite
                or no number; and the like. It names the column and, where one is at fault, the id and the time.
        """
        frame = reading.as_frame(df)
        chosen: dict[str, Any] = {
            "id": id, "time": time, "values": values, "categories": categories, "static": static, "cyclic": cyclic,
            "one_hot": one_hot, "memoryless": memoryless, "levels": levels, "ordered": ordered, "target": target,
            "weight": weight, "group": group, "time_unit": time_unit, "units": units, "titles": titles,
        }  # fmt: skip
        _checks.boolean_flag("sort", sort)
        _checks.one_of("unseen", unseen, ("refuse", "missing"))
        if like is not None:
            return cls(_read_like(frame, like, {**chosen, "at": at if at != "id" else None}, sort, unseen))
        del chosen["id"], chosen["time"], chosen["time_unit"]
        roles = Roles.of(**chosen, at=at)
        return cls(reading.read(frame, reading.keys(frame, id, time), roles, time_unit, sort, unseen))

    @classmethod
    def from_array(
        cls, X: Any, times: Any = None, *, ids: Any = None, names: Sequence[str] | None = None, y: Any = None,
        at: At = "id", static: Any = None, static_names: Sequence[str] | None = None, weight: Any = None,
        groups: Any = None, **roles: Any,
    ) -> Self:  # fmt: skip
        """From an array (n, T, columns) of numbers with NaN where they are missing.

        The last steps of an id at which all columns are NaN are padding. A step before them is a visit, also where all
        are missing. With at="visit" a step with a label is one, too, where y has a dtype of floats or objects, with NaN
        or None for no label. Other labels have no effect at padding.

        Args:
            X: (n, T, columns).
            times: (T,) or (n, T), numbers or dates; 0, 1, ... by default. Those of padding have no effect.
            ids: (n,), by default 0, 1, ...
            names: of the columns, by default x0, x1, ...
            y: labels (n,) or (n, targets), with at="visit" (n, T) or (n, T, targets), called y, or y0, y1, ...; or a
                structured array, called as its fields are.
            static: (n, columns).
            static_names: of its columns, by default s0, s1, ...
            weight: (n,), with at="visit" (n, T).
            groups: (n,).
                The columns are called id, time, weight and group, with an underscore where a column of the arrays is
                called so.
            **roles: cyclic, memoryless, categories, levels, ordered, time_unit, units, titles of `from_frame`.

        Raises:
            TypeError, ValueError: a shape is another; an id has no visit; or as `from_frame` does.

        Example:
            >>> X = np.array([[[1.0], [2.0], [np.nan]], [[3.0], [np.nan], [4.0]]])
            >>> rnam.Panel.from_array(X, y=[0, 1]).lengths
            array([2, 3])
        """
        frame, known = matrices.to_table(X, times, ids, names, y, at, static, static_names, weight, groups)
        return cls.from_frame(frame, **matrices.joined(known, roles))

    @classmethod
    def from_series(
        cls, df: Any, *, time: Hashable, target: Hashable, horizon: int, window: int, group: Hashable | None = None,
        values: Names = (), burn_in: int = 0, step: int = 1, gaps: Gaps = "refuse", sort: bool = False, **roles: Any,
    ) -> Self:  # fmt: skip
        """From regular series, cut into windows, each of which is an id of the panel.

        A window is `burn_in` + `window` consecutive rows of a series. Its label is the target `horizon` rows after the
        last of these: of the window that ends at time t on an hourly grid, horizon=6 is that of t + 6 hours, horizon=0
        that of t itself. So values may hold the target's own past, unless horizon is 0. A window without a row at its
        horizon is not made, one whose label is missing there has none.

        Args:
            df: as in `from_frame`.
            time: the column of times, on a grid whose step is the median distance of two that follow each other. Months
                are not: give their numbers.
            target: the column of labels, or several.
            horizon: rows from the end of a window to its label, at least 0.
            window: rows of a window, without those of `burn_in`.
            group: the column that says which series a row is of; None for one series. It has no other role, but a
                copy with another name may be static. The windows of a series are one group of the panel, which no split
                by id divides. Split by time to have parts of each.
            values: columns of numbers.
            burn_in: more rows before a window, which only warm its state.
            step: rows from the start of a window to that of the next.
            gaps: "refuse" a series in which a time of the grid is missing, or "split" it there: no window and no
                horizon reaches over a gap.
            sort: sort rows that are not in order of time.
            **roles: categories, static, cyclic, one_hot, memoryless, levels, ordered, weight, time_unit, units, titles
                of `from_frame`.

        Raises:
            TypeError, ValueError: times are not on one grid; no window fits; or as `from_frame` does.

        Example:
            >>> import pandas
            >>> df = pandas.DataFrame({"hour": range(8), "flow": np.arange(8.0)})
            >>> panel = rnam.Panel.from_series(df, time="hour", values=["flow"], target="flow", horizon=2, window=3)
            >>> len(panel), panel.padded([0])["values"][0, :, 0], panel.target
            (4, array([0., 1., 2.]), array([4., 5., 6., 7.]))
        """
        frame = reading.as_frame(df)
        _checks.whole_number("horizon", horizon)
        given = matrices.chosen(roles, ("static", "one_hot", "weight", *matrices.ROLES))
        unit = given.pop("time_unit")
        known = Roles.of(**given, values=values, target=target, at="visit", group=None, ahead=horizon > 0)
        reading.require(frame, [time] if group is None else [group, time], "group and time")
        owner = (
            pandas.Series(np.zeros(len(frame), np.int64), name=matrices.free("series", frame.columns))
            if group is None
            else frame[group]
        )
        key = reading.Keys(owner, frame[time], False)
        parts = windows.runs(reading.read(frame, key, known, unit, sort, "refuse"), gaps)
        return cls(windows.windows(parts, window, step, burn_in, horizon))

    @overload
    def split(
        self, parts: Sequence[float], *, by: Literal["id"] | None = ..., seed: int | None = ..., stratify: Any = ...
    ) -> list[Self]: ...
    @overload
    def split(
        self, *, until: Sequence[Any], by: Literal["time"] | None = ..., purge: float | None = ...
    ) -> list[Self]: ...

    def split(
        self, parts: Sequence[float] | None = None, *, by: str | None = None, seed: int | None = None,
        stratify: Any = None, until: Sequence[Any] | None = None, purge: float | None = None,
    ) -> list[Self]:  # fmt: skip
        """Parts of the panel: of ids, by share, or of times, by limits.

        By id each part has its share of the ids, drawn at random; a group is in one part.

        By time, with k limits, there are k + 1 parts, the last of what is after the last limit. Labels of visits:
        a part has the visits up to its limit, and the labels after the limit before it; the earlier visits are there to
        be read, and their labels are hidden. Ids without a label of the part are left out. Labels of ids: an id is in
        the part in which its label became known, at its last visit, or at the horizon of a window. A static value is
        missing in a part of visits that end before the first one that holds it.

        Args:
            parts: shares that sum to 1.
            by: "id" with parts, "time" with until; it may be left out.
            seed: of the draw, which comes back with the same panel and seed; None for another one each time.
            stratify: give each part as many ids of each kind: True for the label, the name of a static category, or a
                kind for each id: an array in the order of the ids, or a Series whose index holds the ids.
            until: limits that rise, of the kind of the times. What is at a limit is before it. A date is its first
                moment.
            purge: by time, in units of `times`; 0 by default. Labels less than so much before a limit are in no part.
                Give how far a label looks ahead: one of the next year, at year 71, is not known by the end of 71.

        Raises:
            TypeError, ValueError: shares do not sum to 1, limits do not rise, a part would be empty, kinds differ
                within a group, windows with labels at visits would be cut by time.
        """
        _checks.one_of("by", by, (None, "id" if until is None else "time"))
        self._refuse_none()
        if (parts is None) == (until is None):
            raise ValueError("split must have either parts or until, got " + ("none" if parts is None else "both"))
        if until is None and purge is not None:
            raise ValueError(f"purge must be left out where parts are given, got {purge!r}")
        if parts is None:
            assert until is not None
            if seed is not None or stratify is not None:
                raise ValueError("seed and stratify must be left out where until is given")
            return [type(self)(part) for part in splitting.split_times(self._parts, until, purge)]
        return [self._take(positions) for positions in splitting.split_ids(self._parts, parts, seed, stratify)]

    @overload
    def folds(
        self, n: int, *, by: Literal["id", "time"] = ..., seed: int | None = ..., groups: Any = ...,
        stratify: Any = ..., purge: float | None = ..., nested: None = ...,
    ) -> list[tuple[Self, Self]]: ...  # fmt: skip
    @overload
    def folds(
        self, n: int, *, by: Literal["id", "time"] = ..., seed: int | None = ..., groups: Any = ...,
        stratify: Any = ..., purge: float | None = ..., nested: int,
    ) -> list[tuple[Self, Self, list[tuple[Self, Self]]]]: ...  # fmt: skip

    def folds(
        self, n: int, *, by: Literal["id", "time"] = "id", seed: int | None = None, groups: Any = None,
        stratify: Any = None, purge: float | None = None, nested: int | None = None,
    ) -> list[Any]:  # fmt: skip
        """Pairs of a training part and a held-out part; each id or each label is held out once.

        By id the ids are dealt at random, and a group is held out as a whole. By time the labels are cut into n blocks
        of consecutive times, with about as many labels each. The held-out part has the labels of a block and the visits
        up to its end; the training part has the labels further from the block than `purge`, before it and after it, and
        all visits, since these are inputs and no labels. Where labels are of ids, an id is where its label became
        known, as in `split`; where the target is an input of windows, too, purge their length and horizon.

        Args:
            n: of folds, at least 2.
            by: "id" or "time".
            seed: by id, of the draw.
            groups: by id, a group for each id, in the place of the panel's own: an array in the order of the ids, or a
                Series whose index holds the ids.
            stratify: by id, as in `split`.
            purge: by time, in units of `times`; 0 by default.
            nested: fold each training part again, in so many folds, in the same way: a fold is then a triple of the
                training part, the held-out part and the inner folds.

        Raises:
            TypeError, ValueError: there are too few ids, groups, labels or ids of a kind; an argument belongs to the
                other way.
        """
        _checks.one_of("by", by, ("id", "time"))
        self._refuse_none()
        other = {"purge": purge} if by == "id" else {"seed": seed, "groups": groups, "stratify": stratify}
        for name, value in other.items():
            if value is not None:
                raise ValueError(f"{name} must be left out with by={by!r}, got {value!r}")
        found: list[Any] = []
        if by == "time":
            for before, after in splitting.fold_times(self._parts, n, 0.0 if purge is None else purge):
                found.append(_nest(type(self)(before), type(self)(after), nested, by=by, purge=purge))
            return found
        for train, test in splitting.fold_ids(self._parts, n, seed, groups, stratify):
            own = {"groups": _part(groups, train), "stratify": _part(stratify, train)}
            found.append(_nest(self._take(train), self._take(test), nested, seed=seed, **own))
        return found

    def windows(self, length: int, *, step: int = 1, burn_in: int = 0, horizon: int | None = None) -> Self:
        """Windows of consecutive visits, each of which is an id of the new panel. Those of one id are a group.

        Args:
            length: visits of a window, without those of `burn_in`.
            step: visits from the start of a window to that of the next.
            burn_in: more visits before these, whose labels are hidden.
            horizon: None: the visits keep their labels. Else the window has one label, that of the visit so many after
                its last one, and is one with at="id"; a target that lies ahead is called `..._ahead`.

        Raises:
            TypeError, ValueError: no window fits into the visits of any id; labels are of ids; the panel is of windows.
        """
        return type(self)(windows.windows(self._parts, length, step, burn_in, horizon))

    def take(self, positions: Any) -> Self:
        """The ids at these positions, counted from 0, in this order.

        Raises:
            TypeError, ValueError: they are no whole numbers, out of range, or one comes twice.
        """
        chosen = positions_in(len(self), positions)
        if len(np.unique(chosen)) < len(chosen):
            raise ValueError("positions must be different, got one twice")
        return self._take(chosen)

    def __getitem__(self, ids: Any) -> Self:
        """The panel of one id, or of a list of ids, in this order.

        Raises:
            KeyError: there is no such id.
            TypeError: a slice or bools, which are no ids.
        """
        several = isinstance(ids, list | np.ndarray | pandas.Index | pandas.Series)
        wanted = list(ids) if several else [ids]
        if isinstance(ids, slice):
            raise TypeError(f"ids must be one id or a list of ids, got {ids}; take(range(...)) takes positions")
        if several and wanted and all(isinstance(id, bool | np.bool_) for id in wanted) and self.ids.dtype.kind != "b":
            raise TypeError("ids must be one id or a list of ids, got bools; take(np.flatnonzero(...)) takes positions")
        positions = self.ids.get_indexer(wanted)
        for id, position in zip(wanted, positions, strict=True):
            if position < 0:
                raise KeyError(
                    f"no {self.schema.id_name} {id!r} among {len(self)} ids; take([...]) takes positions, and "
                    "folds(...) cuts a panel for cross-validation, which GridSearchCV does not"
                )
        return self.take(positions)

    @classmethod
    def concat(cls, panels: Iterable[Contents]) -> Self:
        """All ids of panels of the same columns, in new memory. Levels of categories that are not ordered are joined,
        those of the first panel first.

        Raises:
            TypeError, ValueError: columns, their kinds, units or roles differ; an id is in two panels.
        """
        given = list(panels)
        for panel in given:
            if not isinstance(panel, Contents):
                raise TypeError(f"panels must be Panels, got {type(panel).__name__}")
        if not given:
            raise ValueError("panels must be one or more, got none")
        return cls(joining.concat([panel._parts for panel in given]))

    def reindex(self, like: Contents, *, unseen: Unseen = "refuse") -> Self:
        """The same ids with the columns of another panel: their order, levels, units and titles. Columns that `like`
        lacks are left out; the target stays.

        Raises:
            ValueError: a column is missing or times are of another kind; a level is unseen and `unseen` is "refuse".
        """
        _checks.one_of("unseen", unseen, ("refuse", "missing"))
        _check_like(like)
        return type(self)(joining.reindex(self._parts, like.schema, unseen))

    def copy(self) -> Self:
        """The same with memory of its own: a part that is kept without the whole."""
        return type(self)(joining.compact(self._parts))

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle of a part has its own visits alone."""
        less = self.lengths.sum() < len(self._parts.visits.stamps)
        return type(self), (joining.compact(self._parts) if less else self._parts,)

    def _refuse_none(self) -> None:
        if not len(self):
            raise ValueError("a panel that is split must have ids, got none")

    def _take(self, positions: Integers) -> Self:
        return type(self)(self._parts.take(positions))


def _check_like(like: object) -> None:
    if not isinstance(like, Contents):
        raise TypeError(f"like must be a Panel, got {type(like).__name__}")


def _read_like(frame: Any, like: Contents, chosen: dict[str, Any], sort: bool, unseen: Unseen) -> Parts:
    for name, value in chosen.items():
        if value is not None and value != ():
            raise ValueError(f"{name} must be left out where like is given, got {value!r}")
    _check_like(like)
    schema = like.schema
    if len(schema.id) > 1:
        raise ValueError("like must be a panel of ids, got one of windows")
    here = {*frame.columns, *frame.index.names}
    named = {schema.id[0], schema.clock.name} <= here or not schema.indexed
    key = reading.keys(frame, schema.id[0] if named else None, schema.clock.name if named else None)
    unit = schema.clock.unit or None
    parts = reading.read(frame, key, Roles.like(schema, frame.columns), unit, sort, unseen)
    joining.same_clock(parts.schema.clock, schema.clock)
    return parts


def _part(value: Any, positions: Integers) -> Any:
    """What is given for each id, of some ids; None, True and a name are for all, and a Series is read by its index."""
    whole = value is None or value is True or isinstance(value, str | pandas.Series)
    return value if whole else np.asarray(value)[positions]


def _nest(train: Panel, test: Panel, nested: int | None, **options: Any) -> tuple[Any, ...]:
    return (train, test) if nested is None else (train, test, train.folds(nested, **options))
