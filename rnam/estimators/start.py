"""Where a fit starts: at a model whose terms say nothing yet."""

from __future__ import annotations

from torch import nn

from rnam.linear import Linear
from rnam.models.nam import NAM, FeatureNetworks
from rnam.models.rnam import RNAM

__all__ = ["start_level"]


def start_level(model: RNAM | NAM) -> None:
    """Sets the last layer of each network to 0, so that the prediction is the bias. A fit then has nothing to
    unlearn where few data lie.

    Example:
        >>> model = rnam.NAM(terms=3)
        >>> start_level(model)
        >>> model(torch.randn(5, 3)).contributions.count_nonzero().item()
        0
    """
    networks = [model.networks] if isinstance(model, NAM) else [model.memoryless, model.static]
    heads = [own.layers[-1] for own in networks if isinstance(own, FeatureNetworks)]
    if isinstance(model, RNAM):
        heads.append(model.proj[-1])
    for head in heads:
        assert isinstance(head, Linear) and head.bias is not None
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
