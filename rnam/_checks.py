"""Checks of arguments. An error names the argument, says what was expected and what came."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active, _get_tracing_state, _len_torch_dispatch_stack

from rnam._memory import overlap, overlaps_itself

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGERS = (
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8,
)  # fmt: skip


def is_whole_number(value: object) -> TypeGuard[int | np.integer[Any]]:
    """Whether `value` is an integer of Python or NumPy. A bool is none, nor is an array or a tensor of one element,
    though each of these can stand for an index."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)


def positive_int(name: str, value: object) -> int:
    """`value` as an int of at least 1, see `whole_number`."""
    return whole_number(name, value, least=1)


def whole_number(name: str, value: object, least: int = 0) -> int:
    """`value` as an int of at least `least`."""
    if not is_whole_number(value):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    number = int(value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def real_number(name: str, value: object) -> float:
    """`value` as a float, which may be infinite or NaN; a bool is not a number here."""
    if isinstance(value, bool | np.timedelta64) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:  # an int or a fraction past the largest float
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def finite_number(name: str, value: object) -> float:
    number = real_number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    return number


def positive_number(name: str, value: object) -> float:
    """`value` as a finite number greater than 0."""
    number = real_number(name, value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be finite and greater than 0, got {number}")
    return number


def timescales(name: str, value: object) -> tuple[float, float] | None:
    """`value` as a pair (shortest, longest) of positive finite numbers, or None."""
    if value is None:
        return None
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be None or a pair (shortest, longest), got {value!r}")
    shortest, longest = (positive_number(f"{name}[{n}]", number) for n, number in enumerate(value))
    if shortest > longest:
        raise ValueError(f"{name} must be a pair (shortest, longest), got {shortest} > {longest}")
    return shortest, longest


def probability(name: str, value: object) -> float:
    """`value` as a number of [0, 1)."""
    number = real_number(name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{name} must be at least 0 and less than 1, got {value}")
    return number


def shown(number: object) -> str:
    """A number with all its digits, as errors and names tell it.

    Example:
        >>> shown(730.0), shown(1234567), shown(0.1)
        ('730', '1234567', '0.1')
    """
    return str(number).removesuffix(".0")


def boolean_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__}")


def parameter_dtype(name: str, value: object) -> None:
    """`value` is None (torch's default) or a dtype that the layers compute in."""
    if value is not None and value not in FLOATING:
        expected = ", ".join(map(_dtype, FLOATING))
        raise TypeError(f"{name} must be None or one of {expected}, got {str(value).removeprefix('torch.')}")


def one_of(name: str, value: object, choices: Sequence[str | None]) -> None:
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a strided tensor, got {str(value.layout).removeprefix('torch.')}")


def floating(name: str, value: object) -> None:
    """`value` is a tensor of a dtype that the layers compute in."""
    tensor(name, value)
    assert isinstance(value, Tensor)
    if value.dtype not in FLOATING:
        expected = ", ".join(map(_dtype, FLOATING[:-1])) + f" or {_dtype(FLOATING[-1])}"
        raise TypeError(f"{name} must be a {expected} tensor, got {_dtype(value.dtype)}")


def boolean(name: str, value: object) -> None:
    tensor(name, value)
    assert isinstance(value, Tensor)
    if value.dtype != torch.bool:
        raise TypeError(f"{name} must be a bool tensor, got {_dtype(value.dtype)}")


def integer(name: str, value: object) -> Tensor:
    """`value`, a tensor of integers of any width, as int64: torch computes little with the wide unsigned types. Numbers
    of uint64 from 2**63 on wrap, and stay different from each other."""
    tensor(name, value)
    assert isinstance(value, Tensor)
    if value.dtype not in INTEGERS:
        raise TypeError(f"{name} must be a tensor of integers, got {_dtype(value.dtype)}")
    return value.to(torch.int64)


def dtype(name: str, value: Tensor, like_name: str, like: Tensor, *others: torch.dtype) -> None:
    """`value` has the dtype of `like`, or one of the others."""
    if value.dtype != like.dtype and value.dtype not in others:
        names = " or ".join(dict.fromkeys(map(_dtype, (like.dtype, *others))))
        raise TypeError(f"{name} must be {names} to go with {like_name}, got {_dtype(value.dtype)}")


def device(name: str, value: Tensor, like_name: str, like: Tensor) -> None:
    if value.device != like.device:
        raise ValueError(f"{name} must be on {like.device} as {like_name} is, got {value.device}")


def rank(name: str, value: Tensor, layout: str) -> None:
    """`value` has one dimension for each name of `layout`, such as "terms, batch, seq, dim"."""
    expected = layout.count(",") + 1
    if value.dim() != expected:
        raise ValueError(f"{name} must have shape ({layout}), got {_shape(value.shape)}")


def shape(name: str, value: Tensor, layout: str, expected: Sequence[int]) -> None:
    if value.shape != tuple(expected):
        raise ValueError(f"{name} must have shape ({layout}) = {_shape(expected)}, got {_shape(value.shape)}")


def state(name: str, value: object, layout: str, expected: Sequence[int], like_name: str, like: Tensor) -> None:
    """`value` is a state that goes with the sequence `like`: of its dtype or float32."""
    floating(name, value)
    assert isinstance(value, Tensor)
    shape(name, value, layout, expected)
    device(name, value, like_name, like)
    dtype(name, value, like_name, like, torch.float32)


def weights(name: str, value: Tensor) -> Tensor:
    """`value`, which are weights: finite and at least 0. Where looking would wait for a device or break a graph, a
    weight that is neither becomes NaN, so that no loss looks right."""
    valid = (value >= 0) & (value < math.inf)
    if not is_readable(value):
        return torch.where(valid, value, math.nan)
    if not valid.all():
        raise ValueError(f"{name} must be finite and at least 0, got {float(value[~valid][0])}")
    return value


def apart(name: str, value: Tensor, others: dict[str, Tensor | None]) -> None:
    """`value`, which is written to, has memory of its own for each element. In a graph tensors have no memory yet."""
    repeated = any(stride == 0 and size > 1 for stride, size in zip(value.stride(), value.shape, strict=True))
    if repeated or (not _in_a_graph() and overlaps_itself(value)):
        raise ValueError(f"{name} must not overlap itself, got strides {value.stride()}")
    for other_name, other in others.items():
        if other is not None and not _in_a_graph() and overlap(value, other):
            raise ValueError(f"{name} must not overlap {other_name}, got memory that both use")


def broadcastable(name: str, value: Tensor, layout: str, expected: Sequence[int]) -> None:
    """`value` can be expanded to `expected` by the rules of broadcasting."""
    pairs = zip(reversed(value.shape), reversed(tuple(expected)), strict=False)
    # not `in (1, full)`, which torch.compile denies where one of the sizes may change and the other may not
    if value.dim() > len(expected) or any(own != 1 and own != full for own, full in pairs):
        raise ValueError(f"{name} must be broadcastable to ({layout}) = {_shape(expected)}, got {_shape(value.shape)}")


def is_readable(value: Tensor) -> bool:
    """Whether Python can branch on the numbers of a tensor at no cost."""
    return value.device.type == "cpu" and not _in_a_graph()


def _in_a_graph() -> bool:
    """Whether tensors stand for others: of a graph that is made, or of a transform."""
    if torch.compiler.is_compiling():
        return True
    return bool(_len_torch_dispatch_stack() or _are_functorch_transforms_active() or _get_tracing_state())


def _shape(value: Sequence[int]) -> str:
    return str(tuple(value))


def _dtype(value: torch.dtype) -> str:
    return str(value).removeprefix("torch.")
