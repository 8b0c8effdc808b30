"""Which columns of a table have which role in a panel. Roles that contradict each other are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnam import _checks
from rnam.panel.schema import At, Column, Schema

__all__ = ["Roles", "is_list", "listed"]

Names = tuple[Hashable, ...]


@dataclass(frozen=True)
class Roles:
    """The roles of columns, by name, as they were asked for.

    Args:
        values: columns of numbers of visits, the cyclic ones among them.
        categories: columns of levels, of visits and of ids.
        static: columns of ids, of numbers or levels.
        one_hot: of a group's name its columns, of which one is 1 at a visit.
        levels: of a category, in order, where they are given.
    """

    values: Names
    categories: Names
    static: Names
    cyclic: Mapping[Hashable, float]
    one_hot: Mapping[Hashable, Names]
    memoryless: Names
    levels: Mapping[Hashable, tuple[Any, ...]]
    ordered: Names
    target: Names
    at: At
    weight: Hashable | None
    group: Hashable | None
    units: Mapping[Hashable, str]
    titles: Mapping[Hashable, str]
    classes: Mapping[Hashable, tuple[Any, ...]] = field(default_factory=dict)  # of a target, where they are known
    decided: bool = False  # by a panel: columns that are not among categories and classes hold numbers

    @staticmethod
    def of(
        *, values: Any, categories: Any, static: Any, cyclic: Any, one_hot: Any, memoryless: Any, levels: Any,
        ordered: Any, target: Any, at: Any, weight: Hashable | None, group: Hashable | None, units: Any, titles: Any,
        ahead: bool = False,
    ) -> Roles:  # fmt: skip
        """The roles that arguments give. A target that lies ahead of what is read may be a column of values, too.

        Raises:
            TypeError, ValueError: an argument is not what it must be, or contradicts another one.
        """
        _checks.one_of("at", at, ("id", "visit"))
        periods = {name: _checks.positive_number(f"cyclic[{name!r}]", p) for name, p in _map("cyclic", cyclic).items()}
        groups = {name: listed(f"one_hot[{name!r}]", own) for name, own in _map("one_hot", one_hot).items()}
        static, numbers = listed("static", static), listed("values", values)
        roles = Roles(
            values=numbers + tuple(name for name in periods if name not in numbers and name not in static),
            categories=listed("categories", categories),
            static=static,
            cyclic=periods,
            one_hot=groups,
            memoryless=listed("memoryless", memoryless),
            levels={name: listed(f"levels[{name!r}]", own) for name, own in _map("levels", levels).items()},
            ordered=listed("ordered", ordered),
            target=() if target is None else listed("target", target if is_list(target) else [target]),
            at=at,
            weight=weight,
            group=group,
            units=_words("units", units),
            titles=_words("titles", titles),
        )
        roles._check(ahead)
        return roles

    @staticmethod
    def like(schema: Schema, present: Iterable[Hashable]) -> Roles:
        """The roles that the columns of a panel have. Targets, the weight and the group are read where the table has
        them."""
        there = set(present)
        visits, ids = (*schema.values, *schema.categories), (*schema.static, *schema.static_categories)
        both = [column for column in (*visits, *ids) if column.levels is not None and not column.parts]
        target = tuple(column.name for column in schema.targets if column.name in there)
        every = [column for _, column in schema.columns()]
        return Roles(
            values=_names(schema.values),
            categories=_names(both),
            static=_names(ids),
            cyclic={column.name: column.period for column in (*visits, *ids) if column.period is not None},
            one_hot={column.name: column.parts for column in visits if column.parts},
            memoryless=tuple(column.name for column in visits if column.memoryless),
            levels={column.name: column.levels for column in both if column.levels is not None},
            ordered=tuple(column.name for column in both if column.ordered),
            target=target,
            at=schema.at,
            weight=schema.weight.name if schema.weight is not None and schema.weight.name in there else None,
            group=schema.group if schema.group in there else None,
            units={column.name: column.unit for column in every if column.unit},
            titles={column.name: column.title for column in every},
            classes={column.name: column.levels for column in schema.targets if column.levels is not None},
            decided=True,
        )

    def visit_categories(self) -> Names:
        return tuple(name for name in self.categories if name not in self.static)

    def read(self) -> Names:
        """The columns of the table that are read, beside ids and times."""
        parts = [part for own in self.one_hot.values() for part in own]
        single = [name for name in (self.weight, self.group) if name is not None]
        return (*self.values, *self.visit_categories(), *parts, *self.static, *self.target, *single)

    def column(self, name: Hashable, **known: Any) -> Column:
        """The column of this name, with what the roles say of it."""
        return Column(
            name=name,
            title=self.titles.get(name, str(name)),
            unit=self.units.get(name, ""),
            period=self.cyclic.get(name),
            memoryless=name in self.memoryless,
            **known,
        )

    def _check(self, ahead: bool) -> None:
        features = (*self.values, *self.visit_categories(), *self.one_hot, *self.static)
        if not features:
            raise ValueError("values, categories, static or cyclic must name a column to learn from, got none")
        inside = {*self.values, *self.visit_categories()} if ahead else set()
        parts = [part for own in self.one_hot.values() for part in own]
        single = [name for name in (self.weight, self.group) if name is not None]
        _refuse_two_roles((*features, *parts, *(name for name in self.target if name not in inside), *single))
        numbers = set(self.values) | set(self.static) - set(self.categories)
        known = set(features) | set(self.target) | {self.weight}
        for argument, given, among, what in (
            ("cyclic", self.cyclic, numbers, "columns of numbers"),
            ("memoryless", self.memoryless, set(features) - set(self.static), "columns of visits"),
            ("levels", self.levels, set(self.categories), "columns of categories"),
            ("ordered", self.ordered, set(self.categories), "columns of categories"),
            ("units", self.units, known, "columns of the panel"),
            ("titles", self.titles, known, "columns of the panel"),
        ):
            for name in given:
                if name not in among:
                    raise ValueError(f"{argument} must name {what}, got {name!r}")
        for name, own in self.levels.items():
            if not own:
                raise ValueError(f"levels[{name!r}] must have at least one level, got none")
            for level in own:
                if level is None or level != level:
                    raise ValueError(f"levels[{name!r}] must not have a level that is missing, got {level}")
        for name, own in self.one_hot.items():
            if len(own) < 2:
                raise ValueError(f"one_hot[{name!r}] must have at least two columns, got {len(own)}")


def listed(argument: str, value: Any) -> Names:
    """`value`, several different names, as a tuple."""
    if not is_list(value):
        raise TypeError(f"{argument} must be a list of names, got {value!r}")
    names = tuple(name.item() if isinstance(name, np.generic) else name for name in value)
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{argument} must name each once, got {name!r} {count} times")
    return names


def is_list(value: object) -> bool:
    """True if `value` holds several items; a word and a dict do not."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _map(argument: str, value: Any) -> Mapping[Hashable, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{argument} must be a dict by name, got {type(value).__name__}")
    return value


def _words(argument: str, value: Any) -> Mapping[Hashable, str]:
    given = dict(_map(argument, value))
    for name, word in given.items():
        if not isinstance(word, str):
            raise TypeError(f"{argument}[{name!r}] must be a str, got {type(word).__name__}")
    return given


def _names(columns: Iterable[Column]) -> Names:
    return tuple(column.name for column in columns)


def _refuse_two_roles(names: Sequence[Hashable]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(
                f"each column must have one role, got {name!r} in {count} roles; a copy with another name may have "
                "another"
            )
