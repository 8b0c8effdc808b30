"""The fused Triton kernels and their launchers: tensors in, tensors out, no autograd. See README.md."""

from .block import block_forward
from .block_bwd import block_backward
from .config import is_fused as min_gru_is_fused
from .config_block import backward_is_fused as block_backward_is_fused
from .config_block import block_is_fused
from .config_feed_forward import embedded_columns
from .config_feed_forward import keeps_embedding as feed_forward_keeps_embedding
from .config_feed_forward import uses_kernel as feed_forward_is_fused
from .config_projected import is_projected as min_gru_projected_is_fused
from .feed_forward import feed_forward_forward
from .feed_forward_bwd import feed_forward_backward
from .grouped_linear import grouped_linear_backward, grouped_linear_forward
from .grouped_linear import uses_kernel as linear_is_fused
from .linear_scan import scan_backward, scan_forward
from .min_gru import min_gru_backward, min_gru_forward
from .min_lstm import min_lstm_backward, min_lstm_forward
from .projected import min_gru_projected_forward

__all__ = [
    "block_backward",
    "block_backward_is_fused",
    "block_forward",
    "block_is_fused",
    "embedded_columns",
    "feed_forward_backward",
    "feed_forward_forward",
    "feed_forward_is_fused",
    "feed_forward_keeps_embedding",
    "grouped_linear_backward",
    "grouped_linear_forward",
    "linear_is_fused",
    "min_gru_backward",
    "min_gru_forward",
    "min_gru_is_fused",
    "min_gru_projected_forward",
    "min_gru_projected_is_fused",
    "min_lstm_backward",
    "min_lstm_forward",
    "scan_backward",
    "scan_forward",
]
