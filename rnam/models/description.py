"""The names and units of a model's terms, kept with its parameters."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

__all__ = [
    "INTERCEPT", "Described", "Description", "Labels", "Sizes", "checked", "names_of", "refuse_damage", "strings",
    "units_of",
]  # fmt: skip

INTERCEPT = "(intercept)"  # the name of the row of a table that is no term
_KEY = "description._extra_state"


class Labels(NamedTuple):
    """names and units: one for each term, units of the inputs, "" where there is none. outputs: one for each output."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    outputs: tuple[str, ...]


class Sizes(NamedTuple):
    """How many terms and outputs a model reports."""

    terms: int
    outputs: int


class Description(nn.Module):
    """Names, units and outputs as a child module without parameters, so that copies, pickles and state dicts hold them.

    In a state dict it is one entry, `description._extra_state`: a uint8 tensor of UTF-8 JSON, since what saves state
    dicts (safetensors, distributed checkpoints) takes tensors, and code that copies their entries clones them.
    """

    def __init__(self, names: Iterable[str] = (), units: Iterable[str] = (), outputs: Iterable[str] = ()) -> None:
        super().__init__()
        self.names, self.units, self.outputs = tuple(names), tuple(units), tuple(outputs)

    def get_extra_state(self) -> Tensor:
        fields = {"names": self.names, "units": self.units, "outputs": self.outputs}
        return torch.from_numpy(np.frombuffer(json.dumps(fields).encode(), np.uint8).copy())

    def set_extra_state(self, state: Tensor) -> None:
        self.names, self.units, self.outputs = _read("_extra_state", state, None)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """A checkpoint without names leaves those that are there: it lacks nothing that the model computes with."""
        state = state_dict.get(prefix + "_extra_state")
        if state is not None:
            self.set_extra_state(state)

    def extra_repr(self) -> str:
        return ", ".join(f"{n} ({u})" if u else n for n, u in zip(self.names, self.units, strict=True))


class Described(nn.Module):
    """A model that may have a `description`. One is made when a state dict that is loaded holds one; without, the
    state dict has no entry for it."""

    def sizes(self) -> Sizes:
        """How many terms and outputs the model reports: as many are named."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """The arguments, but for device and dtype, from which the class makes a model of this architecture."""
        raise NotImplementedError

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        refuse_damage(self, state_dict, prefix)
        if prefix + _KEY in state_dict and not hasattr(self, "description"):
            self.description = Description()
        super()._load_from_state_dict(state_dict, prefix, *others)


def refuse_damage(model: nn.Module, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
    """Raises ValueError, before anything of a model is loaded, where its state dict has a description that is none, or
    names another number of terms. Of a module that the model is a part of, torch has loaded what stands before it."""
    state = state_dict.get(prefix + _KEY)
    if state is not None:
        _read(prefix + _KEY, state, model.sizes() if isinstance(model, Described) else None)


def checked(
    names: Iterable[str], units: Iterable[str] | None, outputs: Iterable[str] | None, sizes: Sizes | None
) -> Labels:
    """What a description may hold: as many names and outputs as the model reports, where that is known.

    Raises:
        TypeError: a name or unit is no str.
        ValueError: a name is empty, "(intercept)" or there twice, or no text; the numbers of them are wrong.
    """
    found = names_of("names", names)
    own_units = ("",) * len(found) if units is None else units_of(units, found)
    others = () if outputs is None else names_of("outputs", outputs)
    if sizes is not None and len(found) != sizes.terms:
        raise ValueError(f"names must be {sizes.terms}, one for each term, got {len(found)}")
    if sizes is not None and others and len(others) != sizes.outputs:
        raise ValueError(f"outputs must be {sizes.outputs}, one for each output, got {len(others)}")
    return Labels(found, own_units, others)


def names_of(argument: str, values: Iterable[str]) -> tuple[str, ...]:
    found = strings(argument, values)
    for value in found:
        if not value or value == INTERCEPT:
            raise ValueError(f"{argument} must be neither empty nor {INTERCEPT!r}, got {value!r}")
    if len(set(found)) != len(found):
        twice = next(value for value in found if found.count(value) > 1)
        raise ValueError(f"{argument} must differ from each other, got {twice!r} twice")
    return found


def units_of(values: Iterable[str], names: tuple[str, ...]) -> tuple[str, ...]:
    found = strings("units", values)
    if len(found) != len(names):
        raise ValueError(f"units must be {len(names)}, one for each name, got {len(found)}")
    return found


def strings(argument: str, values: Iterable[str]) -> tuple[str, ...]:
    """`values` as plain strings, which UTF-8 can hold."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{argument} must be a sequence of str, got one {type(values).__name__}")
    found = tuple(values)
    for value in found:
        if not isinstance(value, str):
            raise TypeError(f"{argument} must be str, got {type(value).__name__}")
        try:
            value.encode()
        except UnicodeEncodeError as error:  # half of a surrogate pair
            raise ValueError(f"{argument} must be text, got {value!r}") from error
    return tuple(map(str, found))


def _read(key: str, state: object, sizes: Sizes | None) -> Labels:
    """The description that an entry of a state dict holds."""
    try:
        if not isinstance(state, Tensor) or state.dtype != torch.uint8 or state.dim() != 1:
            raise ValueError("it is no row of bytes")
        fields = json.loads(state.cpu().numpy().tobytes().decode())
        if not isinstance(fields, dict) or set(fields) != set(Labels._fields):
            raise ValueError(f"it has not the fields {', '.join(Labels._fields)}")
        if not all(isinstance(value, list) for value in fields.values()):
            raise ValueError("a field is no list")
        return checked(**fields, sizes=sizes)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{key} must be the description of a model, got one that is damaged: {error}") from error
