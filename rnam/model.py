"""`RNAM`: the recurrent neural additive model, a sum of one small recurrent network per term."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from rnam import _checks
from rnam._arguments import autocast_enabled
from rnam._description import Described
from rnam.functional import feed_forward
from rnam.gru import minGRU
from rnam.linear import Linear

__all__ = ["RNAM", "Additive"]


class Additive(NamedTuple):
    """What an additive model returns. contributions.sum(0) + bias is prediction."""

    prediction: Tensor
    contributions: Tensor


class RNAM(Described):
    """A prediction that is a sum of per-term networks, each of which sees one term's history only.

    Each term is embedded, goes through `blocks` of x + ff(x + minGRU(x)) with ff = LayerNorm, Linear, ReLU,
    Linear, and a head maps its last observed step to its contribution. Additive models of networks are
    those of arXiv 2004.13912; the recurrent cell is that of arXiv 2410.01201.

    Args:
        terms: the number of terms (features).
        hidden_dim: the width of each term's network.
        out_dim: the number of outputs (targets or classes).
        blocks: the number of recurrent blocks.
        in_dim: the number of inputs of each term at each step.
        device, dtype: where and as what the parameters are made.

    State dict:
        emb, blocks.N.gru, blocks.N.ff.0 (one LayerNorm, shared by the terms), blocks.N.ff.1,
        blocks.N.ff.3, proj.0, proj.2, gam.bias; with names (`rnam.explain.describe`) description._extra_state.

    Raises:
        TypeError: a size is no int, dtype none that the layers compute in.
        ValueError: a size is less than 1.

    Example:
        >>> model = rnam.RNAM(terms=3, hidden_dim=8, out_dim=1, blocks=2)
        >>> prediction, contributions = model(torch.randn(3, 16, 10, 1))
        >>> prediction.shape, contributions.shape
        (torch.Size([16, 1]), torch.Size([3, 16, 1]))
    """

    def __init__(
        self,
        terms: int,
        hidden_dim: int,
        out_dim: int,
        blocks: int,
        in_dim: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        terms = _checks.positive_int("terms", terms)
        hidden_dim = _checks.positive_int("hidden_dim", hidden_dim)
        out_dim = _checks.positive_int("out_dim", out_dim)
        blocks = _checks.positive_int("blocks", blocks)
        in_dim = _checks.positive_int("in_dim", in_dim)
        _checks.parameter_dtype("dtype", dtype)
        super().__init__()
        self.emb = Linear(terms, in_dim, hidden_dim, device=device, dtype=dtype)
        self.blocks = nn.ModuleList(_Block(terms, hidden_dim, device=device, dtype=dtype) for _ in range(blocks))
        self.proj = nn.Sequential(
            Linear(terms, hidden_dim, hidden_dim, device=device, dtype=dtype, activation="relu"),
            nn.Identity(),  # in the place of the ReLU, which is in the layer: names in checkpoints count it
            Linear(terms, hidden_dim, out_dim, device=device, dtype=dtype),
        )
        self.gam = _Sum(out_dim, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw the parameters again, in the order of construction."""
        for module in self.modules():
            if isinstance(module, Linear | nn.LayerNorm | _Sum):
                module.reset_parameters()

    def forward(
        self,
        input: Tensor,
        mask: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        return_sequence: bool = False,
    ) -> Additive:
        """Predict from the whole sequence, or at every step from the steps up to it.

        Args:
            input: (terms, batch, seq, in_dim). What it holds at masked steps has no effect, NaN included.
            mask: bool, broadcastable to (terms, batch, seq), True = observed.
            lengths: integers (batch,): steps at and after a row's length are masked (right padding). Less
                than 0 acts as 0 and more than seq as seq, since looking would wait for a device. Both may
                be given; a step is observed when both say so.
            return_sequence: give the prediction and the contributions at every step.

        Returns:
            prediction: (batch, out_dim), or (batch, seq, out_dim).
            contributions: (terms, batch, out_dim), or (terms, batch, seq, out_dim): at a masked step a
                term's contribution is that of its last observed step, before its first exactly 0, as is
                that of a term with no observed step. contributions.sum(0) + model.gam.bias is the
                prediction. They keep their graph. Under autocast they are halves and the prediction is
                float32, as a sum is there.

        Raises:
            TypeError: input is not of the model's dtype, mask is not bool, lengths no integers.
            ValueError: a shape or a device does not fit.
        """
        _checks.floating("input", input)
        _checks.rank("input", input, "terms, batch, seq, in_dim")
        _checks.device("input", input, "the model", self.emb.weight)
        if not autocast_enabled(input):
            _checks.dtype("input", input, "the model", self.emb.weight)
        terms, in_dim, _ = self.emb.weight.shape
        if input.shape[0] != terms or input.shape[3] != in_dim:
            raise ValueError(
                f"input must have {terms} terms and in_dim {in_dim} in (terms, batch, seq, in_dim), "
                f"got {tuple(input.shape)}"
            )
        observed = _observed(input, mask, lengths)
        x = input if observed is None else torch.where(observed[..., None], input, 0)
        x = self.emb(x)
        *blocks, final = cast("list[_Block]", self.blocks)
        for block in blocks:
            x = block(x, observed)
        if return_sequence or x.shape[2] == 0:
            contributions = self._at_every_step(final(x, observed), observed)
            contributions = contributions if return_sequence else contributions.sum(2)  # no step at all: 0
        else:
            contributions = self._at_the_end(final, x, observed)
        return Additive(self.gam(contributions), contributions)

    def _at_every_step(self, x: Tensor, observed: Tensor | None) -> Tensor:
        contributions: Tensor = self.proj(x)
        if observed is None or 0 in observed.shape:
            return contributions
        last = _steps(observed).cummax(-1).values[..., None]
        held = contributions.gather(2, last.clamp(min=0).expand_as(contributions))
        return torch.where(last >= 0, held, 0)

    def _at_the_end(self, final: _Block, x: Tensor, observed: Tensor | None) -> Tensor:
        if observed is None:
            last: Tensor = self.proj(final.at_the_end(x, x[:, :, -1:], None))
            return last.squeeze(2)
        step = _steps(observed).amax(-1)[..., None, None]
        index = step.clamp(min=0).expand(-1, -1, 1, x.shape[-1])
        last = self.proj(final.at_the_end(x, x.gather(2, index), observed))
        return torch.where(step >= 0, last, 0).squeeze(2)


