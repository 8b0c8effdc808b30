"""`Objective`: the loss of a batch, with weights, members and regularisers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnam import _checks
from rnam.estimators.batches import Labels
from rnam.estimators.losses import Loss
from rnam.regularizers import concurvity, output_penalty, term_dropout

__all__ = ["REGULARIZERS", "Objective", "Value"]

_PENALTIES: dict[str, Callable[..., Tensor]] = {"contributions": output_penalty, "concurvity": concurvity}
_DROPOUT = "term_dropout"
REGULARIZERS = (*_PENALTIES, _DROPOUT)


class Value(NamedTuple):
    """total is minimised: the sum over the members, each of which has the gradient that it would have alone. loss (of
    the labels) and penalty (of the regularisers, None without) are means over the members."""

    total: Tensor
    loss: Tensor
    penalty: Tensor | None


class Objective:
    """The loss that is minimised, and the one that validation tells.

    Args:
        loss: fitted.
        members: of the model, whose contributions come with a leading dimension of them in training.
        regularizer: strengths by name: "contributions" (`rnam.regularizers.output_penalty`) and "concurvity" are added
            to the loss in training, each times its strength; "term_dropout" is the probability that a term is left out.

    Raises:
        TypeError: regularizer is no mapping, a strength no number.
        ValueError: a name is none of these, a strength is negative or not finite.
    """

    def __init__(self, loss: Loss, members: int, regularizer: Mapping[str, float] | None = None) -> None:
        if regularizer is not None and not isinstance(regularizer, Mapping):
            raise TypeError(
                f"regularizer must be None or a dict of strengths by name, got {type(regularizer).__name__}"
            )
        self.loss, self.members = loss, members
        self.penalties: list[tuple[Callable[..., Tensor], float]] = []
        self.dropout = 0.0
        for name, strength in (regularizer or {}).items():
            _checks.one_of("regularizer", name, REGULARIZERS)
            if name == _DROPOUT:
                self.dropout = _checks.probability(f"regularizer[{name!r}]", strength)
                continue
            number = _checks.finite_number(f"regularizer[{name!r}]", strength)
            if number < 0:
                raise ValueError(f"regularizer[{name!r}] must be at least 0, got {number}")
            if number:
                self.penalties.append((_PENALTIES[name], number))

    def __call__(self, output: Any, bias: Tensor, labels: Labels, training: bool) -> Value:
        """The value of a batch.

        Args:
            output: what the model gives, in training with `return_members` where it has several.
            bias: of the model's sum, (out_dim,) or (members, out_dim).
            labels: of the batch.
            training: with regularisers; without them no penalty is computed.
        """
        prediction, contributions = output
        each = training and self.members > 1
        if training and self.dropout:
            kept = term_dropout(contributions, self.dropout, members=each)
            shape = (self.members, *(1,) * (kept.dim() - 3), -1) if each else (-1,)
            prediction = kept.sum(1 if each else 0) + bias.view(shape)
        if labels.row is not None:
            prediction = prediction[..., labels.row, labels.step, :]
        losses: Tensor = self.loss(prediction.float(), labels.target)
        total = losses.flatten() @ labels.share.flatten()
        value = total.detach() / self.members if each else total.detach()
        if not (training and self.penalties):
            return Value(total, value, None)
        penalty = self._penalty(contributions, labels)
        return Value(total + self.members * penalty, value, penalty.detach())

    def _penalty(self, contributions: Tensor, labels: Labels) -> Tensor:
        """The mean over the members, each of which is weighted as the labels are."""
        weight = labels.weight
        if labels.row is not None and labels.step is not None:
            places = contributions.shape[-3:-1]
            at_visits = torch.zeros(places, dtype=contributions.dtype, device=contributions.device)
            at_visits[labels.row, labels.step] = 1.0 if weight is None else weight
            weight = at_visits
        each = self.members > 1
        terms = [strength * own(contributions, weight, members=each).mean() for own, strength in self.penalties]
        return torch.stack(terms).sum()
