"""What the launchers of the fused kernels do to their tensors: strides as the kernels take them, copies where they
can't."""

from typing import Any

import torch

from .config import LaunchConfig

MAX_VECTOR_BYTES = 16


def rows(x: torch.Tensor) -> torch.Tensor:
    """x if its innermost stride is 1, or does not matter, else a contiguous copy."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def strides(x: torch.Tensor, n: int) -> tuple[int, ...]:
    """The first n strides, with 0 where there is only one index: those never reach an address."""
    return tuple(0 if x.shape[i] == 1 else x.stride(i) for i in range(n))


def unit(*tensors: torch.Tensor | None) -> int:
    """The largest power of two, up to 16 bytes of each tensor, that divides all strides but the innermost.

    The kernels take strides divided by it and multiply it back, which proves the alignment to the compiler: a hint on a
    kernel argument (tl.multiple_of) is lost, and 128-bit loads fall apart into 32-bit ones.
    """
    given = [x for x in tensors if x is not None]
    n = MAX_VECTOR_BYTES // max(x.element_size() for x in given)
    while any(s % n for x in given for s in strides(x, x.ndim - 1)):
        n //= 2
    return n


def packed(x: torch.Tensor | None) -> bool:
    """Whether consecutive time steps [..., T, N] lie side by side, so that the kernel knows the stride of T."""
    return x is None or x.shape[-2] == 1 or x.stride(-2) == x.shape[-1]


def code_strides(codes: torch.Tensor | None, F: int, B: int, T: int) -> tuple[int, int, int]:
    """Strides of codes [F, B, T] in bytes, 0 along a dimension of size 1: it is broadcast, never expanded."""
    if codes is None:
        return 0, 0, 0
    if codes.dtype != torch.uint8:
        raise TypeError(f"codes: expected uint8, got {codes.dtype}")
    if codes.ndim != 3 or any(n not in (1, m) for n, m in zip(codes.shape, (F, B, T), strict=True)):
        raise ValueError(f"codes: expected a shape that broadcasts to {(F, B, T)}, got {tuple(codes.shape)}")
    return strides(codes, 3)


def common(
    x: torch.Tensor, weight: torch.Tensor, codes: torch.Tensor | None, dh: torch.Tensor | None, length: int, count: int,
    precision: str, config: LaunchConfig,
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """(arguments, constants) that the fused kernels share. x and dh have innermost stride 1, the weight is
    contiguous."""
    F, B, T, D = x.shape
    H = weight.shape[2] // 2
    n = unit(x, dh)
    arguments = dict(x_ptr=x, w_ptr=weight, code_ptr=codes, B=B, T=T, length=length, count=count)
    arguments |= zip(("stride_x_f", "stride_x_b", "stride_x_t"), (s // n for s in strides(x, 3)), strict=True)
    arguments |= zip(("stride_c_f", "stride_c_b", "stride_c_t"), code_strides(codes, F, B, T), strict=True)
    constants = dict(
        D=D, H=H, HAS_CODES=codes is not None, EVEN=config.divides(B, T), PACKED=packed(x) and packed(dh), UNIT=n,
        PRECISION=precision, **config.tiles(D, H),
    )  # fmt: skip
    return arguments, constants


def gradient_strides(dh: torch.Tensor | None, n: int) -> dict[str, int]:
    """The strides of dh in units of n elements, 0 without it."""
    return dict(
        zip(
            ("stride_g_f", "stride_g_b", "stride_g_t"),
            (0, 0, 0) if dh is None else (s // n for s in strides(dh, 3)),
            strict=True,
        )
    )
