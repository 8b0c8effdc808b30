"""What is added to the loss, or done to contributions in training, so that terms say what they should.

    prediction, contributions = model(input, mask)
    prediction = term_dropout(contributions, 0.1, training=model.training).sum(0) + model.gam.bias
    error = criterion(prediction, target).mean(-1)  # made with reduction="none"
    error = (sample_weight * error).mean() / mean_weight  # the mean over the training set, not over the mini-batch
    loss = error + 0.01 * output_penalty(contributions) + 0.1 * concurvity(contributions)

Contributions are those of the model: (terms, batch, out) or (terms, batch, seq, out), with a leading dimension of
members where `members=True` says so. All are differentiable and take every floating dtype; half precision is computed
with in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rnam import _checks
from rnam.backends.calls import autocast_enabled, without_autocast

__all__ = ["concurvity", "output_penalty", "term_dropout"]


def term_dropout(
    contributions: Tensor,
    p: float,
    *,
    training: bool = True,
    members: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Leave out whole terms at random, for each sample anew, so that no term can lean on another.

    A term is left out with probability p at all steps and outputs of a sample; what stays is divided by 1 - p, so
    that the expected contribution is that given. On squared errors of linear terms this is a ridge penalty,
    p / (1 - p) times the sum of squared contributions: of two terms that tell the same, each comes to tell half.

    Args:
        contributions: ([members,] terms, batch, [seq,] out).
        p: at least 0 and less than 1.
        training: False gives the contributions back.
        members: there is a leading dimension of members; each drops its own.
        generator: of the device of the contributions; torch's by default.

    Returns:
        A tensor of the shape and dtype given.

    Raises:
        TypeError: contributions are no floating tensor, p no number, a flag no bool.
        ValueError: p is out of its range; the contributions have another number of dimensions.

    Source: "feature dropout" of Agarwal and others, Neural additive models, arXiv 2004.13912, section 3.

    Example:
        >>> term_dropout(torch.ones(3, 4, 1), 0.0).shape
        torch.Size([3, 4, 1])
    """
    _check(contributions, members)
    p = _checks.probability("p", p)
    _checks.boolean_flag("training", training)
    if not training or p == 0:
        return contributions
    drawn = contributions.shape[: members + 2]
    # float32 whatever torch's default dtype: in half precision they are less than p with another probability than p
    kept = torch.rand(drawn, dtype=torch.float32, device=contributions.device, generator=generator) >= p
    factor = (kept.to(torch.float32) / (1 - p)).to(contributions.dtype)
    return contributions * factor.reshape(*drawn, *[1] * (contributions.dim() - len(drawn)))


def output_penalty(contributions: Tensor, weight: Tensor | None = None, *, members: bool = False) -> Tensor:
    """The mean square of the contributions, over terms and places: a term that tells nothing goes to 0.

    Args:
        contributions: ([members,] terms, batch, [seq,] out).
        weight: (batch,), or (batch, seq) over time, of samples or visits; 0 for padding. Ones by default.
        members: there is a leading dimension of members.

    Returns:
        A scalar, or (members,): the sum over outputs of the mean over terms of the weighted mean over places.

    Raises:
        TypeError: an argument is no floating tensor, members no bool.
        ValueError: shapes do not fit; a weight is negative, NaN or infinite. Where looking at values would wait for a
            device or break a graph, the penalty is NaN instead.

    Source: the output penalty of arXiv 2004.13912, section 3.

    Example:
        >>> output_penalty(torch.tensor([[[1.0], [3.0]], [[0.0], [0.0]]]))  # 2 terms, 2 samples: (5 + 0) / 2
        tensor(2.5000)
    """
    values, shares = _places(contributions, weight, members)
    with without_autocast(values, autocast_enabled(values)):
        return torch.einsum("...fnk,n->...", values.square(), shares) / values.shape[-3]


