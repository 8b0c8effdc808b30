"""The backend "torch": the layers in plain PyTorch for a CPU, forward and backward, with the kernels' signatures."""

import functools

from rnam.blocked.feed_forward import backward as feed_forward_backward
from rnam.blocked.feed_forward import embedded_columns
from rnam.blocked.feed_forward import forward as feed_forward_forward
from rnam.blocked.feed_forward import is_fused as feed_forward_is_fused
from rnam.blocked.feed_forward import keeps_embedding as feed_forward_keeps_embedding
from rnam.blocked.gru import backward as min_gru_backward
from rnam.blocked.gru import forward as min_gru_forward
from rnam.blocked.linear import backward as grouped_linear_backward
from rnam.blocked.linear import forward as grouped_linear_forward

min_lstm_forward = functools.partial(min_gru_forward, parts=3)
min_lstm_backward = functools.partial(min_gru_backward, parts=3)

__all__ = [
    "embedded_columns",
    "feed_forward_backward",
    "feed_forward_forward",
    "feed_forward_is_fused",
    "feed_forward_keeps_embedding",
    "grouped_linear_backward",
    "grouped_linear_forward",
    "min_gru_backward",
    "min_gru_forward",
    "min_lstm_backward",
    "min_lstm_forward",
]
