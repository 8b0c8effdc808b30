"""Whether a module is what its constructor made, so that its parameters may be read instead of calling it.

A layer that is hooked, pruned, normalised, wrapped, compiled or replaced must be called: it computes more than its
parameters say, or somebody waits for the call. Nothing is remembered from call to call, since an attribute that is
written tells nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar

from torch import nn
from torch.nn.modules.module import _has_any_global_hook

from rnam.linear import Linear

__all__ = ["known", "untouched", "untouched_linear", "watched"]

Kind = TypeVar("Kind", bound=nn.Module)

# The forward of each kind as it was defined: somebody may put another one into the class.
_FORWARD: dict[type[nn.Module], Callable[..., Any]] = {
    kind: kind.forward for kind in (nn.Sequential, nn.LayerNorm, nn.Identity, Linear)
}


def known(kind: type[Kind]) -> type[Kind]:
    """A decorator of modules that `untouched` is asked about."""
    _FORWARD[kind] = kind.forward
    return kind


def untouched(module: nn.Module, kind: type[Kind]) -> TypeGuard[Kind]:
    """Whether `module` is exactly a `kind`, and nothing waits for its call. A parametrization changes the type."""
    own = module.__dict__  # read here and not through the module, which takes twice the time
    return (type(module) is kind and kind.forward is _FORWARD[kind]) and not (
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or "forward" in own
        or own.get("_compiled_call_impl")
    )


def untouched_linear(module: nn.Module, bias: bool | None = None, activation: str | None = None) -> TypeGuard[Linear]:
    """Whether `module` is a `Linear` with this activation, and with a bias or without; None is either. A weight that is
    no parameter of it, as in a replica of nn.DataParallel, is read by its own forward."""
    if not untouched(module, Linear):
        return False
    own = module.__dict__
    parameters = own["_parameters"]
    return (
        own.get("activation") == activation
        and "weight" in parameters
        and "bias" in parameters
        and bias in (None, parameters["bias"] is not None)
    )


def watched() -> bool:
    """Whether a hook waits for the calls of all modules, as that of a counter of FLOPs by layer."""
    return bool(_has_any_global_hook())  # type: ignore[no-untyped-call]
