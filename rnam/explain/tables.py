"""The shape functions of a model without memory (sequences of one step) as a table that can be kept and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from rnam import _checks
from rnam.explain import _arrays, _files, _inputs
from rnam.explain._arrays import Floats
from rnam.explain.centring import Centering, spread
from rnam.explain.evaluation import evaluate, import_pandas, intercept
from rnam.explain.names import labels, only_output
from rnam.models.description import INTERCEPT

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from pandas import DataFrame

__all__ = ["Table", "grid_of", "table"]


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of what terms contribute at values of their input.

    The first row is the intercept, under the name "(intercept)": the contributions of one row per term and the
    intercept sum to a prediction. Then come the terms in order, each with x rising, and last, where data were
    missing, a row with x NaN: what the term contributes when it is not observed.

    Args:
        term: the name of each row's term.
        x: the value of its input, in units; NaN for the intercept and where nothing is observed.
        unit: of x, "" for none.
        contribution: centred; the mean over members where there are several.
        low, high: the mean minus and plus one standard deviation over members: the refit spread, no confidence
            interval. NaN for one model, and for the intercept.
        n: the number of data values for which this is the nearest x; of samples, for the intercept.
    """

    term: tuple[str, ...]
    x: Floats
    unit: tuple[str, ...]
    contribution: Floats
    low: Floats
    high: Floats
    n: NDArray[np.int64]

    def rows(self, term: str) -> Table:
        """The rows of one term.

        Raises:
            ValueError: there are none.
        """
        here = [i for i, name in enumerate(self.term) if name == term]
        if not here:
            raise ValueError(f"term must be one of {', '.join(dict.fromkeys(self.term))}, got {term!r}")
        return Table(
            term=tuple(self.term[i] for i in here), x=self.x[here], unit=tuple(self.unit[i] for i in here),
            contribution=self.contribution[here], low=self.low[here], high=self.high[here], n=self.n[here],
        )  # fmt: skip

    def write(self, path: str | Path) -> None:
        """As CSV or JSON, by the ending of the name; `read` gives back the same words and the same numbers to the last
        bit. A file that is there stays until all of the new one is written.

        In CSV an empty cell is NaN, words are in quotes, and one that a spreadsheet would take for a formula has an
        apostrophe in front. JSON is an object of columns, in which null is NaN. Both say the version of the format and
        have a checksum.

        Raises:
            TypeError: a term or a unit is no str.
            ValueError: another ending; the columns are not of one length, or not of words, numbers and counts.
            OSError: the file can't be written.
        """
        _files.write(Path(path), {name: getattr(self, name) for name in _KINDS}, _KINDS)

    @staticmethod
    def read(path: str | Path) -> Table:
        """A table that was written, by rnam 0.2 too, whose files have no checksum.

        Raises:
            ValueError: another ending; the file was cut or changed after it was written, but for line ends; it is none
                of a table.
            OSError: the file can't be read.
        """
        return Table(**_files.read(Path(path), _KINDS))  # type: ignore[arg-type]

    def to_frame(self) -> DataFrame:
        """As a pandas.DataFrame with these columns.

        Raises:
            ImportError: pandas is missing.
        """
        frame: DataFrame = import_pandas().DataFrame(
            {column.name: getattr(self, column.name) for column in fields(self)}
        )
        return frame


_KINDS = {
    "term": "words", "x": "numbers", "unit": "words", "contribution": "numbers", "low": "numbers", "high": "numbers",
    "n": "counts",
}  # fmt: skip


