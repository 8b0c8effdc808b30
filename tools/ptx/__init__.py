"""Compiles kernels for GPUs that are not there, executes the PTX on a CPU, and reads the machine code back.

`docs/ptx.md` says how. A launch comes in as data (`launch.py`); nothing here knows what the kernels compute.
"""
