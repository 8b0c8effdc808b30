"""skorch's callbacks of a fit: clipping, divergence, best weights, patience and the schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from skorch.callbacks import Callback, LRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from rnam._checks import shown

__all__ = ["BestWeights", "Clipping", "Divergence", "Patience", "Stop", "schedule"]


class Stop(KeyboardInterrupt):
    """Ends a fit before its last epoch, as skorch's callbacks do by KeyboardInterrupt, and is told from Ctrl-C."""


class Clipping(Callback):  # type: ignore[misc]
    """Scales the gradient of each member down to a norm, so that a member steps as it would alone."""

    def __init__(self, norm: float, members: int) -> None:
        self.norm, self.members = norm, members

    def on_grad_computed(self, net: Any, **kwargs: Any) -> None:
        parameters = [p for group in net.optimizer_.param_groups for p in group["params"] if p.grad is not None]
        if self.members == 1:
            torch.nn.utils.clip_grad_norm_(parameters, self.norm)
            return
        gradients: list[Tensor] = [p.grad.unflatten(0, (self.members, -1)) for p in parameters]
        norms = torch.stack([torch.linalg.vector_norm(own.flatten(1), dim=1) for own in gradients])
        factor = (self.norm / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1)
        for own in gradients:
            own.mul_(factor.view(-1, *(1,) * (own.dim() - 1)))


class Divergence(Callback):  # type: ignore[misc]
    """Ends a fit whose losses are NaN or infinite.

    Raises:
        ValueError: they are.
    """

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        row = net.history[-1]
        for name in ("train_loss", "valid_loss"):
            if not math.isfinite(row.get(name, 0.0)):
                raise ValueError(
                    f"the fit diverged: {name} is {row[name]} after epoch {row['epoch']}. A lower learning_rate (now "
                    f"{shown(net.lr)}) or a lower clip helps, as does a loss that weighs outliers less, such as 'huber'"
                )


class BestWeights(Callback):  # type: ignore[misc]
    """Keeps the weights of the epoch with the least validation loss, and gives them back at the end."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.least_, self.epoch_ = math.inf, None
        self.weights_: dict[str, Tensor] = {}

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        row = net.history[-1]
        best = row["valid_loss"] < self.least_
        net.history.record("valid_loss_best", best)
        if best:
            self.least_, self.epoch_ = row["valid_loss"], row["epoch"]
            self.weights_ = {name: p.detach().clone() for name, p in net.module_.named_parameters()}

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        with torch.no_grad():
            for name, p in net.module_.named_parameters():
                if name in self.weights_:
                    p.copy_(self.weights_[name])
        self.weights_ = {}


class Patience(Callback):  # type: ignore[misc]
    """Ends a fit when the validation loss has had no new least value for so many epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if not any(net.history[-self.epochs :, "valid_loss_best"]):
            raise Stop


def schedule(name: str, learning_rate: float, steps: int, patience: int, monitor: str) -> Any:
    """The learning rate: "onecycle", from a 25th up to `learning_rate` and down to none over all steps (arXiv
    1708.07120), or "plateau", a third of it each time that the loss has not fallen for `patience` epochs."""
    if name == "onecycle":
        own: dict[str, Any] = dict(max_lr=learning_rate, total_steps=max(steps, 2), cycle_momentum=False)
        return LRScheduler(OneCycleLR, event_name=None, step_every="batch", **own)
    return LRScheduler(ReduceLROnPlateau, monitor=monitor, event_name=None, factor=1 / 3, patience=patience)
