"""What the kernels of all folders share; it imports nothing of them."""
