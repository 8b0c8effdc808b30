"""The fused minGRU: projection, gates and scan in one kernel each way."""
