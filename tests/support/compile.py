"""Ahead-of-time compilation and what it read back: `benchmarks/sass.py`, which `benchmarks static` shares."""

from benchmarks.sass import ALIGNMENT, ARCHITECTURES, Usage, compile_launch, signature, usage

__all__ = ["ALIGNMENT", "ARCHITECTURES", "Usage", "compile_launch", "signature", "usage"]