class _Block(nn.Module):
    """x + ff(x + minGRU(x)), ff = LayerNorm, Linear, ReLU, Linear."""

    def __init__(
        self, terms: int, dim: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.gru = minGRU(terms, dim, device=device, dtype=dtype)
        self.ff = nn.Sequential(
            nn.LayerNorm(dim, device=device, dtype=dtype),
            Linear(terms, dim, dim, device=device, dtype=dtype, activation="relu"),
            nn.Identity(),
            Linear(terms, dim, dim, device=device, dtype=dtype),
        )

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        h, _ = self.gru(x, mask=mask)
        return self._feed_forward(x, h)

    def at_the_end(self, x: Tensor, last: Tensor, mask: Tensor | None) -> Tensor:
        """What `forward` gives at the last observed step, where x is `last` (terms, batch, 1, dim): only the recurrence
        takes all steps, and what follows it takes one."""
        _, h_last = self.gru(x, mask=mask)
        return self._feed_forward(last, h_last.to(last.dtype))

    def _feed_forward(self, x: Tensor, h: Tensor) -> Tensor:
        norm, first, _, second = self.ff
        given = [getattr(layer, name) for layer in (norm, first, second) for name in ("weight", "bias")]
        return feed_forward(x, h, *given)


class _Sum(nn.Module):
    """The sum over terms, plus one bias (out_dim,) that starts at 0."""

    def __init__(
        self, out_dim: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(out_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.bias)

    def forward(self, contributions: Tensor) -> Tensor:
        return contributions.sum(0) + self.bias


def _observed(input: Tensor, mask: Tensor | None, lengths: Tensor | None) -> Tensor | None:
    """One mask (terms, batch, seq) out of `mask` and `lengths`, or None where neither is given."""
    full = input.shape[:3]
    observed = None
    if mask is not None:
        _checks.boolean("mask", mask)
        _checks.broadcastable("mask", mask, "terms, batch, seq", full)
        _checks.device("mask", mask, "input", input)
        observed = mask
    if lengths is not None:
        _checks.integer("lengths", lengths)
        _checks.shape("lengths", lengths, "batch", full[1:2])
        _checks.device("lengths", lengths, "input", input)
        inside = torch.arange(full[2], device=input.device) < lengths[:, None]
        observed = inside if observed is None else observed & inside
    return None if observed is None else observed.expand(full)


def _steps(observed: Tensor) -> Tensor:
    """The number of each observed step, -1 at the others."""
    steps = torch.arange(observed.shape[-1], device=observed.device)
    return torch.where(observed, steps, -1)
