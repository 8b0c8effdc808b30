"""`RNAM`: the recurrent neural additive model, a sum of one small recurrent network per term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from rnam import _checks
from rnam._checks import shown
from rnam.gru import Cell
from rnam.linear import Linear
from rnam.models.additive import Additive, Sum, join
from rnam.models.block import CELLS, CellName
from rnam.models.description import Described, Sizes
from rnam.models.inputs import Columns
from rnam.models.nam import FeatureNetworks
from rnam.models.streaming import State, Streamed
from rnam.models.terms import Terms
from rnam.models.visits import WIDTH

__all__ = ["RNAM", "Additive"]


class RNAM(Terms, Described):
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
        columns: the gather map: for each term, the columns of the input that it reads, counted from 0; the
            input then is (batch, seq, columns), laid out as for torch.nn.GRU(batch_first=True), and in_dim is
            not used. Terms may read different numbers of columns, and the same ones: (0,) is a single
            feature, (1, 2, 3) the columns of a one-hot group, or a value, its mask and the time since it was
            last seen, and (0, 4) a pair (a second-order term). Where all terms read equally many, consecutive
            columns at one spacing (((0,), (1,), (2,)), or ((0, 1), (2, 3))), they read the input where it
            lies; other maps copy it to (terms, batch, seq, widest) with one index_select.
        missing: learn what it means that a term was never observed: a parameter `missing` (terms, out_dim), which
            starts at 0, is the contribution of a term before its first observed step, so also of one that has
            none. `observed` tells where that is. Without it such a contribution is 0.
        timing: add one term, after the others, on the pattern of the visits, so that the others see values only: a
            visit is a step at which any term is observed, and the timing term reads log1p of the time since the
            previous visit (0 at the first), in units of `time_unit`, and the share of the terms that are observed, at
            visits only. The usual gap should be of size 1.
        memoryless_columns: for each of further terms, the columns of the input that it reads at each step and forgets,
            such as the hour of the day or the season; needs `columns`, and may read the same ones. Their networks are
            feed-forward, as those of static_columns, and they come after the recurrent terms and the timing term. They
            are observed and held as others are, and have no part in the pattern of the visits, since a calendar is
            always known.
        static_columns: for each of further terms, after all others, the columns of `static` that it reads: features
            that do not change over the steps. Their networks are feed-forward, Linear and ReLU twice, hidden_dim wide,
            and Linear; what they contribute is the same at every step.
        members: train this many models in one call, an ensemble: their networks are more terms. They differ by their
            initial parameters (and by the data where their losses are weighted, see `rnam.bootstrap_weights`) and
            share none: LayerNorm's scale and shift, which all terms of a block share, then stay at 1 and 0, which
            the Linear after it makes good. Parameters are (members * terms, ...), the first member's first, and
            gam.bias (members, out_dim). On one thread a training step of ten members of 12 terms, 20 steps, took
            0.35 of the CPU time of ten models at 32 rows and 0.79 at 256, where memory counts (`python -m
            benchmarks ensemble`).
        cell: "mingru" or "minlstm", the recurrent layer (`rnam.minGRU`, `rnam.minLSTM`).
        timescales: (shortest, longest), the time scales at which memory starts, spaced in logarithms over the channels
            as in `rnam.minGRU` (after arXiv 1804.11188): in steps or, with `continuous`, in units of `time_unit`. None
            starts it near 1.4.
        continuous: let time pass between the steps. A state decays by exp(-elapsed softplus(k)), and no longer by
            sigmoid(-k), which it is at an elapsed time of 1 (`rnam.functional.min_gru`; this form is ours). That of a
            minLSTM decays by its normalised forget gate to the power of elapsed. Elapsed is the time since that term's
            own last observed step, so that a masked stretch is the same as a sequence without it. It is 1 at a term's
            first observed step.
        time_unit: the time that counts as 1, in the unit of `times`: about the usual gap. A change of that unit, with
            `time_unit` changed alike, changes nothing.

    State dict:
        emb, blocks.N.gru, blocks.N.ff.0 (one LayerNorm, shared by the terms), blocks.N.ff.1,
        blocks.N.ff.3, proj.0, proj.2, gam.bias, missing where that is asked for, and memoryless.layers and
        static.layers where there are memoryless_columns and static_columns; with names (`rnam.explain.describe`)
        description._extra_state. emb.weight is (terms, widest, hidden_dim); rows past the width of a term are 0 and
        stay so, since no gradient reaches them, and each term's start within +-1/sqrt(its own width). gru is the cell,
        whichever it is; it has a bias where there are timescales.

    Raises:
        TypeError: a size or a column is no int, dtype none that the layers compute in.
        ValueError: a size is less than 1, columns has not one entry of one or more columns for each term;
            memoryless_columns without columns; time_unit without timing and continuous; time scales that are none.

    Example:
        >>> model = rnam.RNAM(terms=3, hidden_dim=8, out_dim=1, blocks=2)
        >>> prediction, contributions = model(torch.randn(3, 16, 10, 1))
        >>> prediction.shape, contributions.shape
        (torch.Size([16, 1]), torch.Size([3, 16, 1]))

        A number, a one-hot group of three, and the pair of the number with a second one:

        >>> model = rnam.RNAM(3, hidden_dim=8, out_dim=1, blocks=2, columns=[[0], [1, 2, 3], [0, 4]])
        >>> model(torch.randn(16, 10, 5)).contributions.shape
        torch.Size([3, 16, 1])

        Visits at irregular times in hours, and a memory that starts at 1 to 60 days:

        >>> model = rnam.RNAM(3, 8, 1, 1, continuous=True, time_unit=24.0, timescales=(1.0, 60.0))
        >>> model(torch.randn(3, 16, 10, 1), times=torch.rand(16, 10).cumsum(1) * 100).prediction.shape
        torch.Size([16, 1])
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
        *,
        columns: Sequence[Sequence[int]] | None = None,
        missing: bool = False,
        timing: bool = False,
        memoryless_columns: Sequence[Sequence[int]] | None = None,
        static_columns: Sequence[Sequence[int]] | None = None,
        members: int = 1,
        cell: CellName = "mingru",
        timescales: tuple[float, float] | None = None,
        continuous: bool = False,
        time_unit: float = 1.0,
    ) -> None:
        terms = _checks.positive_int("terms", terms)
        hidden_dim = _checks.positive_int("hidden_dim", hidden_dim)
        out_dim = _checks.positive_int("out_dim", out_dim)
        blocks = _checks.positive_int("blocks", blocks)
        in_dim = _checks.positive_int("in_dim", in_dim)
        _checks.parameter_dtype("dtype", dtype)
        _checks.boolean_flag("missing", missing)
        _checks.boolean_flag("timing", timing)
        members = _checks.positive_int("members", members)
        _checks.one_of("cell", cell, tuple(CELLS))
        _checks.boolean_flag("continuous", continuous)
        time_unit = _checks.positive_number("time_unit", time_unit)
        if time_unit != 1 and not (timing or continuous):
            raise ValueError(f"time_unit must be left at 1 where neither timing nor continuous is, got {time_unit}")
        if columns is not None and in_dim != 1:
            raise ValueError(f"in_dim must be left at 1 where columns gives the inputs of each term, got {in_dim}")
        if memoryless_columns is not None and columns is None:
            raise ValueError("memoryless_columns must be None where columns is, since terms share no columns, got some")
        gathered = None if columns is None else Columns.of_terms("columns", columns, terms, device)
        widths = (in_dim,) * terms if gathered is None else gathered.widths
        if timing:
            widths = (*widths, WIDTH)
        super().__init__(widths * members, hidden_dim, out_dim, blocks, cell, timescales, members == 1, device, dtype)
        self.columns = gathered
        self.terms, self.in_dim, self.timing, self.members = terms, in_dim, timing, members
        self.hidden_dim, self.out_dim, self.continuous, self.time_unit = hidden_dim, out_dim, continuous, time_unit
        self.gam = Sum(out_dim, members, device=device, dtype=dtype)
        self.memoryless_columns: Columns | None = None
        self.memoryless: FeatureNetworks | None = None
        self.static_columns: Columns | None = None
        self.static: FeatureNetworks | None = None

        def feed_forward(columns: Columns) -> FeatureNetworks:
            hidden = hidden_dim, hidden_dim
            return FeatureNetworks(columns.widths * members, hidden, out_dim, device=device, dtype=dtype)

        if memoryless_columns is not None:
            self.memoryless_columns = Columns("memoryless_columns", memoryless_columns, device)
            self.memoryless = feed_forward(self.memoryless_columns)
        if static_columns is not None:
            self.static_columns = Columns("static_columns", static_columns, device)
            self.static = feed_forward(self.static_columns)
        self.register_parameter("missing", None)
        if missing:
            networks = members * self.sizes().terms
            self.missing = nn.Parameter(torch.zeros(networks, out_dim, device=device, dtype=dtype))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Pickles of 0.2 lack the two sizes, and what came later."""
        later = {"memoryless_columns": None, "memoryless": None, "continuous": False, "time_unit": 1.0}
        state = {name: value for name, value in later.items() if name not in state["_modules"]} | state
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if "hidden_dim" not in state:
            self.hidden_dim, self.out_dim = self.emb.out_dim, self.gam.bias.shape[-1]

    def reset_parameters(self) -> None:
        """Draw the parameters again, in the order of construction."""
        for module in self.modules():
            if isinstance(module, Columns | Linear | nn.LayerNorm | Sum):
                module.reset_parameters()
        for module in self.modules():  # after their biases, which are drawn with the layers
            if isinstance(module, Cell):
                module.start_gates()
        if self.missing is not None:
            nn.init.zeros_(self.missing)

    def extra_repr(self) -> str:
        return f"continuous=True, time_unit={shown(self.time_unit)}" if self.continuous else ""

    def arguments(self) -> dict[str, Any]:
        def read(columns: Columns | None) -> tuple[tuple[int, ...], ...] | None:
            return None if columns is None else columns.columns

        cell = cast("Cell", self.blocks[0].gru)
        return dict(
            terms=self.terms,
            hidden_dim=self.hidden_dim,
            out_dim=self.out_dim,
            blocks=len(self.blocks),
            in_dim=self.in_dim,
            columns=read(self.columns),
            missing=self.missing is not None,
            timing=self.timing,
            memoryless_columns=read(self.memoryless_columns),
            static_columns=read(self.static_columns),
            members=self.members,
            cell=cell.cell,
            timescales=cell.timescales,
            continuous=self.continuous,
            time_unit=self.time_unit,
        )

    def sizes(self) -> Sizes:
        static = 0 if self.static_columns is None else len(self.static_columns.columns)
        return Sizes(self._over_time + static, self.out_dim)

    def forward(
        self,
        input: Tensor,
        mask: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        times: Tensor | None = None,
        static: Tensor | None = None,
        static_mask: Tensor | None = None,
        state: State | None = None,
        return_sequence: bool = False,
        return_members: bool = False,
        return_state: bool = False,
    ) -> Additive | Streamed:
        """Predict from the whole sequence, or at every step from the steps up to it.

        A sequence may come in chunks, each of which goes on from the state that the last one returned. The numbers are
        those of the whole sequence, to rounding, and so are the gradients unless the state is detached between
        (`state.detach()`: truncated backpropagation through time).

        Args:
            input: (terms, batch, seq, in_dim); with `columns` (batch, seq, columns), which may have more columns
                than are read. What it holds at masked places has no effect, NaN included.
            mask: bool, True = observed: broadcastable to (terms, batch, seq); with `columns` laid out as the
                input is, (batch, seq, columns), where each size may be 1. A term that reads several columns
                is observed at a step where all of them are, so that no network reads a value that was made
                up. (To have a term read its own mask, give that as a column, fill the value in, and leave
                both out of `mask`.)
            lengths: integers (batch,): steps at and after a row's length are masked (right padding). Less
                than 0 acts as 0 and more than seq as seq, since looking would wait for a device. Both may
                be given; a step is observed when both say so.
            times: (batch, seq), floating or integers of any width, when each step was; with `timing` or `continuous`,
                and only then. At steps without an observed term it may hold anything. They should not decrease
                along a row: a negative time since a visit or an observed step acts as 0. Of large ones in float32, such
                as seconds since 1970, a warning tells where the input is on a CPU.
            static: (batch, columns of static_columns, or more), with `static_columns`, and only then. It may be left
                out where there is a state, which has what these terms contribute.
            static_mask: bool, (batch, columns), where a size may be 1: as `mask` with `columns`.
            state: that after the steps before these, `rnam.State`, or None if these are the first. It is not changed.
            return_sequence: give the prediction and the contributions at every step.
            return_members: give those of each member, not of their mean: prediction (members, batch, [seq,] out_dim)
                and contributions (members, terms, batch, [seq,] out_dim).
            return_state: give the state after these steps, too.

        Returns:
            prediction: (batch, out_dim), or (batch, seq, out_dim).
            contributions: (terms, batch, out_dim), or (terms, batch, seq, out_dim), of the recurrent terms, the timing
                term, the memoryless and the static terms, in this order: at a masked step a
                term's contribution is that of its last observed step, before its first exactly 0, or
                `missing` of that term, as is that of a term with no observed step.
                contributions.sum(0) + model.gam.bias (of an ensemble, its mean) is the prediction. They keep
                their graph. Under autocast they have half precision and the prediction is float32, as a sum is there.
            state: with `return_state` alone, the third of three: `rnam.State`. It keeps its graph, and shares no memory
                with what the call was given, nor with what else it returns.

        Raises:
            TypeError: input is not of the model's dtype, mask is not bool, lengths no integers, state none.
            ValueError: a shape or a device does not fit; the state is none of this model and batch.

        Example:
            >>> model, state = rnam.RNAM(3, hidden_dim=8, out_dim=1, blocks=2), None
            >>> for chunk in torch.randn(3, 16, 12, 1).split(5, dim=2):
            ...     prediction, contributions, state = model(chunk, state=state, return_state=True)
            ...     state = state.detach()
            >>> prediction.shape, state
            (torch.Size([16, 1]), State(rows=16, hidden, contributions, observed))
        """
        given = input, mask, lengths, times, static, static_mask, state
        return self._run(*given, return_sequence, return_members, return_state)

    def observed(
        self,
        input: Tensor,
        mask: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        times: Tensor | None = None,
        static: Tensor | None = None,
        static_mask: Tensor | None = None,
        state: State | None = None,
        return_sequence: bool = False,
    ) -> Tensor:
        """Which contributions come from observed steps; the others are those of a term that was never observed.

        With out = model(input, mask), torch.where(model.observed(input, mask)[..., None], 0, out.contributions) is
        the effect of missingness, and the rest is that of values.

        Args:
            As `forward`.

        Returns:
            bool, (terms, batch), or (terms, batch, seq): True where the term has an observed step (so far), those
            before the state among them.

        Raises:
            As `forward`.

        Example:
            >>> model = rnam.RNAM(2, hidden_dim=4, out_dim=1, blocks=1, missing=True)
            >>> input, mask = torch.randn(2, 1, 3, 1), torch.tensor([[[False, True, False]], [[False] * 3]])
            >>> model.observed(input, mask, return_sequence=True)
            tensor([[[False,  True,  True]],
            <BLANKLINE>
                    [[False, False, False]]])
        """
        read = self._read(input, mask, lengths, times, state)
        before, (_, batch, seq, _) = read.before, read.x.shape
        observed = read.observed_over_time
        if observed is None:
            observed = torch.ones(self._over_time, batch, seq, dtype=torch.bool, device=read.x.device)
        seen = observed.cumsum(-1) > 0 if return_sequence else observed.any(-1)
        if before is not None:
            seen = seen | (before.observed[..., None] if return_sequence else before.observed)
        return join(seen, self._from_static(static, static_mask, batch, before)[1])

    def step(
        self,
        input: Tensor,
        state: State | None = None,
        *,
        mask: Tensor | None = None,
        times: Tensor | None = None,
        static: Tensor | None = None,
        static_mask: Tensor | None = None,
        return_members: bool = False,
    ) -> Streamed:
        """Predict at one step, from the state after the steps before it: `forward` of a sequence of one. The numbers
        are those of the whole sequence with `return_sequence`, to rounding.

        Args:
            input: (terms, batch, in_dim); with `columns` (batch, columns).
            state: what the last call of `step` or `forward` returned, None at the first step. It is not changed.
            mask: bool, broadcastable to (terms, batch); with `columns` (batch, columns), where a size may be 1.
            times: (batch,), with `timing` or `continuous`.
            static, static_mask: (batch, columns), at the first step; later ones are for values that have changed.
            return_members: as `forward`.

        Returns:
            prediction: (batch, out_dim).
            contributions: (terms, batch, out_dim).
            state: `rnam.State`, which can be indexed by rows, joined, reset, moved and saved. It keeps its graph unless
                the call is under torch.no_grad(), and shares no memory with what the step was given, nor with what else
                it returns.

        Raises:
            As `forward`.

        Example:
            >>> model, state = rnam.RNAM(3, hidden_dim=8, out_dim=1, blocks=2), None
            >>> with torch.no_grad():
            ...     for x in torch.randn(10, 3, 16, 1):
            ...         prediction, contributions, state = model.step(x, state)
            >>> prediction.shape, contributions.shape
            (torch.Size([16, 1]), torch.Size([3, 16, 1]))
        """
        by_columns = self.columns is not None
        _checks.floating("input", input)
        _checks.rank("input", input, "batch, columns" if by_columns else "terms, batch, in_dim")
        if mask is not None:
            _checks.boolean("mask", mask)
            if by_columns:
                _checks.rank("mask", mask, "batch, columns")
            mask = mask.unsqueeze(1) if by_columns else mask.unsqueeze(-1)
        if times is not None:
            _checks.tensor("times", times)
            _checks.rank("times", times, "batch")
            times = times.unsqueeze(1)
        given = input.unsqueeze(-2), mask, None, times, static, static_mask, state
        return cast("Streamed", self._run(*given, return_members=return_members, return_state=True))
