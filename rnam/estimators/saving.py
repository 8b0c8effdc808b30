"""`save` and `load`: a fitted estimator, or a model alone, as a folder of config.json and model.safetensors.

    rnam.RNAMClassifier().fit(panel).save("union.rnam")
    model = rnam.load("union.rnam")

config.json has the class, its parameters, the arguments of the network, and what the fit learned: the encoder, the
loss, the columns of the panel, the classes, the history. model.safetensors has the state dict. Neither holds code, and
nothing that a file names is imported.

Each class of an estimator says what it adds to a fit: `_saved`, the names of attributes beside `model_`, which need not
all be there, and `_records`, the dataclasses that they hold.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from rnam import _checks
from rnam._version import __version__
from rnam.estimators import folder
from rnam.estimators.codec import Record, Records, decode, encode
from rnam.estimators.encoding import Encoder
from rnam.estimators.losses import Loss
from rnam.models.nam import NAM
from rnam.models.rnam import RNAM
from rnam.panel import Panel
from rnam.panel.schema import Column, Schema
from rnam.panel.storage import Facts, Parts, Sequences, Visits
from rnam.panel.times import Clock

__all__ = ["load", "save"]

_MODELS: Mapping[str, Any] = {"RNAM": RNAM, "NAM": NAM}
_ESTIMATORS = ("RNAMClassifier", "RNAMRegressor", "RNAMSurvival", "NAMClassifier", "NAMRegressor")
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _FLOATS}
_DESCRIPTION = "description._extra_state"  # of a state dict; a model without names has none


def save(model: Any, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a model into a folder, as JSON and safetensors, whole or not at all.

    Args:
        model: a fitted estimator of this package, or a `rnam.RNAM` or `rnam.NAM` in any dtype and on any device.
        path: of the folder, which is made; the folder above it must be there.
        overwrite: replace the model that is there. A crash leaves the old one or the new one. Other files stay.

    Raises:
        FileExistsError: the folder holds something and `overwrite` is False, or a folder is in the place of one of the
            files.
        FileNotFoundError: there is no folder above it.
        NotADirectoryError: the path, or the one above it, is a file.
        sklearn.exceptions.NotFittedError: the estimator has no model yet.
        TypeError: it is no such model; one of its modules is another than the class makes; a parameter of the estimator
            or what it learned is no plain value, such as a callback. Nothing is written then.

    Example:
        >>> import tempfile
        >>> model = rnam.NAM(terms=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rnam.save(model, f"{folder}/three.rnam")
        ...     again = rnam.load(f"{folder}/three.rnam")
        >>> torch.equal(model(torch.ones(1, 3)).prediction, again(torch.ones(1, 3)).prediction)
        True
    """
    _checks.boolean_flag("overwrite", overwrite)
    if isinstance(model, nn.Module):
        network, config = model, {"class": type(model).__name__}
    else:
        network, config = _told(model)
    arguments, tensors = _architecture(network)
    folder.write(Path(path), config | {"model": arguments}, tensors, __version__, overwrite)


def load(path: str | os.PathLike[str]) -> Any:
    """The estimator or the model that `save` wrote. It predicts the same numbers, and can be saved, cloned and fitted.

    The network is on the CPU, from which `model.model_.to(device)` moves it, and in eval mode. Those of its parameters
    can be trained that the class makes trainable.

    Args:
        path: of the folder.

    Returns:
        An estimator, or a `rnam.RNAM` or `rnam.NAM`.

    Raises:
        FileNotFoundError: there is no such folder, or it lacks one of the files.
        NotADirectoryError: the path is a file.
        ValueError: the files are another program's, of a later version, cut or changed; the error names the file, what
            was expected and what came.
    """
    place = Path(path)
    config, tensors = folder.read(place)
    try:
        name = config["class"]
        network = _network(config["model"], tensors)
        if name in _MODELS:
            if type(network) is not _MODELS[name]:
                raise ValueError(f"a {name} must have the model of its class, got {config['model']!r}")
            return network
        return _restored(name, config["parameters"], config["fitted"], network)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        told = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{place} must be a model of rnam {__version__} or before, got one with {told}") from error


