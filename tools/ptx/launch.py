"""What these tools need to know of a kernel launch."""

from collections.abc import Mapping
from typing import Any, Protocol


class Launch(Protocol):
    """One launch of a Triton kernel as data: `kernel[grid](**arguments, **constants, **options)`."""

    @property
    def kernel(self) -> Any:
        """The function that `triton.jit` made."""

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of programs along each axis."""

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Tensors and numbers that are known when the kernel runs. A tensor may be None."""

    @property
    def constants(self) -> Mapping[str, Any]:
        """The `tl.constexpr` parameters, which the kernel is compiled for."""

    @property
    def options(self) -> Mapping[str, int]:
        """Options of the compiler: `num_warps`, and others such as `maxnreg`."""
