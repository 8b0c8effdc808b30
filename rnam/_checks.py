"""Checks of arguments. An error names the argument, says what was expected and what came."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def positive_int(name: str, value: object) -> None:
    """`value` is an int of at least 1; a bool is not an int here."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def one_of(name: str, value: object, choices: Sequence[object]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")


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


def integer(name: str, value: object) -> None:
    tensor(name, value)
    assert isinstance(value, Tensor)
    if value.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise TypeError(f"{name} must be a tensor of integers, got {_dtype(value.dtype)}")


def dtype(name: str, value: Tensor, expected: Sequence[torch.dtype], reason: str) -> None:
    if value.dtype not in expected:
        names = " or ".join(dict.fromkeys(map(_dtype, expected)))
        raise TypeError(f"{name} must be {names} ({reason}), got {_dtype(value.dtype)}")


def device(name: str, value: Tensor, expected: torch.device) -> None:
    if value.device != expected:
        raise ValueError(f"{name} must be on {expected}, the device of input, got {value.device}")


def rank(name: str, value: Tensor, layout: str) -> None:
    """`value` has one dimension for each name of `layout`, such as "terms, batch, seq, dim"."""
    expected = layout.count(",") + 1
    if value.dim() != expected:
        raise ValueError(f"{name} must have shape ({layout}), got {_shape(value.shape)}")


def shape(name: str, value: Tensor, layout: str, expected: Sequence[int]) -> None:
    if tuple(value.shape) != tuple(expected):
        raise ValueError(f"{name} must have shape ({layout}) = {_shape(expected)}, got {_shape(value.shape)}")


def broadcastable(name: str, value: Tensor, layout: str, expected: Sequence[int]) -> None:
    """`value` can be expanded to `expected` by the rules of broadcasting."""
    pairs = zip(reversed(value.shape), reversed(tuple(expected)), strict=False)
    if value.dim() > len(expected) or any(own not in (1, full) for own, full in pairs):
        raise ValueError(
            f"{name} must be broadcastable to ({layout}) = {_shape(expected)}, got {_shape(value.shape)}"
        )


def _shape(value: Sequence[int]) -> str:
    return str(tuple(value))


def _dtype(value: torch.dtype) -> str:
    return str(value).removeprefix("torch.")