def _told(estimator: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The network of an estimator, and the rest as JSON holds it."""
    kind = type(estimator)
    if kind is not _class(kind.__name__):
        known = ", ".join([*_ESTIMATORS, *_MODELS])
        raise TypeError(f"model must be one of {known}, got {kind.__module__}.{kind.__qualname__}")
    check_is_fitted(estimator, "model_")
    parameters = {}
    for name, value in estimator.get_params(deep=False).items():
        try:
            parameters[name] = encode(name, value)
        except TypeError as error:
            raise TypeError(f"{error}; set_params({name}=None) before saving leaves it out") from error
    saved, held = _each(kind, "_saved"), vars(estimator)
    lost = [name for name in held if name.endswith("_") and name not in ("model_", *saved)]
    if lost:
        raise TypeError(f"the fitted {kind.__name__} must have the attributes of its class, got {', '.join(lost)}")
    fitted = {name: encode(name, held[name], _records(kind)) for name in saved if name in held}
    return estimator.model_, {"class": kind.__name__, "parameters": parameters, "fitted": fitted}


def _restored(name: str, parameters: dict[str, Any], fitted: dict[str, Any], network: nn.Module) -> Any:
    """A fitted estimator of what `_told` told."""
    kind = _class(name)
    if kind is None:
        raise ValueError(f"the class {name!r}")
    estimator = kind(**{each: decode(each, value) for each, value in parameters.items()})
    for each, value in fitted.items():
        if each not in _each(kind, "_saved"):
            raise ValueError(f"the attribute {each!r}, which {name} has not")
        setattr(estimator, each, decode(each, value, _records(kind)))
    _refuse_parts(estimator, network)
    estimator.model_ = network
    return estimator


def _refuse_parts(estimator: Any, network: Any) -> None:
    """Raises ValueError where a prediction would lack something, or the network is not that of the columns and loss."""
    loss = [own for own in _each(type(estimator), "_records") if issubclass(own, Loss)][-1]
    needed = {"encoder_": Encoder, "loss_": loss, "schema_": Panel, "table_": str, "at_": str, "target_names_": tuple}
    for name, kind in needed.items():
        found = getattr(estimator, name, None)
        if type(found) is not kind:
            raise ValueError(f"{name} must be {kind.__name__}, got {type(found).__name__}")
    wanted = NAM if estimator._flat else RNAM, len(estimator.encoder_.terms), estimator.loss_.out_dim
    given = type(network), *network.sizes()
    if wanted != given:
        both = [f"{kind.__name__} of {terms} terms and {outputs} outputs" for kind, terms, outputs in (wanted, given)]
        raise ValueError(f"the network must be {both[0]}, got {both[1]}")


def _class(name: str) -> Any:
    """An estimator of this package by its name, or None. Its class imports this file."""
    return getattr(importlib.import_module("rnam"), name, None) if name in _ESTIMATORS else None


def _each(kind: type, attribute: str) -> list[Any]:
    """An attribute of each class that an estimator is made of, the base first."""
    return [own for base in reversed(kind.__mro__) for own in vars(base).get(attribute, ())]


def _records(kind: type) -> Records:
    own = {each.__name__: Record.of(each) for each in (Schema, Clock, Column, *_each(kind, "_records"))}
    return own | {"Panel": Record(Panel, _columns_of, lambda parts: _without_ids(**parts))}


def _columns_of(panel: Panel) -> dict[str, Any]:
    if len(panel):
        raise TypeError("a panel must be one without ids to be saved: a model holds no data")
    return {"schema": panel.schema}


def _without_ids(schema: Schema) -> Panel:
    """The panel of no id that has these columns."""
    clock, at_visits = schema.clock, schema.at == "visit"
    stamps = np.empty(0, {"number": "f8", "date": "M8[ns]", "duration": "m8[ns]"}[clock.kind])

    def table(columns: Iterable[Column], kind: Any = np.float64) -> Any:
        return np.empty((0, len(tuple(columns))), kind)

    labels = table(schema.targets) if schema.targets else None
    weight = None if schema.weight is None else np.empty(0)
    index = pandas.Index([]) if len(schema.id) == 1 else pandas.MultiIndex.from_arrays([[]] * len(schema.id))
    none = np.empty(0, np.int64)
    visits = Visits(
        values=table(schema.values),
        codes=table(schema.categories, np.int32),
        stamps=stamps,
        labels=labels if at_visits else None,
        weight=weight if at_visits else None,
    )
    facts = Facts(
        ids=index,
        values=table(schema.static),
        codes=table(schema.static_categories, np.int32),
        values_from=table(schema.static, stamps.dtype),
        codes_from=table(schema.static_categories, stamps.dtype),
        labels=None if at_visits else labels,
        weight=None if at_visits else weight,
        groups=None if schema.group is None else pandas.Index([]),
        known=None if at_visits or labels is None else stamps,
    )
    return Panel(Parts(schema, visits, facts, Sequences(none, none)))


def _architecture(network: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments that make a network of the same parameters, and these parameters.

    Raises:
        TypeError: it is no model of this package, or its modules or parameters are not those that its class makes.
    """
    kind = type(network)
    if kind not in _MODELS.values():
        raise TypeError(f"model must be one of {', '.join(_MODELS)}, got {kind.__module__}.{kind.__qualname__}")
    dtype = network.gam.bias.dtype
    try:
        arguments = network.arguments()
    except AttributeError as error:
        raise TypeError(f"model must have the modules that {kind.__name__} makes, got another: {error}") from error
    tensors = network.state_dict()
    like = kind(**arguments, device="meta", dtype=dtype)
    modules, made = ({name: type(m) for name, m in each.named_modules()} for each in (network, like))
    for name in [*made, *modules]:
        if name != "description" and modules.get(name) is not made.get(name):
            found = modules.get(name, type(None)).__name__
            raise TypeError(f"model must have the modules that {kind.__name__} makes, got {found} at {name}")
    _refuse_others(like, tensors, TypeError)
    plain = json.loads(json.dumps(arguments, allow_nan=False))  # with lists, which the class takes for its tuples
    return {"class": kind.__name__, "dtype": str(dtype).removeprefix("torch."), "arguments": plain}, tensors


def _network(told: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network of what `_architecture` told, in memory of its own."""
    name, dtype = told["class"], told["dtype"]
    if name not in _MODELS or dtype not in _DTYPES:
        raise ValueError(f"a network of class {name!r} and dtype {dtype!r}")
    _refuse_larger(told["arguments"], tensors)
    network: nn.Module = _MODELS[name](**told["arguments"], device="meta", dtype=_DTYPES[dtype])
    _refuse_others(network, tensors, ValueError)
    network.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, assign=True)
    return network.eval()


def _refuse_larger(arguments: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError where the arguments ask for more networks or blocks than there are numbers or layers for in the
    tensors. It comes before a model is made of them, whose modules and lists take memory on any device."""
    terms, members, blocks = (
        size if type(size := arguments.get(name)) is int else 1 for name in ("terms", "members", "blocks")
    )
    others = sum(len(arguments.get(name) or ()) for name in ("memoryless_columns", "static_columns"))
    numbers = sum(tensor.numel() for tensor in tensors.values())
    layers = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    for what, asked, held in (
        ("networks", (terms + others) * members, numbers),
        ("blocks", blocks, max(1, layers)),
    ):
        if asked > held:
            raise ValueError(f"arguments of {asked:,} {what}, where the weights are of at most {held:,}")


def _refuse_others(like: nn.Module, tensors: Mapping[str, Any], error: type[Exception]) -> None:
    """Raises where tensors are not those of a model, but for its description."""
    wanted = {name: (tuple(t.shape), t.dtype) for name, t in like.state_dict().items() if name != _DESCRIPTION}
    found = {name: (tuple(t.shape), t.dtype) for name, t in tensors.items() if name != _DESCRIPTION}
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            raise error(f"{name} must be {_shape(wanted.get(name))}, got {_shape(found.get(name))}")


def _shape(told: tuple[tuple[int, ...], torch.dtype] | None) -> str:
    return "none" if told is None else f"{str(told[1]).removeprefix('torch.')} {told[0]}"
