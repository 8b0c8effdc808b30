"""What these tools need to know of a kernel launch."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch


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


def memory_of(x: torch.Tensor) -> torch.Tensor:
    """The bytes from the first to the last element of a tensor, as a view. A kernel may touch nothing else."""
    span = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
    return x.as_strided((span,), (1,)).view(torch.uint8)
