"""The names and units of a model's terms, kept with its parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Described", "Description"]

_KEY = "description._extra_state"


class Description(nn.Module):
    """Names, units and outputs as a child module without parameters, so that copies, pickles and state dicts hold them.

    In a state dict it is one entry, `description._extra_state`: a uint8 tensor of UTF-8 JSON, since what saves state
    dicts (safetensors, distributed checkpoints) takes tensors, and code that copies their entries clones them.
    """

    def __init__(self, names: Sequence[str] = (), units: Sequence[str] = (), outputs: Sequence[str] = ()) -> None:
        super().__init__()
        self.names, self.units, self.outputs = tuple(names), tuple(units), tuple(outputs)

    def get_extra_state(self) -> Tensor:
        fields = {"names": self.names, "units": self.units, "outputs": self.outputs}
        return torch.from_numpy(np.frombuffer(json.dumps(fields).encode(), np.uint8).copy())

    def set_extra_state(self, state: Tensor) -> None:
        fields = json.loads(state.cpu().numpy().tobytes().decode())
        self.names, self.units, self.outputs = (tuple(fields[key]) for key in ("names", "units", "outputs"))

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

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        if prefix + _KEY in state_dict and not hasattr(self, "description"):
            self.description = Description()
        super()._load_from_state_dict(state_dict, prefix, *others)
