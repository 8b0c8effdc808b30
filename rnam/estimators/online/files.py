"""States in a file of safetensors: tensors by name, and the ids, the version and the model's fingerprint as JSON.

metadata                {"rnam.online": {"version": 1, "model": fingerprint, "check": SHA-256 of the tensors}}
ids                     uint8, the ids as a list of JSON in UTF-8
state.hidden.0, ...     the entries of `rnam.State`, a row for each id
times, values, codes    `rnam.estimators.online.store.Known`
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from rnam._files import replace
from rnam.estimators.online.store import Known, Store
from rnam.models.streaming import State

__all__ = ["FORMAT", "VERSION", "fingerprint", "read", "write"]

FORMAT, VERSION = "rnam.online", 1

_KINDS = (str, int, float, bool)  # of ids
_STATE, _HIDDEN = "state.", "state.hidden."


def fingerprint(model: Any) -> str:
    """SHA-256 of what states depend on: the parameters and options of a fitted estimator's network, and its encoder."""
    network = model.model_
    options = [network.timing, network.continuous, network.time_unit, network.members]
    told = json.dumps([options, model.encoder_.to_dict()])
    return hashlib.sha256((told + _check(network.state_dict())).encode()).hexdigest()


def write(path: Path, store: Store, model: str) -> None:
    """Write what a store holds. A file that is there stays until all of the new one is.

    Args:
        model: the fingerprint of the model.

    Raises:
        TypeError: an id is neither a word, a number nor a bool.
        OSError: as `rnam._files.replace`.
    """
    for id in store.ids:
        if type(id) not in _KINDS:
            raise TypeError(f"ids must be words, numbers or bools to be saved, got {id!r}")
    ids = np.frombuffer(json.dumps(store.ids).encode(), np.uint8)
    rows = store.rows(store.ids)
    tensors = {"ids": torch.from_numpy(ids.copy())} | _tensors(store.state(rows))
    tensors |= {name: torch.from_numpy(array) for name, array in store.known(rows)._asdict().items()}
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    told = {"version": VERSION, "model": model, "check": _check(tensors)}
    replace(path, safetensors.torch.save(tensors, {FORMAT: json.dumps(told)}))


def read(path: Path, store: Store, model: str) -> None:
    """Put what a file holds into an empty store of the model with this fingerprint.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no file; there is a folder in its place.
        ValueError: it is of another format, a later version or another model, or damaged. The store stays empty.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} must be a file that Online.save wrote, got a folder")
    if not path.exists():
        raise FileNotFoundError(f"{path} must be a file that Online.save wrote, got none")
    try:
        with safetensors.safe_open(path, "pt") as file:
            told = json.loads((file.metadata() or {}).get(FORMAT, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"{path} must be a file that Online.save wrote: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path} must be a file that Online.save wrote, got other tensors")
    if told.get("version") != VERSION:
        raise ValueError(f"{path} must be of version {VERSION}, which this rnam reads, got {told.get('version')}")
    if told.get("model") != model:
        raise ValueError(f"{path} must hold the states of this model, got those of another one")
    like = _tensors(store.state(np.zeros(1, np.int64)))
    names = {"ids", *like, *Known._fields}
    if set(tensors) != names or told.get("check") != _check(tensors):
        raise ValueError(f"{path} must be as it was written, got a file that was changed")
    hidden = [tensors[name].to(value.device) for name, value in like.items() if name.startswith(_HIDDEN)]
    others = {
        name.removeprefix(_STATE): tensors[name].to(value.device)
        for name, value in like.items()
        if not name.startswith(_HIDDEN)
    }
    known = Known(*(tensors[name].numpy() for name in Known._fields))
    store.put(json.loads(tensors["ids"].numpy().tobytes()), State(hidden, **others), known)


def _tensors(state: State) -> dict[str, Tensor]:
    """The tensors of a state by name."""
    found = {f"{_HIDDEN}{n}": value for n, value in enumerate(state.hidden)}
    return found | {_STATE + name: value for name, value in state.items() if name != "hidden"}


def _check(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and bytes."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        if value.numel():
            found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
