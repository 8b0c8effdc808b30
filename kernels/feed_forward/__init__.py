"""The feed-forward half of a residual block in one kernel each way."""
