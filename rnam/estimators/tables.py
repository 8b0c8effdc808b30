"""X of any kind as a panel: a Panel, visits with an (id, time) index, an array (n, T, columns), or rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas
from numpy.typing import NDArray
from sklearn.utils.validation import check_array, validate_data

from rnam.explain._arrays import as_array
from rnam.panel import Panel
from rnam.panel.columns import is_category, level_kind, plain
from rnam.panel.matrices import free
from rnam.panel.schema import At
from rnam.sklearn import tables

__all__ = ["Table", "TableKind", "empty", "learn", "read"]

Array = NDArray[Any]
TableKind = Literal["panel", "visits", "array", "rows"]


class Table(NamedTuple):
    """X as a panel.

    Args:
        panel: the ids and visits of X.
        kind: "panel"; "visits" of a frame with an (id, time) index; "array" of one (n, T, columns); "rows" of a table
            each row of which is an id with one visit.
        y: labels that are not yet the panel's target: of ids, in their order; or None.
        steps: of an array, T.
        frame: the visits as they came, of a DataFrame of these; else None.
    """

    panel: Panel
    kind: TableKind
    y: Any
    steps: int = 1
    frame: Any = None

    def rows(self) -> Array:
        """The row of `frame` that each visit of the panel was, int64 (visits,): ids may take turns there, and a panel
        has them in the order of their first rows."""
        name, frame = self.panel.schema.id[0], self.frame
        given = frame[name] if name in frame.columns else frame.index.get_level_values(0)
        return np.argsort(pandas.factorize(given)[0], kind="stable")

    def cells(self) -> tuple[Array, Array]:
        """Where each visit stands in an array (n, T): the positions of its id and of its step, int64 (visits,)."""
        return self.panel.owners, self.panel.times.astype(np.int64)


def learn(estimator: Any, X: Any, y: Any) -> Table:
    """X and y of a fit. Their columns are noted in the estimator as scikit-learn does.

    Raises:
        TypeError, ValueError: X is none of these, is empty, or holds what a panel refuses; y is not one for each id or
            visit.
    """
    _refuse_panels(X)
    if isinstance(X, Panel):
        _refuse_none(X)
        names = [str(column.name) for column in X.columns]
        vars(estimator).pop("feature_names_in_", None)
        estimator.n_features_in_ = len(names)
        estimator.feature_names_in_ = np.array(names, dtype=object)
        return Table(X, "panel", y)
    if _is_visits(X):
        validate_data(estimator, X, skip_check_array=True)
        return _learn_visits(X, y)
    if not _is_frame(X) and _dimensions(X) == 3:
        array = tables.to_numbers("X", X)
        validate_data(estimator, np.moveaxis(array, -1, 1), skip_check_array=True)
        return _of_array(array, y, None)
    frame = _rows(X)
    validate_data(estimator, X if _is_frame(X) else frame.to_numpy(), skip_check_array=True)
    return Table(_panel_of_rows(frame), "rows", y)


def read(estimator: Any, X: Any, y: Any = None) -> Table:
    """X after the fit, with the columns of the fit: their roles and levels. A level that is not known is missing.

    Raises:
        TypeError, ValueError: X has other columns, or the same in another order; or as `learn`.
    """
    kind: TableKind = estimator.table_
    known: Panel = estimator.schema_
    at: At = estimator.at_
    _refuse_panels(X)
    if isinstance(X, Panel):
        _refuse_none(X)
        return Table(X, "panel", y)
    if kind == "panel":
        if not _is_frame(X):
            raise TypeError(f"X must be a Panel or a DataFrame with its columns, got {type(X).__name__}")
        frame = X if isinstance(X, pandas.DataFrame) else X.to_pandas()
        return Table(Panel.from_frame(X, like=known, unseen="missing"), "panel", y, frame=frame)
    if kind == "array":
        if _is_frame(X) or _dimensions(X) != 3:
            raise ValueError("X must have shape (n, T, columns), as in the fit, got a table of two dimensions")
        array = tables.to_numbers("X", X)
        validate_data(estimator, np.moveaxis(array, -1, 1), reset=False, skip_check_array=True)
        return _of_array(array, y, at)
    if kind == "visits":
        if not _is_visits(X):
            raise ValueError("X must be a frame with an (id, time) index, as in the fit, got one without")
        validate_data(estimator, X, reset=False, skip_check_array=True)
        _refuse_other_kinds(X, known)
        panel = Panel.from_frame(X, like=known, unseen="missing")
        whole = _with_labels(X, y, panel, at, [column.name for column in known.schema.targets])
        if whole is None:
            return Table(panel, "visits", y, frame=X)
        return Table(Panel.from_frame(whole, like=known, unseen="missing"), "visits", None, frame=X)
    frame = _rows(X)
    validate_data(estimator, X if _is_frame(X) else frame.to_numpy(), reset=False, skip_check_array=True)
    names = [name for name in known.schema.order if name in _feature_names(known)]
    # scikit-learn compares names that are all words; those of an array are none that a frame must have
    unchecked = _is_frame(X) and not hasattr(estimator, "feature_names_in_") and names != _numbered(len(names))
    if unchecked and list(frame.columns) != names:
        raise ValueError(f"X must have the columns {names}, as in the fit, got {list(frame.columns)}")
    frame.columns = pandas.Index(names, dtype=object)
    _refuse_other_kinds(frame, known)
    return Table(Panel.from_frame(_indexed(frame), like=known, unseen="missing"), "rows", y)


def empty(panel: Panel) -> Panel:
    """The columns of a panel without its ids, in memory of its own."""
    return panel.take(np.zeros(0, np.int64)).copy()


def _learn_visits(X: Any, y: Any) -> Table:
    names = list(X.columns)
    words = [name for name in names if _is_words(X[name])]
    roles: dict[str, Any] = {"values": [name for name in names if name not in words], "categories": words}
    panel = Panel.from_frame(X, **roles)
    whole = _with_labels(X, y, panel, None, None)
    if whole is None:
        return Table(panel, "visits", y, frame=X)
    targets = list(whole.columns[len(names) :])
    return Table(Panel.from_frame(whole, **roles, target=targets, at="visit"), "visits", None, frame=X)


def _with_labels(X: Any, y: Any, panel: Panel, at: At | None, called: list[Any] | None) -> Any:
    """A frame of visits with labels of visits as its last columns; None where y has none, or those of ids.

    Args:
        at: where labels are, None where that is not known yet: where each id has one visit, the index of y says it.
        called: the names of these columns, None to find some.
    """
    if y is None:
        return None
    if _shape(y)[:1] == (len(panel),):
        of_visits = at == "visit" and len(panel) == len(X)
        if at is None and isinstance(y, pandas.DataFrame | pandas.Series):
            of_visits = y.index.equals(X.index)
        if not of_visits:
            return None
    if _shape(y)[:1] != (len(X),):
        raise ValueError(
            f"y must have a label for each of {len(panel)} ids or of {len(X)} visits, got shape {_shape(y)}"
        )
    labels = pandas.DataFrame(y if isinstance(y, pandas.DataFrame | pandas.Series) else as_array(y))
    if isinstance(y, pandas.DataFrame | pandas.Series) and not labels.index.equals(X.index):
        raise ValueError("y must have the index of X where it has labels of visits, got another one")
    count = labels.shape[1]
    if called is None:
        called = [free("y" if count == 1 else f"y{n}", X.columns) for n in range(count)]
    if count != len(called):
        raise ValueError(f"y must have {len(called)} columns, as in the fit, got {count}")
    return pandas.concat([X, labels.set_axis(pandas.Index(called), axis=1).set_axis(X.index, axis=0)], axis=1)


def _of_array(array: Array, y: Any, at: At | None) -> Table:
    """An array (n, T, columns), with labels of steps where y is (n, T) or (n, T, targets).

    Args:
        at: where labels are, None where that is not known yet: y of this shape then has labels of steps.
    """
    steps = array.shape[1]
    of_steps = steps > 1 if at is None else at == "visit"
    if y is not None and of_steps and _shape(y)[:2] == array.shape[:2]:
        return Table(Panel.from_array(array, y=y, at="visit"), "array", None, steps)
    return Table(Panel.from_array(array), "array", y, steps)


def _rows(X: Any) -> Any:
    """A table of rows as a DataFrame that may be changed.

    Raises:
        TypeError, ValueError: it has no two dimensions, no row or no column; it is sparse or complex; its index has
            more than two levels.
    """
    if _is_frame(X):
        frame = X.to_pandas() if not isinstance(X, pandas.DataFrame) else X
        if frame.index.nlevels > 2:
            raise ValueError(
                f"X must have an index of rows, or one of (id, time), got one of {frame.index.nlevels} levels"
            )
        tables.refuse_twice("X", list(frame.columns))
        if 0 in frame.shape:
            check_array(np.empty(frame.shape), input_name="X")  # raises, in scikit-learn's words
        return frame.copy(deep=False)
    array = check_array(X, dtype=None, ensure_all_finite=False, input_name="X")
    frame = pandas.DataFrame(array, columns=pandas.Index(_numbered(array.shape[1])))
    return frame.infer_objects() if array.dtype.kind == "O" else frame


def _numbered(count: int) -> list[str]:
    """The names of the columns of an array."""
    return [f"x{n}" for n in range(count)]


def _panel_of_rows(frame: Any) -> Panel:
    words = [name for name in frame.columns if _is_words(frame[name])]
    values = [name for name in frame.columns if name not in words]
    return Panel.from_frame(_indexed(frame), values=values, categories=words)


def _indexed(frame: Any) -> Any:
    """The frame with each row an id of one visit."""
    names = [free("row", frame.columns), free("visit", frame.columns)]
    index = pandas.MultiIndex.from_arrays([np.arange(len(frame)), np.zeros(len(frame), np.int64)], names=names)
    return frame.set_axis(index, axis=0)


def _feature_names(panel: Panel) -> set[Any]:
    return {column.name for column in panel.columns}


def _is_words(series: Any) -> bool:
    """True if a column is one of words, levels or bools."""
    if series.dtype.kind == "b" or is_category(series):
        return True
    held = series.dropna() if series.dtype.kind == "O" else ()
    return len(held) > 0 and all(isinstance(item, bool | np.bool_) for item in held)


def _refuse_other_kinds(frame: Any, known: Panel) -> None:
    """Raises ValueError where a category of words is now one of numbers, or the other way round: each of its levels
    would be missing."""
    for column in (*known.schema.categories, *known.schema.static_categories):
        if not column.levels or column.name not in frame.columns:
            continue
        series = frame[column.name]
        held: Sequence[Any] = (
            series.cat.categories if isinstance(series.dtype, pandas.CategoricalDtype) else series.dropna().unique()
        )
        kinds = {level_kind(level) == "str" for level in column.levels}
        if len(held) and not any((level_kind(plain(item)) == "str") in kinds for item in held):
            kind = "words" if True in kinds else "numbers or bools"
            raise ValueError(f"column {column.name!r} must hold {kind}, as in the fit, got {plain(held[0])!r}")


def _refuse_panels(X: Any) -> None:
    """Raises TypeError where X is a list of panels, which scikit-learn makes of one: it would be read as their ids."""
    if isinstance(X, list | tuple) and any(isinstance(own, Panel) for own in X):
        raise TypeError(
            f"X must be one Panel, got {len(X)} in a {type(X).__name__}, as GridSearchCV and cross_val_score cut a "
            "Panel; Panel.folds cuts it for cross-validation, and Panel.concat joins several"
        )


def _refuse_none(panel: Panel) -> None:
    if not len(panel):
        raise ValueError("X must have ids, got a Panel without any")


def _is_frame(X: Any) -> bool:
    return isinstance(X, pandas.DataFrame) or (hasattr(X, "to_pandas") and hasattr(X, "columns"))


def _is_visits(X: Any) -> bool:
    return isinstance(X, pandas.DataFrame) and X.index.nlevels == 2


def _dimensions(X: Any) -> int:
    return len(_shape(X))


def _shape(value: Any) -> tuple[int, ...]:
    shape = getattr(value, "shape", None)
    return tuple(np.asarray(value, dtype=object).shape) if shape is None else tuple(shape)
