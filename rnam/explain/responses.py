"""How one term answers when its input changes: what it remembers, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from rnam import _checks
from rnam.explain import _arrays, _inputs
from rnam.explain._arrays import Bools, Floats
from rnam.explain.evaluation import evaluate
from rnam.explain.names import labels, position

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Response", "response"]


@dataclass(frozen=True, eq=False)
class Response:
    """The answer of one term to a change of its input, at several baselines.

    Args:
        term, unit: its name, and the unit of its input ("" for none).
        kind: "step" or "impulse".
        size: the change, in units.
        time: (steps,) from the change on, in the unit of `spacing`; negative before it.
        baseline: (baselines,) in units.
        input: (baselines, steps) the values that the term saw, in units.
        held: ([members,] baselines, steps, out) its contribution had the input stayed at the baseline.
        contribution: the same with the change.
        outside: bool (baselines, steps): the value is outside the 1 to 99 % range of the data, where the model was
            hardly trained; False everywhere without data.
        data_range: the ends of that range in units, or None without data.
    """

    term: str
    unit: str
    kind: str
    size: float
    time: Floats
    baseline: Floats
    input: Floats
    held: Floats
    contribution: Floats
    outside: Bools
    data_range: tuple[float, float] | None

    @property
    def difference(self) -> Floats:
        """contribution - held, ([members,] baselines, steps, out): 0 to rounding before the change. Constants go."""
        return np.asarray(self.contribution - self.held)


def response(
    model: nn.Module,
    term: str | int,
    *,
    baseline: ArrayLike | Tensor | None = None,
    at: int = 5,
    spacing: float = 1.0,
    size: float = 1.0,
    kind: str = "step",
    steps: int = 20,
    scale: _inputs.Scale | tuple[float, float] | None = None,
    encode: Callable[[Floats, Floats], Tensor | dict[str, Tensor]] | None = None,
    data: ArrayLike | Tensor | None = None,
    names: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
) -> Response:
    """Give one term a constant input that changes at one step, and read what it contributes at every step.

    The model is additive, so what other terms see has no part in the answer.

    Args:
        model: an additive recurrent model.
        term: its name or number.
        baseline: the values that the input is held at, three or more, in units: one answer says little about a
            term that is not linear. With data, by default the 10, 50 and 90 % quantiles.
        at: the step of the change, from 1.
        spacing: the time between steps.
        size: the change, in units; negative for a fall.
        kind: "step": the input stays changed; "impulse": it is changed at one step and then as before.
        steps: the length of the sequence.
        scale: (mean, standard deviation) of the term, where the model sees (value - mean) / sd, or a function from
            values in units to what the model sees. None where it sees the units.
        encode: for terms that read more than one value at each step: a function of values (sequences, steps) in units
            and times (steps,) that gives the model's whole input, or a dict of all that it takes. It does the scaling.
        data: values of the term in units, of any shape, NaN where there is none.
        names, units: of the terms, instead of those stored with the model.

    Raises:
        TypeError, ValueError: an argument is not what is said above.

    Example:
        >>> model = rnam.RNAM(terms=2, hidden_dim=4, out_dim=1, blocks=1)
        >>> answer = rnam.explain.response(model, 0, baseline=[1.0, 2.0, 3.0], at=2, steps=6, scale=(2.0, 0.5))
        >>> answer.difference.shape
        (3, 6, 1)
        >>> answer.time
        array([-2., -1.,  0.,  1.,  2.,  3.])
    """
    steps, at = _checks.positive_int("steps", steps), _checks.positive_int("at", at)
    if at >= steps:
        raise ValueError(f"at must be below steps, {steps}, got {at}")
    spacing, size = _checks.positive_number("spacing", spacing), _checks.finite_number("size", size)
    _checks.one_of("kind", kind, ("step", "impulse"))
    if encode is not None and scale is not None:
        raise ValueError("scale must be None where encode is given, which does the scaling")
    known = None if data is None else _arrays.finite_or_nan("data", data)
    if baseline is None:
        if known is None:
            raise ValueError("baseline must be given where data is not, got None")
        baseline = _inputs.quantiles(known, (0.1, 0.5, 0.9))
    held = _arrays.finite("baseline", baseline)
    if held.ndim != 1 or len(held) < 3:
        raise ValueError(f"baseline must be three values or more, got shape {held.shape}")

    before = np.repeat(held[:, None], steps, axis=1)
    after = before.copy()
    after[:, at : None if kind == "step" else at + 1] += size
    time = np.asarray((np.arange(steps) - at) * spacing, np.float64)
    both = np.concatenate([before, after])
    layout = None
    if encode is None:
        layout = _inputs.OneValue(model)
        if not layout.over_time:
            raise ValueError("model must be recurrent: one that sees a single point in time answers no change")
        shown = _inputs.scaling(scale)(both)[:, :, None]
        input = layout.input(np.repeat(shown, layout.terms, axis=2))  # to all terms; one of them is read
        given = {"input": input} | layout.beside(len(both), time)
    else:
        encoded = encode(both, time)
        given = encoded if isinstance(encoded, dict) else {"input": encoded}
    values = _arrays.floats("contributions", evaluate(model, **given, over_time=True, each_member=True))
    found = labels(model, values.shape[-3], values.shape[-1], names, units)
    number = position("term", term, found.names)
    if layout is not None:
        layout.changes(number, found.names[number])
    one = values[..., number, :, :]  # ([members,] sequences, steps, out)
    ends, outside = None, np.zeros(after.shape, np.bool_)
    if known is not None:
        low, high = _inputs.quantiles(known, (0.01, 0.99)).tolist()
        ends, outside = (low, high), (after < low) | (after > high)
    return Response(
        term=found.names[number], unit=found.units[number], kind=kind, size=size, time=time, baseline=held,
        input=after, held=one[..., : len(held), :, :], contribution=one[..., len(held) :, :, :], outside=outside,
        data_range=ends,
    )  # fmt: skip
