"""The kernels, in the Triton interpreter, as compiled code, and their table of launch numbers."""
