"""Recurrent neural additive models: many small Linear and minGRU layers side by side, one per term.

    import rnam
    model = rnam.RNAM(terms=12, hidden_dim=16, out_dim=1, blocks=2)
    prediction, contributions = model(input, mask=mask)  # input (terms, batch, seq, 1)

The layers are in `rnam.linear`, `rnam.gru` and `rnam.lstm`, the model in `rnam.model`, the functions they call in
`rnam.functional`, and what those functions compute, written plainly, in `rnam.reference`. What a model says is
read off by `rnam.explain`.
"""

import os
from types import ModuleType
from typing import TYPE_CHECKING

if not os.path.isdir(os.path.join(__path__[0], "kernels")):
    __path__.append(os.path.dirname(__path__[0]))  # a checkout has kernels/ beside this folder, a wheel has it inside

from rnam import functional
from rnam._dispatch import get_backend, set_backend
from rnam._version import __version__
from rnam.gru import minGRU
from rnam.linear import Linear
from rnam.lstm import minLSTM
from rnam.model import RNAM
from rnam.nam import NAM
from rnam.resampling import bootstrap_weights

if TYPE_CHECKING:
    from rnam import explain, plot, regularizers

__all__ = [
    "NAM",
    "RNAM",
    "Linear",
    "__version__",
    "bootstrap_weights",
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


def __getattr__(name: str) -> ModuleType:
    if name in _ON_USE:
        import importlib

        return importlib.import_module(f"rnam.{name}")
    raise AttributeError(f"module 'rnam' has no attribute {name!r}")
