"""One kernel launch as data, so that the launchers, ahead-of-time compilation and the tests share one set of
arguments."""

import contextlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch

from .arithmetic import INTERPRETED, ROCM

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

# Compiled kernels that are kept by what they were compiled for. A model has a few dozen; past the bound all are looked
# up again in Triton's own cache, which has none.
MOST_KEPT = 4096
_kept: dict[Hashable, tuple[Any, Callable[[dict[str, Any]], tuple[Any, ...]]]] = {}

ALIGNMENT = 16  # bytes; Triton compiles a pointer that is a multiple of it apart
INT32 = -(2**31), 2**31 - 1


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
        elsewhere = device.type == "cuda" and device.index != torch.cuda.current_device()
        with torch.cuda.device(device) if elsewhere else contextlib.nullcontext():
            if INTERPRETED.value:
                self.kernel[self.grid](**self.arguments, **self.constants, **self.options)
            else:
                self._launch(device.index)

    def _launch(self, device: int | None) -> None:
        """Triton's own road to the compiled kernel reads the signature and takes three times as long as this."""
        kernel, arguments, constants = self.kernel, self.arguments, self.constants
        # what decides which code is compiled: the dtype of a tensor and the alignment of its address; the bits of a
        # whole number, since no kernel specialises on the number itself; and the constants
        specialised = [
            INT32[0] <= value <= INT32[1] if type(value) is int
            else value if value is None
            else (value.dtype, value.data_ptr() % ALIGNMENT == 0)
            for value in arguments.values()
        ]  # fmt: skip
        key = (kernel.fn, device, self.num_warps, self.max_registers, *specialised, *constants.values())
        kept = _kept.get(key)
        if kept is None:
            if len(_kept) >= MOST_KEPT:
                _kept.clear()
            compiled = kernel[self.grid](**arguments, **constants, **self.options)
            _kept[key] = compiled, itemgetter(*kernel.arg_names)
        else:
            compiled, in_order = kept
            compiled[(*self.grid, 1, 1)[:3]](*in_order({**arguments, **constants}))


def check_dtypes(**tensors: torch.Tensor | None) -> None:
    """Raises TypeError for a tensor that no kernel reads."""
    for name, x in tensors.items():
        if x is not None and x.dtype not in DTYPES:
            raise TypeError(f"{name}: expected float32, bfloat16 or float16, got {x.dtype}")
