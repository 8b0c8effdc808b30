"""The part of a pair that its two columns cannot say each by itself."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from rnam.explain import _arrays
from rnam.explain._arrays import Floats

__all__ = ["Purified", "purify"]


class Purified(NamedTuple):
    """A table as constant + first[:, None] + second + interaction, with the leading dimensions that it had.

    Args:
        interaction: (..., rows, columns), whose weighted mean over each row and each column is 0.
        first, second: (..., rows) and (..., columns), whose weighted mean is 0.
        constant: (...).
    """

    interaction: Floats
    first: Floats
    second: Floats
    constant: Floats


def purify(table: ArrayLike | Tensor, weight: ArrayLike | Tensor) -> Purified:
    """The functional ANOVA of a pair's table: what belongs to its two main terms is moved to them.

    A sum of a pair and its main terms fixes each of them only up to functions of one column: what the pair gains, a
    main term may lose. Pure, the pair has weighted mean 0 over each row and each column. The main effects are those of
    the weighted least squares fit of two main effects, in one solution, and the sum stays what it was. A row
    of weight 0, of which the data say nothing, has the main effect that leaves it a mean of 0 by the weights of the
    columns; so has a column by those of the rows.

    Args:
        table: (..., rows, columns), contributions of the pair at values of its two columns.
        weight: (rows, columns), at least 0: how much data each cell stands for.

    Raises:
        TypeError, ValueError: an argument is not of numbers, not finite, or of another shape; weights are negative or
            all 0.

    Source: Lengerich, Tan, Chang, Hooker and Caruana, Purifying Interaction Effects with the Functional ANOVA, AISTATS
    2020; as weighted least squares, Hooker, Journal of Computational and Graphical Statistics 16 (2007).

    Example:
        >>> found = rnam.explain.purify([[1.0, 2.0], [3.0, 8.0]], [[1, 1], [1, 1]])
        >>> [part.round(6).tolist() for part in found]
        [[[1.0, -1.0], [-1.0, 1.0]], [-2.0, 2.0], [-1.5, 1.5], 3.5]
    """
    values = _arrays.finite("table", table)
    if values.ndim < 2:
        raise ValueError(f"table must have shape (..., rows, columns), got {values.shape}")
    rows, columns = values.shape[-2:]
    share = _arrays.sample_weight(weight, (rows, columns))
    share = share / share.sum()
    of_rows, of_columns = share.sum(1), share.sum(0)
    normal = np.block([[np.diag(of_rows), share], [share.T, np.diag(of_columns)]])
    flat = (share * values).reshape(-1, rows, columns)
    right = np.concatenate([flat.sum(2), flat.sum(1)], axis=1)
    effects = np.linalg.lstsq(normal, right.T, rcond=1e-12)[0].T
    first = effects[:, :rows].reshape(values.shape[:-1])
    second = effects[:, rows:].reshape(*values.shape[:-2], columns)
    means = first @ of_rows, second @ of_columns
    first, second = first - means[0][..., None], second - means[1][..., None]
    constant = np.asarray(means[0] + means[1])
    free = values - constant[..., None, None]
    first[..., of_rows == 0] = ((free - second[..., None, :]) @ of_columns)[..., of_rows == 0]
    second[..., of_columns == 0] = ((free - first[..., :, None]).swapaxes(-1, -2) @ of_rows)[..., of_columns == 0]
    interaction = values - first[..., :, None] - second[..., None, :] - constant[..., None, None]
    return Purified(interaction, first, second, constant)
