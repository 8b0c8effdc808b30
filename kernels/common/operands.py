"""What the launchers of the fused kernels do to their tensors: strides as the kernels take them, copies where they
can't."""

import torch

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


def as_rows(x: torch.Tensor) -> torch.Tensor:
    """[..., T, H] as [N, T, H] with innermost stride 1: a view where the strides allow it, a copy where not."""
    T, H = x.shape[-2:]
    return rows(x.reshape(x.shape[:-2].numel(), T, H))


def as_states(x: torch.Tensor | None) -> torch.Tensor | None:
    """[..., 1, H] as contiguous [N, H]."""
    return None if x is None else x.reshape(x.shape[:-2].numel(), x.shape[-1]).contiguous()
