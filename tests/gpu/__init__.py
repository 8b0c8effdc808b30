"""Proofs that only a GPU gives, and `python -m tests.gpu`, which runs it and writes down what came out.

The parity tests also run here without one, in a tiny form, on the kernels in the Triton interpreter:

    TRITON_INTERPRET=1 python -m pytest tests/gpu --confcutdir tests/gpu
"""
