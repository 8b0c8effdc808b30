"""Strides as the kernels take them, and copies of tensors where they can't."""

import functools

import torch

MAX_VECTOR_BYTES = 16


def unit_stride(x: torch.Tensor) -> torch.Tensor:
    """x if its innermost stride is 1, or does not matter, else a contiguous copy."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def contiguous_layers(weight: torch.Tensor) -> torch.Tensor:
    """A weight [F, n, m] whose layers are contiguous, wherever each begins."""
    return weight if weight.stride()[1:] == (weight.shape[2], 1) else weight.contiguous()


def as_sequences(x: torch.Tensor) -> torch.Tensor:
    """[..., T, H] as [N, T, H] with innermost stride 1: a view where the strides allow it, a copy where not."""
    T, H = x.shape[-2:]
    return unit_stride(x.reshape(x.shape[:-2].numel(), T, H))


def as_states(x: torch.Tensor | None) -> torch.Tensor | None:
    """[..., 1, H] as contiguous [N, H]."""
    return None if x is None else x.reshape(x.shape[:-2].numel(), x.shape[-1]).contiguous()


@functools.cache
def _stride_names(name: str, dims: str) -> tuple[str, ...]:
    return tuple(f"stride_{name}_{dim}" for dim in dims)


def stride_arguments(dims: str, unit: int = 1, **tensors: torch.Tensor | None) -> dict[str, int]:
    """Arguments stride_<name>_<dim> of each tensor, in units of `unit` elements, for its first dimensions `dims`.

    They are 0 for None, and where there is only one index: those never reach an address.
    """
    arguments: dict[str, int] = {}
    for name, x in tensors.items():
        names = _stride_names(name, dims)
        if x is None:
            arguments |= dict.fromkeys(names, 0)
        else:
            for key, size, stride in zip(names, x.shape, x.stride(), strict=False):
                arguments[key] = 0 if size == 1 else stride // unit
    return arguments


def vector_unit(*tensors: torch.Tensor | None) -> int:
    """The largest power of two, up to 16 bytes of each tensor, that divides all strides but the innermost.

    The kernels take strides divided by it and multiply it back, which proves the alignment to the compiler: a hint on a
    kernel argument (tl.multiple_of) is lost, and 128-bit loads fall apart into 32-bit ones.
    """
    given = [x for x in tensors if x is not None]
    unit: int = MAX_VECTOR_BYTES // max(x.element_size() for x in given)
    for x in given:
        for size, stride in zip(x.shape[:-1], x.stride(), strict=False):
            while size != 1 and stride % unit:
                unit //= 2
    return unit


def packed(x: torch.Tensor | None) -> bool:
    """True if consecutive time steps [..., T, N] lie side by side, so that the kernel knows the stride of T."""
    return x is None or x.shape[-2] == 1 or x.stride(-2) == x.shape[-1]
