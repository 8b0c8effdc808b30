"""The labels of a fit: y, or the target of a panel, as an array with a row for each id or visit."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from rnam.estimators.tables import Table
from rnam.explain._arrays import as_array
from rnam.explain._arrays import sample_weight as checked_weight
from rnam.panel import Panel
from rnam.panel.columns import plain
from rnam.panel.schema import At
from rnam.sklearn import tables

__all__ = ["Targets", "classes_of", "codes", "for_each_id", "numbers", "of_classes", "read", "weight_of"]

Array = NDArray[Any]


class Targets(NamedTuple):
    """Labels with a row for each id or visit.

    Args:
        values: (rows, targets), as they came or as numbers; (rows,) of codes of classes. Anything where there is no
            label.
        labelled: bool (rows,).
        at: whether a row is an id or a visit.
        names: of the targets.
        single: whether y came with one dimension.
    """

    values: Array
    labelled: NDArray[np.bool_]
    at: At
    names: tuple[str, ...]
    single: bool


def read(estimator: Any, table: Table) -> Targets:
    """The labels of a table: its y, or the panel's target.

    Raises:
        ValueError: there are none; y has another length, or a label is missing though X is no panel; one target has a
            label where another has none.
    """
    panel, y = table.panel, table.y
    if y is None:
        target, labelled = panel.target, panel.labelled
        if target is None or labelled is None:
            told = "a Panel without a target" if table.kind == "panel" else "None"
            raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is {told}")
        names = tuple(str(column.name) for column in panel.schema.targets)
        return _targets(target, labelled, panel.at, names)
    named = isinstance(y, pandas.DataFrame)
    array = _matched(y, panel, table)
    if array.ndim not in (1, 2) or 0 in array.shape[1:]:
        raise ValueError(f"y must have shape (n,) or (n, targets), got {array.shape}")
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported: y must hold numbers or classes")
    gone = tables.absent(array)
    if table.kind != "panel" and gone.any():
        raise ValueError(f"Input y contains NaN: y must have a label for each id, got none in {gone.sum()} places")
    columns = 1 if array.ndim == 1 else array.shape[1]
    numbered = ("y",) if columns == 1 else tuple(f"y{n}" for n in range(columns))
    return _targets(array, np.logical_not(gone), "id", tuple(map(str, y.columns)) if named else numbered)


def _targets(target: Array, labelled: NDArray[np.bool_], at: At, names: tuple[str, ...]) -> Targets:
    single = target.ndim == 1
    values, seen = (part if part.ndim == 2 else part[:, None] for part in (target, labelled))
    some, every = np.asarray(seen.any(1)), np.asarray(seen.all(1))
    if (some != every).any():
        row = int((some != every).argmax())
        lacking, having = names[int(seen[row].argmin())], names[int(seen[row].argmax())]
        raise ValueError(f"target {lacking!r} must have a label wherever {having!r} has one, got none in place {row}")
    if not every.any():
        raise ValueError(f"the target {names[0]!r} must have labels, got none")
    return Targets(values, every, at, names, single)


def for_each_id(argument: str, value: Any, table: Table) -> Array:
    """`value` (ids,) in the order of the panel: an array, or a Series. Its index must hold the ids where X has some;
    rows and arrays have none, and go by their place.

    Raises:
        ValueError: it has another shape, lacks an id, or has NaN or None for one.
    """
    array, ids = as_array(_in_order(argument, value, table)), table.panel.ids
    if array.shape != (len(ids),):
        raise ValueError(f"{argument} must have shape {(len(ids),)}, one for each id, got {array.shape}")
    gone = tables.absent(array)
    if gone.any():
        raise ValueError(f"{argument} must have one for each id, got none for {plain(ids[int(gone.argmax())])!r}")
    return array


def _in_order(argument: str, value: Any, table: Table) -> Any:
    ids = table.panel.ids
    if table.kind not in ("panel", "visits") or not isinstance(value, pandas.Series | pandas.DataFrame):
        return value
    index = value.index
    if not (index.nlevels == ids.nlevels and index.is_unique and ids.isin(index).all()):
        raise ValueError(f"{argument} must have an index that holds the {len(ids)} ids of X, got another one")
    return value.reindex(ids)


def _matched(y: Any, panel: Panel, table: Table) -> Array:
    array = as_array(_in_order("y", y, table))
    if array.ndim == 0:
        raise ValueError(f"y must be an array of labels, got {y!r}")
    if len(array) != len(panel):
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: y must have a label for each of "
            f"{len(panel)} ids, got {len(array)}"
        )
    return array


def numbers(labels: Targets) -> Targets:
    """Targets as float64, 0 where there is none.

    Raises:
        TypeError, ValueError: one is no number, or infinite.
    """
    values = np.zeros(labels.values.shape)
    for n, name in enumerate(labels.names):
        column = tables.column_numbers(f"target {name!r}", labels.values[labels.labelled, n])
        if not np.isfinite(column).all():
            raise ValueError(f"target {name!r} must be finite, got infinity: Input y contains infinity")
        values[labels.labelled, n] = column
    return labels._replace(values=values)


def of_classes(labels: Targets, classes: Array | None = None) -> tuple[Targets, Array]:
    """Labels as int64 codes (rows,), 0 where there is none, and the classes, sorted.

    Args:
        classes: those of the fit, where there was one.

    Raises:
        TypeError, ValueError: there are several targets, one class, a class that the fit had not, or numbers that are
            no classes.
    """
    if labels.values.shape[1] > 1:
        raise ValueError(f"a classifier must have one target, got {labels.values.shape[1]}: {', '.join(labels.names)}")
    if not labels.single:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected: y must have shape (n,), got "
            f"{labels.values.shape}",
            DataConversionWarning,
            stacklevel=2,
        )
    held = classes_of(labels)
    check_classification_targets(held)
    if classes is None:
        classes = np.unique(held)
        if len(classes) < 2:
            raise ValueError(
                f"the target {labels.names[0]!r} must have at least 2 classes, got 1 class: {classes[0]!r}"
            )
    coded = codes(held, classes)
    if (coded < 0).any():
        new = held[coded < 0].min()
        raise ValueError(f"the target {labels.names[0]!r} must have classes of the fit, got {plain(new)!r}")
    values = np.zeros(len(labels.values), np.int64)
    values[labels.labelled] = coded
    return labels._replace(values=values), classes


def classes_of(labels: Targets) -> Array:
    """The classes of one target, of the labels that are there."""
    held = labels.values[labels.labelled, 0]
    return np.asarray(column_or_1d(tables.labels(held) if held.dtype.kind == "O" else held))


def codes(held: Array, classes: Array) -> NDArray[np.int64]:
    """The place of each label in `classes`, -1 of one that is none of these."""
    found, inverse = np.unique(held.astype(classes.dtype) if held.dtype.kind in "mM" else held, return_inverse=True)
    known = {level: n for n, level in enumerate(classes.tolist())}
    return np.array([known.get(level, -1) for level in found.tolist()], np.int64)[inverse]


def weight_of(sample_weight: Any, table: Table, targets: Targets) -> NDArray[np.float64] | None:
    """Weights of labels, at least 0, in the order of the panel: those given, or the panel's own; None for none.

    Args:
        sample_weight: of ids, as `for_each_id`; of visits (visits,), in the order of the rows of a frame of visits, or
            (n, T) of an array.

    Raises:
        TypeError, ValueError: they are no numbers, negative, all 0 or of another length.
    """
    if sample_weight is None:
        weight = table.panel.weight
        if weight is None:
            return None
    else:
        read = for_each_id if targets.at == "id" else _for_each_visit
        weight = tables.to_numbers("sample_weight", read("sample_weight", sample_weight, table))
    weight = np.asarray(weight, np.float64)
    if not weight.any():
        raise ValueError("sample_weight must not be zero for all labels: there is no weight left")
    return checked_weight(weight, (len(targets.values),))


def _for_each_visit(argument: str, value: Any, table: Table) -> Array:
    panel, array = table.panel, as_array(value)
    if table.kind == "array":
        if array.shape != (len(panel), table.steps):
            raise ValueError(f"{argument} must have shape {(len(panel), table.steps)}, as y, got {array.shape}")
        return np.asarray(array[table.cells()])
    if table.frame is None or array.shape != (len(table.frame),):
        return array
    if isinstance(value, pandas.Series) and not value.index.equals(table.frame.index):
        raise ValueError(f"{argument} must have the index of X where labels are of visits, got another one")
    return np.asarray(array[table.rows()])
