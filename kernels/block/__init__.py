"""The residual block of a model: minGRU, LayerNorm and feed-forward in one kernel each way."""
