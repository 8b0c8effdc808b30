"""What each term adds to each prediction, as an array or a table, and where terms are observed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnam.explain._arrays import Bools, plain
from rnam.explain.names import labels
from rnam.models.description import Labels

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["contributions", "intercept", "observed"]


@overload
def contributions(
    model: nn.Module, input: Tensor, *arguments: Any, over_time: bool = ..., as_frame: Literal[False] = ...,
    names: Sequence[str] | None = ..., units: Sequence[str] | None = ..., **options: Any,
) -> NDArray[Any]: ...  # fmt: skip
@overload
def contributions(
    model: nn.Module, input: Tensor, *arguments: Any, over_time: bool = ..., as_frame: Literal[True],
    names: Sequence[str] | None = ..., units: Sequence[str] | None = ..., **options: Any,
) -> DataFrame: ...  # fmt: skip
def contributions(
    model: nn.Module,
    input: Tensor,
    *arguments: Any,
    over_time: bool = False,
    as_frame: bool = False,
    names: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
    **options: Any,
) -> NDArray[Any] | DataFrame:
    """What each term adds to the prediction of each sample, or at each of its steps.

    The model runs in evaluation mode and without a graph; every module's mode is put back.

    Args:
        model: an additive model: it returns (prediction, contributions), contributions (terms, batch, out) or
            (terms, batch, seq, out), with a leading dimension of members where it has several.
        input, *arguments, **options: what the model takes, `mask=` and `lengths=` among them.
        over_time: at every step (the model's `return_sequence=True`).
        as_frame: give a pandas.DataFrame (needs pandas).
        names, units: of the terms, instead of those stored with the model (`describe`).

    Returns:
        An array ([members,] batch, terms, out), or ([members,] batch, terms, seq, out) over time, of the model's dtype,
        float32 for half precision. Its sum over the terms plus `intercept(model)` is the prediction to rounding.
        As a frame: a row per sample, or (sample, step), (member, sample) or (member, sample, step); a column per
        term, or (term, output) where there are several outputs; the units of the terms' inputs by name in
        `frame.attrs["units"]`.

    Raises:
        ImportError: as_frame, and pandas is missing.
        TypeError, ValueError: names or units that are not as many as the terms; what the model raises.

    Example:
        >>> model = rnam.RNAM(terms=2, hidden_dim=4, out_dim=1, blocks=1)
        >>> model = rnam.explain.describe(model, ["bilirubin", "albumin"], ["mg/dl", "g/dl"])
        >>> input = torch.randn(2, 5, 7, 1)
        >>> rnam.explain.contributions(model, input).shape
        (5, 2, 1)
        >>> rnam.explain.contributions(model, input, over_time=True).shape
        (5, 2, 7, 1)
        >>> list(rnam.explain.contributions(model, input, as_frame=True))
        ['bilirubin', 'albumin']
    """
    values = evaluate(model, input, *arguments, over_time=over_time, **options)
    terms = values.shape[-3 if over_time else -2]
    known = labels(model, terms, values.shape[-1], names, units)
    return _frame(values, known, over_time) if as_frame else values


def evaluate(
    model: nn.Module, *arguments: Any, over_time: bool = False, each_member: bool = False, **options: Any
) -> NDArray[Any]:
    """The model's contributions with the batch before the terms, as numpy; of an ensemble with `each_member` those of
    each."""
    if options.get("return_state"):
        raise ValueError("return_state must be False: contributions have no state")
    if over_time:
        options["return_sequence"] = True
    if each_member and getattr(model, "members", 1) > 1:
        options["return_members"] = True
    with evaluating(model):
        _, parts = model(*arguments, **options)
    values = np.asarray(plain(parts))
    batch = values.ndim - (3 if over_time else 2)
    return np.array(values.swapaxes(batch - 1, batch), order="C")  # a copy: a model may keep what it gives


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no graph; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def intercept(model: nn.Module) -> NDArray[Any]:
    """The model's bias ([members,] out) as numpy: what the prediction is where every contribution is 0.

    Example:
        >>> rnam.explain.intercept(rnam.RNAM(terms=2, hidden_dim=4, out_dim=3, blocks=1))
        array([0., 0., 0.], dtype=float32)
    """
    return np.array(plain(model.get_parameter("gam.bias")))


def observed(model: nn.Module, input: Tensor, *arguments: Any, over_time: bool = False, **options: Any) -> Bools:
    """Which places of `contributions` come from an observation; the others are of a term that was never observed.

    Args:
        model: one with a method `observed`, as `rnam.RNAM` and `rnam.NAM` have.
        input, *arguments, **options: what the model takes, `mask=` and `lengths=` among them, as in `contributions`.
        over_time: at each step, True from the term's first observed step on, padding included (whose weight is 0 where
            it matters); else whether any step of the sample is observed.

    Returns:
        bool (batch, terms), or (batch, terms, seq) over time. The members of an ensemble have it in common.

    Raises:
        TypeError: the model has no method `observed`.
        TypeError, ValueError: what the model raises.

    Example:
        >>> model = rnam.RNAM(terms=2, hidden_dim=4, out_dim=1, blocks=1)
        >>> mask = torch.tensor([[[True, False]], [[False, False]]])
        >>> rnam.explain.observed(model, torch.zeros(2, 1, 2, 1), mask)
        array([[ True, False]])
    """
    method = getattr(model, "observed", None)
    if not callable(method):
        raise TypeError(f"model must have a method observed, as rnam.RNAM has, got {type(model).__name__}")
    if over_time:
        options["return_sequence"] = True
    seen: Tensor = method(input, *arguments, **options)
    return np.array(plain(seen.transpose(0, 1)), np.bool_, order="C")


def _frame(values: NDArray[Any], known: Labels, over_time: bool) -> DataFrame:
    pandas = import_pandas()
    rows = values.ndim - (3 if over_time else 2)  # members and samples, before the terms
    if over_time:
        values = np.moveaxis(values, rows, rows + 1)
    index_names = ["member", "sample", "step"][2 - rows : 2 + over_time]
    sizes = values.shape[: len(index_names)]
    index = pandas.MultiIndex.from_product([range(n) for n in sizes], names=index_names)
    if len(index_names) == 1:
        index = pandas.RangeIndex(sizes[0], name="sample")
    columns = pandas.MultiIndex.from_product([known.names, known.outputs], names=["term", "output"])
    if len(known.outputs) == 1:
        columns = pandas.Index(known.names, name="term")
    frame = pandas.DataFrame(values.reshape(len(index), -1), index=index, columns=columns)
    frame.attrs["units"] = dict(zip(known.names, known.units, strict=True))
    return frame


def import_pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError("a frame needs pandas: pip install pandas") from error
    return pandas
