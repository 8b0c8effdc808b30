"""The columns of a net's tables: known by name, read by terms, masked where values are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from skorch.helper import SliceDict
from torch import Tensor, nn

from rnam.explain._arrays import as_array
from rnam.explain.names import describe
from rnam.models.description import INTERCEPT
from rnam.models.rnam import RNAM
from rnam.sklearn import tables

__all__ = ["READ_BY_TERMS", "ColumnsByName"]

READ_BY_TERMS = {"input": "mask", "static": "static_mask"}  # an argument of the model, and the mask that goes with it

_KNOWN = ("n_features_in_", "feature_names_in_", "static_columns_", "label_encoder_")  # of the first fit


class StaticColumns(BaseEstimator):  # type: ignore[misc]
    """Knows the columns of `static` by name, as the net knows those of `input`."""


class ColumnsByName:
    """What a net knows of the columns of its tables: of the module, of the fit, and of each call."""

    # True while skorch trains. Its callbacks then predict from what the batches hold: arrays, and classes by number.
    training_ = False

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.allow_nan = self._masks("input")
        return tags

    @property
    def _model(self) -> Any:
        """The module, or what it will be made of; not the shell that torch.compile puts around it."""
        own: Any = self
        module = getattr(self, "module_", own.module)
        return getattr(module, "_orig_mod", module)

    def _forget(self) -> None:
        """Know nothing of columns and classes, as before the first fit."""
        for name in _KNOWN:
            vars(self).pop(name, None)

    @contextmanager
    def _learning(self) -> Iterator[None]:
        """What is learned of columns and classes here is forgotten again if an error is raised."""
        before = {name: vars(self)[name] for name in _KNOWN if name in vars(self)}
        try:
            yield
        except BaseException:
            self._forget()
            vars(self).update(before)
            raise

    @property
    def _largest(self) -> float:
        """The largest number that the terms can read."""
        model = self._model
        like = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        return torch.finfo(torch.float64 if like is None else like.dtype).max

    def _masks(self, argument: str) -> bool:
        """Whether the model knows what to do where this argument is masked."""
        model: Any = self._model
        if isinstance(model, nn.Module):
            recurrent, learned = isinstance(model, RNAM), getattr(model, "missing", None) is not None
        else:
            recurrent = isinstance(model, type) and issubclass(model, RNAM)
            learned = bool(getattr(self, "module__missing", False))
        return learned or (recurrent and argument == "input")

    def checked(self, X: Any, first: bool = False) -> Any:
        """X with its tables as numbers, and a mask where values are missing.

        Args:
            first: the columns are those of the fit; else they must be the same again.
        """
        several = isinstance(X, Mapping) and not issparse(X)  # one of scipy's sparse arrays is a dict
        given = dict(X) if several else {"input": X}
        for argument, mask in READ_BY_TERMS.items():
            if argument in given:
                given |= self._table(argument, given, mask, first, alone=not several)
        if "times" in given:
            given["times"] = self._times(given)
        if given.keys() == {"input"} and not several:
            return given["input"]
        return SliceDict(**{name: tables.plain_array(value) for name, value in given.items()})

    def _table(self, argument: str, given: dict[str, Any], mask: str, first: bool, alone: bool) -> dict[str, Any]:
        """The table of one argument, checked, and its mask if there is one."""
        value, ours = given[argument], hasattr(self._model, "columns")
        called = tables.names(value)
        name = "X" if argument == "input" else argument
        if called is not None:
            tables.refuse_twice(name, called)
            self._check_columns(argument, value, first)
        array = tables.table(name, value, ensure_2d=alone or ours, estimator=self)
        if called is None and (ours or (alone and array.ndim == 2)) and not self.training_:
            # of a table over time, too, the columns are the last dimension
            self._check_columns(argument, np.moveaxis(array, -1, 1), first)
        if argument == "input" and first:
            self._check_terms(array.shape[-1], called)
        table = {argument: value if isinstance(value, Tensor) else array}
        if ours and argument == "input" and given.get("lengths") is not None:
            table["lengths"] = tables.whole_numbers("lengths", given["lengths"], len(array))
            given = given | table
        known = given.get(mask), given.get("lengths") if argument == "input" else None
        if not ours and any(part is not None for part in known):
            return table  # a module of one's own reads its masks in its own way
        missing = tables.missing(array, self._largest, *known)
        if not missing.any():
            return table
        if not self._masks(argument):
            advice = ", and a model made without missing=True cannot mask it" if ours else ""
            tables.refuse_missing(name, array, missing, called, advice)
        seen = tables.there(array, self._largest)
        return table | {mask: seen if known[0] is None else seen & as_array(known[0])}

    def _times(self, given: dict[str, Any]) -> Any:
        """`times` as numbers, which are finite where any term is observed; what they are elsewhere has no effect."""
        value = given["times"]
        array = tables.table("times", value, ensure_2d=False, ensure_min_features=0, estimator=self)
        unknown = ~np.isfinite(array)
        if unknown.any():
            tables.refuse_missing("times", array, unknown & self._visited(given, array.shape))
        return value if isinstance(value, Tensor) else array

    def _visited(self, given: dict[str, Any], shape: tuple[int, ...]) -> Any:
        """The steps (samples, steps) at which any term is observed, as far as the net can tell."""
        columns, known = getattr(self._model, "columns", None), (given.get("mask"), given.get("lengths"))
        if columns is None:
            return all(part is None for part in known)  # a module of one's own reads its masks in its own way
        values = as_array(given["input"])
        covered = tables.hidden(values, *known)
        if covered is None or covered.ndim != 3 or covered.shape[:2] != shape:
            return False  # the model says what is wrong
        seen = tables.there(values, self._largest) & ~covered
        return columns.observed(torch.from_numpy(seen)).any(0).numpy()

    def _check_columns(self, argument: str, value: Any, first: bool) -> None:
        """scikit-learn's check that the columns are as many as in the fit and have the same names."""
        if argument == "input":
            validate_data(self, value, reset=first, skip_check_array=True)
        else:
            if first:
                self.static_columns_ = StaticColumns()
            if hasattr(self, "static_columns_"):
                validate_data(self.static_columns_, value, reset=first, skip_check_array=True)

    def _check_terms(self, count: int, called: list[Any] | None) -> None:
        """Raises ValueError if the terms read more columns than there are, or, one column each, fewer."""
        columns = getattr(self._model, "columns", None)
        if columns is None:
            return
        memoryless = getattr(self._model, "memoryless_columns", None)
        least = columns.least if memoryless is None else max(columns.least, memoryless.least)
        if count < least:
            raise ValueError(f"X must have at least {least} columns, since the terms read them, got {count}")
        read = len(columns.columns)
        chosen = getattr(self, "module__columns", None) is not None
        others = () if memoryless is None else memoryless.columns
        unread = [n for n in range(read, count) if not any(n in own for own in others)]
        if not chosen and unread and columns.columns == tuple((n,) for n in range(read)):
            name = tables.column("X", unread[0] if called is None else called[unread[0]])
            raise ValueError(
                f"X must have a term for each of its {count} columns, got module__terms={read}: no term reads {name}. "
                "module__columns says which columns the terms read"
            )

    def _name_terms(self) -> None:
        """Call the terms after the columns that they read, unless the model was described by hand."""
        names, model = getattr(self, "feature_names_in_", None), self._model
        columns, named = getattr(model, "columns", None), getattr(self, "term_names_", None)
        described = getattr(model, "description", None)
        if names is None or columns is None or (described is not None and described.names != named):
            return
        terms = tuple(" & ".join(names[n] for n in own) for own in columns.columns)
        if len(set(terms)) == len(terms) and not {"", INTERCEPT} & set(terms):
            describe(model, terms, outputs=self._output_names())
            self.term_names_ = terms

    def _output_names(self) -> tuple[str, ...] | None:
        """What the outputs of the model are called; None if by number."""
        return None
