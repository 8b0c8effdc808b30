"""Which tensors have memory in common."""

from __future__ import annotations

import numpy as np
from torch import Tensor

__all__ = ["overlap", "overlaps_itself"]


def overlap(a: Tensor, b: Tensor) -> bool:
    """Whether some element of one lies in the memory of the other. Views may lie between each other without that."""
    if a.numel() == 0 or b.numel() == 0 or a.device != b.device or a.is_meta:
        return False
    first, last = zip(_range(a), _range(b), strict=True)
    if max(first) >= min(last):
        return False
    try:
        return bool(np.shares_memory(_Places(a), _Places(b), max_work=10_000))  # type: ignore[arg-type]
    except RuntimeError:  # too many strides to say
        return True


def overlaps_itself(t: Tensor) -> bool:
    """Whether two elements of a tensor lie at one place. Where strides are too tangled to say, they are said to."""
    if t.numel() == 0:
        return False
    reach, nested = 1, True
    for stride, size in sorted((stride, size) for stride, size in zip(t.stride(), t.shape, strict=True) if size > 1):
        nested = nested and stride >= reach  # of what lies within one step of this dimension
        reach += (size - 1) * stride
    if nested:
        return False
    if t.numel() > 10_000:
        return True
    places = sum(np.arange(size).reshape(-1, *(1,) * n) * stride
                 for n, (stride, size) in enumerate(zip(t.stride()[::-1], t.shape[::-1], strict=True)))  # fmt: skip
    return len(np.unique(places)) < t.numel()


def _range(t: Tensor) -> tuple[int, int]:
    """The addresses of the first element and behind the last."""
    reach = 1 + sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True))
    return t.data_ptr(), t.data_ptr() + reach * t.itemsize


class _Places:
    """The places of a tensor's elements, for numpy, which reads none of them: the tensor may be on any device."""

    def __init__(self, t: Tensor) -> None:
        self.__array_interface__ = {
            "data": (t.data_ptr(), True),
            "shape": tuple(t.shape),
            "strides": tuple(stride * t.itemsize for stride in t.stride()),
            "typestr": f"|V{t.itemsize}",
            "version": 3,
        }
