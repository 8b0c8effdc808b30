"""What an additive model returns, the sum that makes it, and the members of an ensemble as more terms.

The networks of an ensemble of K members lie in one layer, those of the first member first: K * terms of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import _register_namedtuple

__all__ = ["Additive", "Sum", "join", "share", "unseen", "with_gradient_of"]


class Additive(NamedTuple):
    """What an additive model returns. contributions.sum(0) + bias is prediction."""

    prediction: Tensor
    contributions: Tensor


# so that torch.export writes what a model gives, under a name that stays
_register_namedtuple(Additive, serialized_type_name="rnam.Additive")


class Sum(nn.Module):
    """The sum over terms, plus one bias (out_dim,), of an ensemble (members, out_dim), that starts at 0."""

    def __init__(
        self,
        out_dim: int,
        members: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.members = members
        shape = (out_dim,) if members == 1 else (members, out_dim)
        self.bias = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.bias)

    def forward(self, contributions: Tensor, return_members: bool = False) -> Additive:
        """contributions (members * terms, batch, *, out_dim) -> those of the mean of the members, or of each."""
        if self.members == 1:
            whole = Additive(contributions.sum(0) + self.bias, contributions)
            return Additive(whole.prediction[None], contributions[None]) if return_members else whole
        each = torch.unflatten(contributions, 0, (self.members, -1))
        if return_members:
            bias = self.bias.view(self.members, *(1,) * (each.dim() - 3), -1)
            return Additive(each.sum(1) + bias, each)
        mean = each.mean(0)
        return Additive(mean.sum(0) + self.bias.mean(0), mean)

    def extra_repr(self) -> str:
        return f"out_dim={self.bias.shape[-1]}, members={self.members}"


def share(x: Tensor, members: int) -> Tensor:
    """x (terms, ...) for each member, (members * terms, ...); a view where one stride leads through all of them, as
    with one member or one term, or values that all terms have in common."""
    return x if members == 1 else x.expand(members, *x.shape).flatten(0, 1)


def join(x: Tensor, static: Tensor | None, members: int = 1) -> Tensor:
    """x (members * terms, batch, [seq,] *) and then, of each member, static (members * others, batch, *), which is the
    same at every step."""
    if static is None:
        return x
    if x.dim() > static.dim():
        static = static.unsqueeze(2).expand(-1, -1, x.shape[2], *static.shape[2:])
    if members == 1:
        return torch.cat([x, static])
    return torch.cat([torch.unflatten(part, 0, (members, -1)) for part in (x, static)], dim=1).flatten(0, 1)


def unseen(missing: Tensor | None, like: Tensor) -> Tensor | int:
    """What terms that were never observed contribute, broadcastable to `like` (terms, *, out_dim): 0, or missing
    (terms, out_dim)."""
    if missing is None:
        return 0
    return missing.to(like.dtype).view(like.shape[0], *(1,) * (like.dim() - 2), like.shape[-1])


def with_gradient_of(missing: Tensor | None, contributions: Tensor) -> Tensor:
    """`contributions` that `missing` has no part in, with a gradient of 0 for it: DistributedDataParallel waits for one
    of every parameter."""
    if missing is None or not (torch.is_grad_enabled() and missing.requires_grad):
        return contributions
    return contributions + missing[:0].sum()
