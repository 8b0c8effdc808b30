"""What the columns of a panel are: their roles, kinds, names and units, and what their values stand for."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from rnam._checks import shown
from rnam.panel.times import Clock

__all__ = ["At", "Column", "Schema"]

At = Literal["id", "visit"]


@dataclass(frozen=True)
class Column:
    """One column of a panel: of numbers, or of levels where it is a category.

    Args:
        name: in the table.
        title: what people read; the name where nothing else was given.
        unit: "" for none.
        dtype: of the table's column, to which `to_frame` goes back.
        levels: of a category, in order; a code counts in them. None of a column of numbers.
        ordered: whether the order of the levels means something.
        period: of a cyclic column, after which its values begin again.
        memoryless: read at each step by a feed-forward term.
        parts: of a one-hot group, the columns of the table, which are its levels.
    """

    name: Hashable
    title: str
    unit: str = ""
    dtype: Any = field(default=None, compare=False)
    levels: tuple[Any, ...] | None = None
    ordered: bool = False
    period: float | None = None
    memoryless: bool = False
    parts: tuple[Hashable, ...] = ()

    def __str__(self) -> str:
        told = f"{self.title} ({self.unit})" if self.unit else self.title
        kinds = [f"{len(self.levels)} levels"] if self.levels is not None else []
        kinds += ["ordered"] * self.ordered + ["memoryless"] * self.memoryless
        kinds += [] if self.period is None else [f"period {shown(self.period)}"]
        return f"{told} [{', '.join(kinds)}]" if kinds else told


@dataclass(frozen=True)
class Schema:
    """The columns of a panel by role.

    Args:
        id: the name of the ids; windows have two, the id and the time of a window's last visit.
        clock: the column of times.
        values, categories: of visits.
        static, static_categories: of ids.
        targets: what is to be predicted, at each id or each visit as `at` says.
        weight: of ids or visits, as `at` says.
        group: the name of the column of groups.
        order: the names of the table's columns that were read, in the table's order.
        indexed: whether ids and times are the index of the table.
    """

    id: tuple[Hashable, ...]
    clock: Clock
    values: tuple[Column, ...]
    categories: tuple[Column, ...]
    static: tuple[Column, ...]
    static_categories: tuple[Column, ...]
    targets: tuple[Column, ...]
    at: At
    weight: Column | None
    group: Hashable | None
    order: tuple[Hashable, ...] = field(compare=False)
    indexed: bool = field(default=False, compare=False)

    @property
    def id_name(self) -> Hashable:
        """What an id is called in errors."""
        return self.id[0] if len(self.id) == 1 else self.id

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns to learn from."""
        return (*self.values, *self.categories, *self.static, *self.static_categories)

    def columns(self) -> Iterator[tuple[str, Column]]:
        """Each column with its role, without ids and times."""
        for role in ("values", "categories", "static", "static_categories", "targets"):
            for column in getattr(self, role):
                yield role, column
        if self.weight is not None:
            yield "weight", self.weight
