"""Recurrent neural additive models: many small Linear and minGRU layers side by side, one per term.

    import rnam
    model = rnam.RNAM(terms=12, hidden_dim=16, out_dim=1, blocks=2)
    prediction, contributions = model(input, mask=mask)  # input (terms, batch, seq, 1)

The layers are in `rnam.linear`, `rnam.gru` and `rnam.lstm`, the model in `rnam.model`, the functions they call in
`rnam.functional`, and what those functions compute, written plainly, in `rnam.reference`.
"""

from rnam import functional
from rnam._dispatch import get_backend, set_backend
from rnam._version import __version__
from rnam.gru import minGRU
from rnam.linear import Linear
from rnam.lstm import minLSTM
from rnam.model import RNAM

__all__ = ["RNAM", "Linear", "__version__", "functional", "get_backend", "minGRU", "minLSTM", "set_backend"]
