"""One kernel launch as data, so that the launchers, ahead-of-time compilation and the tests share one set of
arguments."""

import contextlib
from dataclasses import dataclass
from typing import Any

import torch

from .arithmetic import ROCM

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Launch:
    """`kernel[grid](**arguments, **constants, **options)` on the device and current stream of its tensors."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, Any]
    num_warps: int
    # how many the assembler may take per thread; left to itself it spills to have more warps resident. CUDA's alone
    max_registers: int | None = None

    @property
    def options(self) -> dict[str, int]:
        """Options of the compiler, beside the arguments."""
        limit = {} if self.max_registers is None or ROCM.value else {"maxnreg": self.max_registers}
        return {"num_warps": self.num_warps, **limit}

    def run(self) -> None:
        # Triton launches on torch's current device, which need not be the one that holds the tensors.
        device = next(x.device for x in self.arguments.values() if isinstance(x, torch.Tensor))
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            self.kernel[self.grid](**self.arguments, **self.constants, **self.options)


def check_dtypes(**tensors: torch.Tensor | None) -> None:
    """Raises TypeError for a tensor that no kernel reads."""
    for name, x in tensors.items():
        if x is not None and x.dtype not in DTYPES:
            raise TypeError(f"{name}: expected float32, bfloat16 or float16, got {x.dtype}")
