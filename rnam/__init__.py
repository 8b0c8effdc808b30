"""Recurrent neural additive models: many small Linear and minGRU layers side by side, one per term.

    import rnam
    model = rnam.RNAM(terms=12, hidden_dim=16, out_dim=1, blocks=2)
    prediction, contributions = model(input, mask=mask)  # input (terms, batch, seq, 1)

The layers are in `rnam.linear` and `rnam.gru`, the model in `rnam.model`, the functions they call in
`rnam.functional`, and what those functions compute, written plainly, in `rnam.reference`.
"""

from rnam import functional
from rnam._dispatch import get_backend, set_backend
from rnam._version import __version__
from rnam.gru import minGRU
from rnam.linear import Linear
from rnam.model import RNAM
from rnam.nam import NAM
from rnam.resampling import bootstrap_weights

__all__ = [
    "NAM",
    "RNAM",
    "Linear",
    "__version__",
    "bootstrap_weights",
    "functional",
    "get_backend",
    "minGRU",
    "set_backend",
]
