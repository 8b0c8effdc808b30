"""Timings of the layers against other ways to compute them, in one run: `python -m benchmarks`."""
