"""What the terms and outputs of a model are called, and the units of the terms' inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from torch import nn

from rnam import _checks
from rnam.models.description import Described, Description, Labels, checked, names_of, refuse_damage, units_of

__all__ = ["describe", "labels"]

Model = TypeVar("Model", bound=nn.Module)


def describe(
    model: Model, names: Sequence[str], units: Sequence[str] | None = None, outputs: Sequence[str] | None = None
) -> Model:
    """Store the names of the terms, the units of their inputs and the names of the outputs with the model.

    They are kept by copies, pickles and state dicts (one entry more, `description._extra_state`, a tensor of bytes);
    a model without names has no such entry. `rnam.RNAM` takes them up when it loads a state dict that has them; any
    other model is described first.

    Args:
        model: any additive model. Described before, its description is replaced.
        names: one for each term that the model reports, different from each other.
        units: one for each name, "" for none; none at all by default.
        outputs: the outputs (classes, targets), different from each other; numbered by default.

    Returns:
        The model.

    Raises:
        TypeError: a name or unit is no str.
        ValueError: a name is empty, is "(intercept)", is there twice or holds half of a surrogate pair; units are not
            as many as names; names or outputs are not as many as an `rnam.RNAM` or `rnam.NAM` reports.

    Example:
        >>> model = rnam.RNAM(terms=2, hidden_dim=4, out_dim=1, blocks=1)
        >>> rnam.explain.describe(model, ["bilirubin", "albumin"], ["mg/dl", "g/dl"]).description
        Description(bilirubin (mg/dl), albumin (g/dl))
    """
    own = getattr(model, "_orig_mod", model)  # not the shell that torch.compile puts around it
    found = checked(names, units, outputs, own.sizes() if isinstance(own, Described) else None)
    if not isinstance(own, Described) and not isinstance(getattr(own, "description", None), Description):
        # a `Described` model looks by itself
        own.register_load_state_dict_pre_hook(refuse_damage)
    own.description = Description(*found)
    return model


def labels(
    model: nn.Module | None,
    terms: int,
    outs: int,
    names: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
) -> Labels:
    """What to call `terms` terms and `outs` outputs: as given, else as stored with the model, else by number.

    Raises:
        TypeError, ValueError: as in `describe`; the names, units or outputs are not as many as the model has.
    """
    stored = getattr(model, "description", None) or Description()
    plain = tuple(f"term {i}" for i in range(terms))
    chosen = names_of("names", names) if names is not None else stored.names or plain
    if len(chosen) != terms:
        raise ValueError(f"names must be {terms}, one for each term, got {len(chosen)}")
    if units is None:
        told = stored.units if names is None else ()
        units = told or ("",) * terms
    outputs = stored.outputs or tuple(f"output {i}" for i in range(outs))
    if len(outputs) != outs:
        raise ValueError(f"the model's description must have {outs} outputs, got {len(outputs)}")
    return Labels(chosen, units_of(units, chosen), outputs)


def position(argument: str, value: str | int, known: Sequence[str]) -> int:
    """The number of a term or an output, given by its name or its number."""
    if isinstance(value, str):
        if value not in known:
            raise ValueError(f"{argument} must be one of {', '.join(known)}, got {value!r}")
        return known.index(value)
    if not _checks.is_whole_number(value):
        raise TypeError(f"{argument} must be a name or an int, got {type(value).__name__}")
    number = int(value)
    if not 0 <= number < len(known):
        raise ValueError(f"{argument} must be from 0 to {len(known) - 1}, got {number}")
    return number


def only_output(output: str | int | None, outputs: Sequence[str]) -> int:
    """The output that is asked for; it may be left out where there is one."""
    if output is None:
        if len(outputs) != 1:
            raise ValueError(f"output must be one of {', '.join(outputs)}, got None")
        return 0
    return position("output", output, outputs)