def table(
    model: nn.Module,
    data: ArrayLike | Tensor,
    *,
    sample_weight: ArrayLike | Tensor | None = None,
    points: int = 64,
    scale: _inputs.Scale | tuple[ArrayLike, ArrayLike] | None = None,
    encode: Callable[[Floats], tuple[Tensor, Tensor] | dict[str, Tensor]] | None = None,
    output: str | int | None = None,
    classes: bool = False,
    names: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
) -> Table:
    """The shape functions: what each term contributes over the range of its data, for one value per term.

    Contributions are centred on the data where the term is observed, with the weights given.

    Args:
        model: an additive model; a recurrent one is given sequences of one step. One with members gives their mean
            and spread.
        data: (samples, terms) in units, NaN where there is no value, the terms as the model has them: memoryless ones
            after the recurrent ones, and static ones last.
        sample_weight: (samples,), at least 0; ones by default. `n` counts samples whatever their weight.
        points: how many x at most, 2 or more: where a term has more different values, half are its quantiles and half
            lie evenly over its range.
        scale: (mean, standard deviation), each a number or (terms,), where the model sees (value - mean) / sd, or a
            function from (rows, terms) in units to what the model sees. None where it sees the units.
        encode: for models with terms that do not read one value each: a function of values (rows, terms) in units, NaN
            where there is none, that gives (input, mask) for sequences of one step, or a dict of all that the model
            takes. It does the scaling.
        output: the name or number of the output, where there are several.
        classes: the outputs are the classes of one softmax (see `Centering`).
        names, units: of the terms, instead of those stored with the model.

    Raises:
        TypeError, ValueError: an argument is not what is said above; a term without a value in the data.

    Example:
        >>> model = rnam.RNAM(terms=2, hidden_dim=4, out_dim=1, blocks=1)
        >>> shapes = rnam.explain.table(model, [[1.0, 5.0], [2.0, 5.0], [2.0, float("nan")]], names=["a", "b"])
        >>> shapes.term
        ('(intercept)', 'a', 'a', 'b', 'b')
        >>> shapes.x, shapes.n
        (array([nan,  1.,  2.,  5., nan]), array([3, 1, 2, 2, 1]))
    """
    points = _checks.whole_number("points", points, least=2)
    values = _arrays.finite_or_nan("data", data)
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"data must have shape (samples, terms), of at least one sample, got {values.shape}")
    if encode is not None and scale is not None:
        raise ValueError("scale must be None where encode is given, which does the scaling")
    weight = _arrays.sample_weight(sample_weight, (len(values),))
    observed = np.isfinite(values)
    grids = [grid_of(column[seen], points) for column, seen in zip(values.T, observed.T, strict=True)]
    rows = np.full((max(map(len, grids)) + 1, len(grids)), np.nan)  # the last is not observed in any term
    for number, grid in enumerate(grids):
        rows[: len(grid), number] = grid

    encoder = encode or _plain_encoder(model, scale)

    def contributions(shown: Floats) -> Floats:
        encoded = encoder(shown.copy())  # which may change what it is given
        pairs = encoded.items() if isinstance(encoded, dict) else zip(("input", "mask"), encoded, strict=True)
        given: dict[str, Any] = dict(pairs)
        return _arrays.floats("contributions", evaluate(model, **given, each_member=True))

    reference = contributions(values)
    members = reference.ndim == 4
    terms = reference.shape[-2]
    if values.shape[1] != terms:
        raise ValueError(f"data must have a column for each of the model's {terms} terms, got {values.shape[1]}")
    known = labels(model, terms, reference.shape[-1], names, units)
    chosen = only_output(output, known.outputs)
    centring = Centering.fit(reference, weight, observed, members=members, classes=classes)
    bias = centring.intercept(intercept(model))
    curves = contributions(rows)
    mean, sd = spread(curves, centring) if members else (centring(curves), np.full(curves.shape, np.nan))
    constant = float((bias.mean(0) if members else bias)[chosen])

    columns: list[tuple[str, float, str, float, float, float, int]] = [
        (INTERCEPT, np.nan, "", constant, np.nan, np.nan, len(values))
    ]
    for number, grid in enumerate(grids):
        missing = int((~observed[:, number]).sum())
        counts = [*_counts(values[observed[:, number], number], grid), missing]
        places = [*range(len(grid)), *([len(rows) - 1] if missing else [])]
        for place, n in zip(places, counts[: len(places)], strict=True):
            y, s = float(mean[place, number, chosen]), float(sd[place, number, chosen])
            columns.append((known.names[number], rows[place, number], known.units[number], y, y - s, y + s, n))
    term, x, unit, contribution, low, high, n_values = zip(*columns, strict=True)
    return Table(
        term, np.array(x), unit, np.array(contribution), np.array(low), np.array(high), np.array(n_values, np.int64)
    )


def _plain_encoder(
    model: nn.Module, scale: _inputs.Scale | tuple[ArrayLike, ArrayLike] | None
) -> Callable[[Floats], dict[str, Tensor]]:
    layout = _inputs.OneValue(model)
    if layout.timing:
        raise ValueError("encode must be given for a model with timing, which gives times too, got None")
    static = 0 if layout.static is None else len(layout.static.columns)
    for columns, count, first in ((layout.columns, layout.terms, 0), (layout.static, static, layout.terms)):
        for term in range(count):
            layout.reads_one(columns, term, f"term {first + term}")
    terms = layout.terms + static
    scaled = _inputs.scaling(scale, terms)

    def encode(shown: Floats) -> dict[str, Tensor]:
        if shown.shape[1] != terms:
            raise ValueError(f"data must have {terms} terms as the model has, got {shown.shape[1]}")
        return layout.at_one_time(shown, scaled(shown))

    return encode


def grid_of(column: Floats, points: int) -> Floats:
    """The different values; of many, quantiles and as many places evenly apart, so that thin ends are drawn too."""
    if column.size == 0:
        raise ValueError("data must hold at least one value of each term, got a term without")
    unique = np.unique(column)
    if len(unique) <= points:
        return unique
    even = np.linspace(unique[0], unique[-1], max(2, points // 2))
    return np.unique(np.concatenate([np.quantile(column, np.linspace(0, 1, points - len(even))), even]))


def _counts(column: Floats, grid: Floats) -> list[int]:
    """How many values have each x as their nearest; the lower of two that are equally near."""
    nearest = np.searchsorted((grid[1:] + grid[:-1]) / 2, column)
    counts: list[int] = np.bincount(nearest, minlength=len(grid)).tolist()
    return counts
