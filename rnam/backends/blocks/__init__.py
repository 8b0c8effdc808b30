"""The backend "torch": the launchers for a CPU, in plain PyTorch on blocks that stay in cache."""

from rnam.backends.blocks.feed_forward import (
    embedded_columns,
    feed_forward_backward,
    feed_forward_forward,
    feed_forward_is_fused,
    feed_forward_keeps_embedding,
)
from rnam.backends.blocks.gru import recurrence_backward, recurrence_forward
from rnam.backends.blocks.linear import ACTIVATIONS, grouped_linear_backward, grouped_linear_forward

__all__ = [
    "ACTIVATIONS",
    "embedded_columns",
    "feed_forward_backward",
    "feed_forward_forward",
    "feed_forward_is_fused",
    "feed_forward_keeps_embedding",
    "grouped_linear_backward",
    "grouped_linear_forward",
    "recurrence_backward",
    "recurrence_forward",
]
