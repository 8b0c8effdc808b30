"""Tensors that reach past 2^31 elements, in memory that is reserved and never filled.

An offset of 32 bits would reach the wrong element, or none.
"""

import dataclasses
import mmap

import torch

from rnam.kernels.common.launch import Launch

# Elements between neighbours along a dimension; as a multiple of 64 it keeps the alignment of a packed tensor.
APART = 2**31 + 64


def reserve(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """A contiguous tensor of zeros; the system gives it the pages that are touched."""
    elements = torch.Size(shape).numel()
    return torch.frombuffer(mmap.mmap(-1, elements * dtype.itemsize), dtype=dtype).view(shape)


def spread(x: torch.Tensor, dim: int) -> torch.Tensor:
    """A copy of x whose neighbours along `dim` lie APART elements apart, and the rest as in a contiguous tensor."""
    strides = list(x.contiguous().stride())
    strides[dim] = APART
    memory = reserve((x.shape[dim] - 1) * APART + x.numel(), dtype=x.dtype)
    far = memory.as_strided(x.shape, strides)
    far.copy_(x)
    return far


def run_into(launch: Launch, **arguments: object) -> None:
    """Runs a launch with some arguments replaced: a larger T in contiguous outputs of which few steps are written."""
    dataclasses.replace(launch, arguments=launch.arguments | arguments).run()
