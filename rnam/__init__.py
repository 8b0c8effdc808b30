"""Recurrent neural additive models: many small Linear and minGRU layers side by side, one per term.

    import rnam
    model = rnam.RNAM(terms=12, hidden_dim=16, out_dim=1, blocks=2)
    prediction, contributions = model(input, mask=mask)  # input (terms, batch, seq, 1)

The layers are in `rnam.linear` and `rnam.gru`, the models in `rnam.models`, and the functions that the layers call in
`rnam.functional`. `rnam.reference` has the formulas in plain PyTorch, and `rnam.explain` reads a model off.
"""

import os
import sys
import warnings
from types import ModuleType
from typing import TYPE_CHECKING

if not os.path.isdir(os.path.join(__path__[0], "kernels")):
    __path__.append(os.path.dirname(__path__[0]))  # a checkout has kernels/ beside this folder, a wheel has it inside

from rnam import functional
from rnam._version import __version__
from rnam.backends.choice import get_backend, set_backend
from rnam.gru import minGRU, minLSTM
from rnam.linear import Linear
from rnam.models.nam import NAM
from rnam.models.rnam import RNAM
from rnam.models.streaming import State
from rnam.resampling import bootstrap_weights
from rnam.warm_up import compile_ahead

if TYPE_CHECKING:
    from rnam import explain, plot, regularizers
    from rnam.estimators import NAMClassifier as NAMClassifier
    from rnam.estimators import NAMRegressor as NAMRegressor
    from rnam.estimators import RNAMClassifier as RNAMClassifier
    from rnam.estimators import RNAMRegressor as RNAMRegressor
    from rnam.estimators import RNAMSurvival as RNAMSurvival
    from rnam.estimators.saving import load as load
    from rnam.estimators.saving import save as save
    from rnam.panel import Panel as Panel

__all__ = [
    "NAM",
    "RNAM",
    "Linear",
    "State",
    "__version__",
    "bootstrap_weights",
    "compile_ahead",
    "explain",
    "functional",
    "get_backend",
    "minGRU",
    "minLSTM",
    "plot",
    "regularizers",
    "set_backend",
]

_ON_USE = ("explain", "plot", "regularizers")  # they import more than torch does
_OF_EXTRAS = {  # of no `import *`: they take packages that need not be there
    "NAMClassifier": "estimators",
    "NAMRegressor": "estimators",
    "Panel": "panel",
    "RNAMClassifier": "estimators",
    "RNAMRegressor": "estimators",
    "RNAMSurvival": "estimators",
    "load": "estimators.saving",
    "save": "estimators.saving",
}


class _Moved(ModuleType):
    """A module of 0.2 by its old name, for imports and for models that were pickled whole. It warns once."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(f"rnam.{old}")
        self._new, self._told = f"rnam.{new}", False

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        found = getattr(sys.modules[self._new], name)
        if not self._told:
            self._told = True
            warnings.warn(
                f"{self.__name__} has moved to {self._new}, and the old name will go: import {name} from there, and "
                "save again what was pickled",
                FutureWarning,
                stacklevel=2,
            )
        return found


for _old, _new in {
    "lstm": "gru",
    "model": "models.rnam",
    "nam": "models.nam",
    "block": "models.block",
    "additive": "models.additive",
    "inputs": "models.inputs",
    "visits": "models.visits",
    "streaming": "models.streaming",
    "_description": "models.description",
}.items():
    globals()[_old] = sys.modules[f"rnam.{_old}"] = _Moved(_old, _new)
del _old, _new


def __getattr__(name: str) -> object:
    import importlib

    if name in _ON_USE:
        return importlib.import_module(f"rnam.{name}")
    if name in _OF_EXTRAS:
        return getattr(importlib.import_module(f"rnam.{_OF_EXTRAS[name]}"), name)
    raise AttributeError(f"module 'rnam' has no attribute {name!r}")
