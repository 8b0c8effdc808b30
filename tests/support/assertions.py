"""Assertions that say which tensor failed, where, and by how much.

    assert_within("h", h, exact, bounds.min_gru(x, weight, dtype=h.dtype))

    AssertionError: h: 2 of 96 elements err by more than their bound; the worst at (0, 1, 5, 2):
        got 0.5000012, exact 0.5, error 1.2e-06, bound 4e-07

They take tensors, numpy's arrays, and numbers; a number in the place of what is expected stands for all elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def assert_within(name: str, got: Any, exact: Any, bound: Any, *, where: Any = None, nan: bool = False) -> None:
    """|got - exact| <= bound at every element.

    The shapes are the same, and every number of the dtype of `got` is one of the dtype of `exact`. An error of NaN is
    over every bound, any error is over a bound that is NaN or infinite, and equal infinities are no error.

    Args:
        name: of the tensor, for the message.
        bound: broadcasts to the shape.
        where: a mask of the elements that are compared, which broadcasts; the others may hold anything.
        nan: `exact` may hold NaN; `got` then has NaN at these elements and nowhere else.
    """
    __tracebackhide__ = True
    got, exact = _comparable(name, got, exact)
    bound = _tensor(bound).to(exact.device, torch.float64).expand(got.shape)
    same = got == exact
    if nan:
        same = same | (got.isnan() & exact.isnan())
    error = torch.where(same, 0.0, (got - exact).abs())
    over = ~(same | ((error <= bound) & bound.isfinite()))
    if where is not None:
        over = over & _tensor(where).to(over.device)
    if over.any():
        ratio = (error / bound.clamp(min=torch.finfo(torch.float64).tiny)).nan_to_num(torch.inf)
        at = _largest(torch.where(over, ratio, -1.0))
        raise AssertionError(
            f"{name}: {_count(over)} err by more than their bound; the worst at {at}:\n    "
            f"got {got[at]:.9g}, exact {exact[at]:.9g}, error {error[at]:.3g}, bound {bound[at]:.3g}"
        )


def assert_norm_within(name: str, got: Any, exact: Any, bound: float | Tensor) -> None:
    """The 2-norm of got - exact <= bound, which is one number; else as `assert_within`."""
    __tracebackhide__ = True
    got, exact = _comparable(name, got, exact)
    difference, bound = got - exact, float(_tensor(bound))
    if not float(difference.norm()) <= bound < torch.inf:
        at = _largest(difference.abs().nan_to_num(torch.inf))
        raise AssertionError(
            f"{name}: the error has norm {difference.norm():.3g} and may have {bound:.3g}, the exact value has "
            f"{exact.norm():.3g}; the largest error at {at}:\n    "
            f"got {got[at]:.9g}, exact {exact[at]:.9g}, error {difference[at].abs():.3g}"
        )


def assert_equal(name: str, got: Any, expected: Any, *, nan: bool = False) -> None:
    """The same shape, dtype and numbers; of lists, tuples and mappings the same parts, which may be None.

    Args:
        name: of the tensor, for the message.
        nan: NaN equals NaN.
    """
    __tracebackhide__ = True
    if isinstance(expected, Mapping):
        assert list(got) == list(expected), f"{name}: has {list(got)}, expected {list(expected)}"
        for key in expected:
            assert_equal(f"{name}[{key!r}]", got[key], expected[key], nan=nan)
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected), f"{name}: has {len(got)} parts, expected {len(expected)}"
        for i, parts in enumerate(zip(got, expected, strict=True)):
            assert_equal(f"{name}[{i}]", *parts, nan=nan)
    elif got is None or expected is None:
        assert got is expected, f"{name}: got {got}, expected {expected}"
    else:
        got, wanted = _tensor(got), _tensor(expected)
        if isinstance(expected, int | float):
            wanted = wanted.to(got.dtype).expand(got.shape)
        assert got.shape == wanted.shape, f"{name}: shape {tuple(got.shape)}, expected {tuple(wanted.shape)}"
        assert got.dtype == wanted.dtype, f"{name}: {got.dtype}, expected {wanted.dtype}"
        differs = got != wanted
        if nan:
            differs = differs & ~(got.isnan() & wanted.isnan())
        if differs.any():
            at = _largest(differs.double())
            raise AssertionError(
                f"{name}: {_count(differs)} differ; the first at {at}: "
                f"got {got[at].item()}, expected {wanted[at].item()}"
            )


def assert_finite(name: str, got: Any) -> None:
    """Neither NaN nor infinite; of a list or tuple every part."""
    __tracebackhide__ = True
    if isinstance(got, list | tuple):
        for i, part in enumerate(got):
            assert_finite(f"{name}[{i}]", part)
    else:
        assert got is not None, f"{name}: None"
        got = _tensor(got)
        bad = ~got.isfinite()
        if bad.any():
            at = _largest(bad.double())
            raise AssertionError(f"{name}: {_count(bad)} are not finite; the first at {at}: {got[at].item()}")


def _tensor(x: Any) -> Tensor:
    """A copy of what is no tensor, which may be an array that cannot be written."""
    return x.detach() if isinstance(x, Tensor) else torch.from_numpy(np.array(x))


def _comparable(name: str, got: Any, exact: Any) -> tuple[Tensor, Tensor]:
    """Both in float64, on one device and of one shape."""
    __tracebackhide__ = True
    got, wanted = _tensor(got), _tensor(exact)
    if isinstance(exact, int | float):
        wanted = wanted.double().to(got.device).expand(got.shape)
    assert got.shape == wanted.shape, f"{name}: shape {tuple(got.shape)}, exact {tuple(wanted.shape)}"
    held = got.is_floating_point() and torch.promote_types(got.dtype, wanted.dtype) == wanted.dtype
    assert held, f"{name}: {got.dtype}, beside exact numbers of {wanted.dtype}"
    return got.to(wanted.device).double(), wanted.double()


def _largest(size: Tensor) -> tuple[int, ...]:
    """The index of the largest element, the first of several."""
    return tuple(int(i) for i in torch.unravel_index(size.argmax(), size.shape))


def _count(chosen: Tensor) -> str:
    return f"{int(chosen.sum())} of {chosen.numel()} elements"
