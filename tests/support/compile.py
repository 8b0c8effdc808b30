"""Ahead-of-time compilation and what it read back: `benchmarks/sass.py`, which `benchmarks static` shares."""

from benchmarks.sass import ALIGNMENT, Usage, compile_launch, longest_loop, signature, usage

__all__ = ["ALIGNMENT", "Usage", "compile_launch", "longest_loop", "signature", "usage"]
