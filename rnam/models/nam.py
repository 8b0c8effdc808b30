"""`NAM`: the neural additive model, a sum of one small feed-forward network per term."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from rnam import _checks
from rnam.functional import ACTIVATIONS, Activation
from rnam.linear import Linear
from rnam.models.additive import Additive, Sum, share, unseen, with_gradient_of
from rnam.models.description import Described, Sizes
from rnam.models.inputs import Columns, Embedding, check_values

__all__ = ["NAM", "FeatureNetworks"]


class NAM(Described):
    """A prediction that is a sum of feed-forward networks, each of which sees one term's features only: the neural
    additive model (arXiv 2004.13912). It is `rnam.RNAM` for a single point in time.

    Args:
        terms: the number of terms.
        hidden: the widths of the hidden layers of each term's network, one or more. The default is the published
            network.
        out_dim: the number of outputs (targets or classes).
        activation: "relu", "gelu" or "silu", after each hidden layer.
        dropout: the probability with which a hidden unit is set to 0 in training.
        columns: for each term, the columns of the input that it reads, as in `rnam.RNAM`; None is one column each, in
            order, which are read where they lie.
        missing: learn the contribution of a term that is not observed: a parameter `missing` (terms, out_dim), which
            starts at 0. Without it that is 0.
        members: train this many models in one call, as in `rnam.RNAM`; here they share no parameter at all.
        device, dtype: where and as what the parameters are made.

    State dict:
        networks.layers.N, a `rnam.Linear` for N = 0, 2, 4, ... (dropout is between them), gam.bias, and missing where
        that is asked for.

    Raises:
        TypeError: a size or a column is no int, a flag no bool, dtype none that the layers compute in.
        ValueError: a size is less than 1, hidden is empty, activation is none of these, dropout is not in [0, 1),
            columns has not one entry of one or more columns for each term.

    Example:
        >>> model = rnam.NAM(terms=5)
        >>> prediction, contributions = model(torch.randn(16, 5))
        >>> prediction.shape, contributions.shape
        (torch.Size([16, 1]), torch.Size([5, 16, 1]))

        A loss with weights of the samples, such as of a survey or inverse probabilities of censoring. It is divided by
        the mean weight of the training set. Divided by the weights of each mini-batch, heavy samples would lose theirs:

        >>> target, sample_weight = torch.randn(16, 1), torch.rand(16)
        >>> mean_weight = sample_weight.mean()  # of the training set, of which this is the only batch
        >>> error = torch.nn.functional.mse_loss(prediction, target, reduction="none").mean(-1)
        >>> loss = (sample_weight * error).mean() / mean_weight
    """

    def __init__(
        self,
        terms: int,
        hidden: Sequence[int] = (64, 64, 32),
        out_dim: int = 1,
        activation: Activation = "relu",
        dropout: float = 0.0,
        *,
        columns: Sequence[Sequence[int]] | None = None,
        missing: bool = False,
        members: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        terms = _checks.positive_int("terms", terms)
        out_dim = _checks.positive_int("out_dim", out_dim)
        members = _checks.positive_int("members", members)
        _checks.boolean_flag("missing", missing)
        _checks.parameter_dtype("dtype", dtype)
        super().__init__()
        self.members = members
        self.columns = Columns.of_terms(
            "columns", [[f] for f in range(terms)] if columns is None else columns, terms, device
        )
        self.networks = FeatureNetworks(
            self.columns.widths * members, hidden, out_dim, activation, dropout, device=device, dtype=dtype
        )
        self.gam = Sum(out_dim, members, device=device, dtype=dtype)
        self.register_parameter("missing", None)
        if missing:
            self.missing = nn.Parameter(torch.zeros(members * terms, out_dim, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Draw the parameters again, in the order of construction."""
        for module in (self.columns, self.networks, self.gam):
            module.reset_parameters()
        if self.missing is not None:
            nn.init.zeros_(self.missing)

    def arguments(self) -> dict[str, Any]:
        layers = self.networks.layers
        linear = [layer for layer in layers if isinstance(layer, Linear)]
        return dict(
            terms=len(self.columns.columns),
            hidden=tuple(layer.out_dim for layer in linear[:-1]),
            out_dim=self.gam.bias.shape[-1],
            activation=linear[0].activation,
            dropout=cast("nn.Dropout", layers[1]).p,
            columns=self.columns.columns,
            missing=self.missing is not None,
            members=self.members,
        )

    def sizes(self) -> Sizes:
        return Sizes(len(self.columns.columns), self.gam.bias.shape[-1])

    def forward(self, input: Tensor, mask: Tensor | None = None, *, return_members: bool = False) -> Additive:
        """Predict.

        Args:
            input: (batch, columns), which may have more columns than are read. What it holds at masked places has no
                effect, NaN included.
            mask: bool, (batch, columns), where each size may be 1, True = observed. A term is observed where all of
                its columns are.
            return_members: give the prediction and the contributions of each member, not of their mean:
                (members, batch, out_dim) and (members, terms, batch, out_dim).

        Returns:
            prediction: (batch, out_dim).
            contributions: (terms, batch, out_dim), exactly 0, or `missing` of that term, where it is not observed.
                contributions.sum(0) + model.gam.bias (of an ensemble, its mean) is the prediction.

        Raises:
            TypeError: input is not of the model's dtype, mask is not bool.
            ValueError: a shape or a device does not fit.
        """
        x, observed = self._read(input, mask)
        contributions: Tensor = self.networks(share(x, self.members))
        if observed is None:
            contributions = with_gradient_of(self.missing, contributions)
        else:
            seen = share(observed, self.members)[..., None]
            contributions = torch.where(seen, contributions, unseen(self.missing, contributions))
        summed: Additive = self.gam(contributions, return_members)
        return summed

    def observed(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Which contributions come from observed values: bool (terms, batch); the arguments are those of `forward`."""
        x, observed = self._read(input, mask)
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if observed is None else observed.clone()

    def _read(self, input: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        check_values("input", input, "batch, columns", self.gam.bias)
        return self.columns.read("input", input, mask, "batch, columns")


class FeatureNetworks(nn.Module):
    """One feed-forward network per term: Linear and activation for each hidden width, and a Linear.

    Args:
        widths: the number of inputs of each network.
        hidden, out_dim, activation, dropout, device, dtype: as `NAM`.

    Shape:
        input (terms, batch, widest), with zeros past the width of a term -> (terms, batch, out_dim).
    """

    def __init__(
        self,
        widths: Sequence[int],
        hidden: Sequence[int],
        out_dim: int,
        activation: Activation = "relu",
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not isinstance(hidden, Sequence) or isinstance(hidden, str):
            raise TypeError(f"hidden must be a sequence of ints, got {type(hidden).__name__}")
        if not hidden:
            raise ValueError("hidden must have one width or more, got none")
        sizes = [_checks.positive_int(f"hidden[{n}]", width) for n, width in enumerate(hidden)]
        _checks.one_of("activation", activation, ACTIVATIONS[1:])
        _checks.probability("dropout", dropout)
        super().__init__()
        first = Embedding(widths, sizes[0], device=device, dtype=dtype, activation=activation)
        layers: list[nn.Module] = [first, nn.Dropout(dropout)]
        for wide, narrow in itertools.pairwise(sizes):
            layer = Linear(len(widths), wide, narrow, device=device, dtype=dtype, activation=activation)
            layers += [layer, nn.Dropout(dropout)]
        layers.append(Linear(len(widths), sizes[-1], out_dim, device=device, dtype=dtype))
        self.layers = nn.Sequential(*layers)

    def reset_parameters(self) -> None:
        for layer in self.layers:
            if isinstance(layer, Linear):
                layer.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.layers(input)
        return output
