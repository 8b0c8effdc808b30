"""Shared by the kernels of all folders; it imports nothing of them."""
