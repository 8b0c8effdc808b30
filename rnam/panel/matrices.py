"""Arrays (n, T, columns) as a table with a row for each visit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam import _checks
from rnam.explain._arrays import as_array
from rnam.panel.columns import plain
from rnam.sklearn import tables

__all__ = ["ROLES", "chosen", "free", "joined", "to_table"]

Array = NDArray[Any]

ROLES = ("categories", "cyclic", "memoryless", "levels", "ordered", "time_unit", "units", "titles")


def chosen(roles: Mapping[str, Any], allowed: Sequence[str]) -> dict[str, Any]:
    """The arguments of `Panel.from_frame` that may be given, with what they are where they are not."""
    for name in roles:
        if name not in allowed:
            raise TypeError(f"unexpected argument {name!r}: the roles that may be given are {', '.join(allowed)}")
    lists = ("categories", "static", "memoryless", "ordered")
    return {name: roles.get(name, () if name in lists else None) for name in allowed}


def joined(known: dict[str, Any], roles: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `Panel.from_frame` for a table: what is known of it, and the roles that were given. A category
    of visits is not among the values."""
    given = chosen(roles, ROLES)
    known["values"] = [name for name in known["values"] if name not in tuple(given["categories"])]
    return known | given


def to_table(
    X: Any, times: Any, ids: Any, names: Sequence[str] | None, y: Any, at: str, static: Any,
    static_names: Sequence[str] | None, weight: Any, groups: Any,
) -> tuple[Any, dict[str, Any]]:  # fmt: skip
    """`Panel.from_array`: a DataFrame with a row for each visit, and the arguments of `Panel.from_frame` for it."""
    _checks.one_of("at", at, ("id", "visit"))
    values = tables.to_numbers("X", X)
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(f"X must have shape (n, T, columns) of at least one each, got {values.shape}")
    n, steps, width = values.shape
    ids = np.arange(n) if ids is None else _of_shape("ids", ids, (n,))
    twice = pandas.Index(ids)[pandas.Index(ids).duplicated()]
    if len(twice):
        raise ValueError(f"ids must be different, got {plain(twice[0])!r} twice")
    targets = {} if y is None else _targets(y, (n,) if at == "id" else (n, steps))
    if at == "id" and steps > 1 and len(targets) == steps and as_array(y).shape == (n, steps):
        raise ValueError(
            f"y must have at='visit' with the shape {(n, steps)} of steps; {steps} targets of ids come as a structured "
            "array"
        )
    within = _within(values, list(targets.values()) if at == "visit" else [], ids)
    owners = np.flatnonzero(within) // steps

    def at_visits(array: Array) -> Array:
        """An array (n, T, ...) or (n, ...), as `at` says, at the visits."""
        return array[within] if at == "visit" else array[owners]

    named = _names("names", names, "x", width)
    frame = pandas.DataFrame(values[within], columns=pandas.Index(named))
    facts = np.empty((n, 0)) if static is None else _of_shape("static", static, (n, None))
    own = _names("static_names", static_names, "s", facts.shape[1]) if static is not None else []
    taken = [*named, *own, *targets]
    tables.refuse_twice("names, static_names and y", taken)
    id, time, heavy, group = (free(name, taken) for name in ("id", "time", "weight", "group"))
    known: dict[str, Any] = {"id": id, "time": time, "values": named, "at": at, "static": own}
    added: dict[str, Any] = {id: ids[owners], time: _times(times, n, steps)[within]}
    added |= {name: facts[owners, k] for k, name in enumerate(own)}
    if y is not None:
        known["target"] = list(targets)
        added |= {name: at_visits(array) for name, array in targets.items()}
    if weight is not None:
        known["weight"] = heavy
        added[heavy] = at_visits(_of_shape("weight", weight, (n,) if at == "id" else (n, steps)))
    if groups is not None:
        known["group"] = group
        added[group] = _of_shape("groups", groups, (n,))[owners]
    return pandas.concat([pandas.DataFrame(added), frame], axis=1), known


def free(name: str, taken: Collection[Any]) -> str:
    """A name that no column of the user has: `name`, or that with underscores behind it."""
    while name in taken:
        name += "_"
    return name


def _within(values: Array, labels: Sequence[Array], ids: Array) -> NDArray[np.bool_]:
    """bool (n, T): the steps up to the last one at which a column is there, or a label (n, T) whose dtype could
    say that there is none."""
    seen = np.ones(values.shape[:2], np.bool_)
    if values.dtype.kind == "f":
        np.any(~np.isnan(values), axis=2, out=seen)
        for array in labels:
            if array.dtype.kind in "fOmM":
                seen |= ~tables.absent(array)
    if not seen.any(1).all():
        raise ValueError(f"X must have a number for each id, got none for id {ids[int(np.argmin(seen.any(1)))]}")
    last = values.shape[1] - seen[:, ::-1].argmax(1)
    return np.asarray(np.arange(values.shape[1]) < last[:, None])


def _times(times: Any, n: int, steps: int) -> Array:
    array = np.arange(steps) if times is None else as_array(times)
    if array.shape not in ((steps,), (n, steps)):
        raise ValueError(f"times must have shape {(steps,)} or {(n, steps)}, got {array.shape}")
    return np.broadcast_to(array, (n, steps))


def _targets(y: Any, lead: tuple[int, ...]) -> dict[str, Array]:
    array = as_array(y)
    if array.dtype.names is not None:
        return {name: _of_shape(f"y[{name!r}]", array[name], lead) for name in array.dtype.names}
    if array.shape == lead:
        return {"y": array}
    array = _of_shape("y", array, (*lead, None))
    return {f"y{k}": array[..., k] for k in range(array.shape[-1])}


def _of_shape(argument: str, value: Any, shape: tuple[int | None, ...]) -> Array:
    array = as_array(value)
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits:
        told = ", ".join("columns" if size is None else str(size) for size in shape)
        raise ValueError(f"{argument} must have shape ({told}), got {array.shape}")
    return array


def _names(argument: str, names: Sequence[str] | None, letter: str, count: int) -> list[str]:
    found = [f"{letter}{k}" for k in range(count)] if names is None else list(names)
    if len(found) != count:
        raise ValueError(f"{argument} must be {count}, one for each column, got {len(found)}")
    return found
