"""The fused Triton kernels and their launchers: tensors in, tensors out, no autograd. See README.md."""

from .block.backward import block_backward
from .block.config import backward_is_fused as block_backward_is_fused
from .block.config import block_is_fused
from .block.forward import block_forward
from .common.activations import ACTIVATIONS
from .common.flags import MASKED, RESET
from .common.gates import MIN_GRU, MIN_LSTM, Gates
from .feed_forward.backward import feed_forward_backward
from .feed_forward.config import embedded_columns
from .feed_forward.config import keeps_embedding as feed_forward_keeps_embedding
from .feed_forward.config import uses_kernel as feed_forward_is_fused
from .feed_forward.forward import feed_forward_forward
from .linear.backward import grouped_linear_backward
from .linear.config import uses_kernel as linear_is_fused
from .linear.forward import grouped_linear_forward
from .min_gru.config import is_fused as min_gru_is_fused
from .min_gru.projected import projected_forward
from .min_gru.projected_config import is_projected as projected_is_fused
from .recurrence import recurrence_backward, recurrence_forward
from .scan.backward import scan_backward
from .scan.forward import scan_forward

__all__ = [
    "ACTIVATIONS",
    "MASKED",
    "MIN_GRU",
    "MIN_LSTM",
    "RESET",
    "Gates",
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
    "min_gru_is_fused",
    "projected_forward",
    "projected_is_fused",
    "recurrence_backward",
    "recurrence_forward",
    "scan_backward",
    "scan_forward",
]
