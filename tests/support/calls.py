"""The record of a recurrence call with what the kernels' launchers read of it, and nothing else."""

from typing import Any, NamedTuple

from torch import Tensor


class Call(NamedTuple):
    """As `kernels/common/call.py` says."""

    input: Tensor
    weight: Tensor | None
    h0: Tensor | None = None
    flags: Tensor | None = None
    space: str = "linear"
    need_h: bool = True
    elapsed: Tensor | None = None


def changed(call: Call, options: dict[str, Any], changes: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """A call and the other arguments of a launcher, with each change where its name belongs."""
    fields = {name: value for name, value in changes.items() if name in Call._fields}
    return call._replace(**fields), options | {k: v for k, v in changes.items() if k not in fields}
