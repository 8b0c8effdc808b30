"""One kernel launch as data, so that the launchers, ahead-of-time compilation and the tests share one set of
arguments."""

import contextlib
from dataclasses import dataclass
from typing import Any

import torch

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Launch:
    """`kernel[grid](**arguments, **constants, num_warps=num_warps)` on the device and current stream of its tensors."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, Any]
    num_warps: int

    def run(self) -> None:
        # Triton launches on torch's current device, which need not be the one that holds the tensors.
        device = next(x.device for x in self.arguments.values() if isinstance(x, torch.Tensor))
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            self.kernel[self.grid](**self.arguments, **self.constants, num_warps=self.num_warps)


def check_dtypes(**tensors: torch.Tensor | None) -> None:
    """Raises TypeError for a tensor that no kernel reads."""
    for name, x in tensors.items():
        if x is not None and x.dtype not in DTYPES:
            raise TypeError(f"{name}: expected float32, bfloat16 or float16, got {x.dtype}")