def concurvity(contributions: Tensor, weight: Tensor | None = None, *, members: bool = False) -> Tensor:
    """The mean absolute correlation of pairs of terms' contributions: 0 where each tells its own, 1 where all tell one.

    Correlated terms can trade parts of the prediction, so neither's shape is to be trusted. Correlations are those
    of the batch: it should be of some hundred places. Memory and time grow with the square of the terms.

    Args:
        contributions: ([members,] terms, batch, [seq,] out), of at least 2 terms.
        weight: (batch,), or (batch, seq) over time, of samples or visits; 0 for padding. Ones by default.
        members: there is a leading dimension of members.

    Returns:
        A scalar, or (members,): the mean over the outputs. A term that does not vary correlates with none, and its
        gradient is 0. NaN where a contribution is NaN or infinite.

    Raises:
        TypeError, ValueError: as `output_penalty`; there is one term.

    Source: the regulariser of Siems and others, Curve your enthusiasm: concurvity regularization in differentiable
    generalized additive models, arXiv 2305.11475, section 3.

    Example:
        >>> told = torch.randn(100)
        >>> round(float(concurvity(torch.stack([told, -2 * told])[..., None])), 4)
        1.0
    """
    values, shares = _places(contributions, weight, members)
    if values.shape[-3] < 2:
        raise ValueError(f"contributions must be of at least 2 terms, got {values.shape[-3]}")
    with without_autocast(values, autocast_enabled(values)):  # a constant, less its rounded mean, is none
        return _mean_correlation(values, shares)


def _mean_correlation(values: Tensor, shares: Tensor) -> Tensor:
    # a correlation has no unit, and of numbers of size 1 no square overflows or vanishes: divide by a power of two
    largest = values.detach().abs().amax(-2, keepdim=True) if values.shape[-2] else values.new_zeros(())
    size = largest.clamp(min=torch.finfo(values.dtype).tiny).log2().floor().exp2()
    values, largest = values / size, largest / size
    centred = values - torch.einsum("...fnk,n->...fk", values, shares).unsqueeze(-2)
    scaled = centred * shares.sqrt()[:, None]
    square = scaled.square().sum(-2, keepdim=True)
    # a constant's deviations are the rounding of its mean: up to this they are none. NaN compares as False, and stays
    constant = square <= (16 * torch.finfo(values.dtype).eps * largest).square()
    unit = torch.where(constant, 0, scaled / torch.where(constant, 1, square).sqrt())
    correlation = torch.einsum("...fnk,...gnk->...kfg", unit, unit)
    terms = values.shape[-3]
    pairs = torch.ones(terms, terms, dtype=torch.bool, device=values.device).triu(1)
    return correlation.abs()[..., pairs].mean((-1, -2))


def _check(contributions: Tensor, members: bool) -> None:
    _checks.boolean_flag("members", members)
    _checks.floating("contributions", contributions)
    if contributions.dim() - members not in (3, 4):
        lead = "members, " if members else ""
        layout = f"({lead}terms, batch, out) or ({lead}terms, batch, seq, out)"
        raise ValueError(f"contributions must have shape {layout}, got {tuple(contributions.shape)}")


def _places(contributions: Tensor, weight: Tensor | None, members: bool) -> tuple[Tensor, Tensor]:
    """The contributions ([members,] terms, places, out) and the share of the weight that each place has."""
    _check(contributions, members)
    batch = contributions.shape[members + 1 : -1]
    if contributions.dtype in (torch.bfloat16, torch.float16):
        contributions = contributions.float()
    values = contributions.flatten(members + 1, -2)
    if weight is None:
        weight = torch.ones(batch, dtype=values.dtype, device=values.device)
    _checks.floating("weight", weight)
    _checks.device("weight", weight, "contributions", contributions)
    weight = _checks.weights("weight", weight)
    if len(batch) == 2 and weight.dim() == 1:
        _checks.shape("weight", weight, "batch", batch[:1])
        weight = weight[:, None].expand(batch)
    _checks.shape("weight", weight, "batch, seq" if len(batch) == 2 else "batch", batch)
    flat = weight.to(values.dtype).flatten()
    # where no place counts, such as in a batch of padding, nothing is penalised: not 0 / 0
    return values, flat / flat.sum().clamp(min=torch.finfo(values.dtype).tiny)
