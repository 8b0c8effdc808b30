"""The terms of `rnam.RNAM`: what each reads, what it contributes, and the state that they carry."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnam.models.additive import Additive, Sum, join, share, unseen, with_gradient_of
from rnam.models.block import at_step
from rnam.models.inputs import Columns, check_values, inside, observed_terms, step_numbers
from rnam.models.nam import FeatureNetworks
from rnam.models.recurrent import RecurrentNetworks
from rnam.models.streaming import Layout, State, Streamed, check_state
from rnam.models.visits import Elapsed, Visits, read_elapsed, read_visits, warn_of_coarse_times, with_timing

__all__ = ["Terms"]


class Read(NamedTuple):
    """The inputs of the networks in a call.

    x, observed   (terms, batch, seq, widest), 0 where masked, and bool (terms, batch, seq), or None where all are: of
                  the recurrent terms, the timing term the last
    now, seen     the same of the memoryless terms
    visits        what the timing term knows
    elapsed       what passed since the terms' last observed steps, in a model of continuous time
    before        the state before
    """

    x: Tensor
    observed: Tensor | None
    now: Tensor | None
    seen: Tensor | None
    visits: Visits | None
    elapsed: Elapsed | None
    before: State | None

    @property
    def observed_over_time(self) -> Tensor | None:
        """Where all but the static terms are observed, or None where all are everywhere."""
        if self.observed is None or self.seen is None:
            return self.observed
        return torch.cat([self.observed, self.seen])


class Terms(RecurrentNetworks):
    """Recurrent terms, a timing term, memoryless and static terms, in this order. `rnam.RNAM` makes them, and its
    arguments are the attributes."""

    terms: int
    in_dim: int
    hidden_dim: int
    out_dim: int
    members: int
    timing: bool
    continuous: bool
    time_unit: float
    columns: Columns | None
    memoryless_columns: Columns | None
    memoryless: FeatureNetworks | None
    static_columns: Columns | None
    static: FeatureNetworks | None
    gam: Sum
    missing: nn.Parameter | None

    @property
    def reads_times(self) -> bool:
        """True where a call must come with times."""
        return self.timing or self.continuous

    @property
    def _over_time(self) -> int:
        """The number of terms that have a value at each step: all but the static ones."""
        memoryless = 0 if self.memoryless_columns is None else len(self.memoryless_columns.columns)
        return self.terms + self.timing + memoryless

    def _run(
        self,
        input: Tensor,
        mask: Tensor | None,
        lengths: Tensor | None,
        times: Tensor | None,
        static: Tensor | None,
        static_mask: Tensor | None,
        state: State | None,
        return_sequence: bool = False,
        return_members: bool = False,
        return_state: bool = False,
    ) -> Additive | Streamed:
        """`forward`, which `step` is of one step."""
        read = self._read(input, mask, lengths, times, state)
        before, observed, batch = read.before, read.observed_over_time, read.x.shape[1]
        contributions, hidden = self._contributions(read, return_sequence)
        constant, constant_seen = self._from_static(static, static_mask, batch, before)
        whole = join(contributions, constant, self.members)
        if observed is None or observed.numel() == 0:
            whole = with_gradient_of(self.missing, whole)
        summed: Additive = self.gam(whole, return_members)
        if not return_state:
            return summed
        if return_sequence:
            contributions = self._last(contributions, before)
        if observed is None:
            seen = read.x.new_full((self._over_time, batch), read.x.shape[2] > 0, dtype=torch.bool)
        else:
            seen = observed.any(-1)
        visits, elapsed = read.visits, read.elapsed
        seen = seen if before is None else seen | before.observed
        others = (
            None if visits is None else visits.last,
            None if visits is None else visits.any,
            None if elapsed is None else elapsed.last,
            constant,
            constant_seen,
        )
        # in memory of its own: the caller may change what is returned and what was given, and so may who keeps the
        # state before. Hidden states are made anew by every call
        after = State(hidden, contributions.clone(), seen.clone(), *[None if x is None else x.clone() for x in others])
        return Streamed(*summed, after)

    def _state_layout(self, batch: int) -> Layout:
        """The entries of a state of so many rows."""
        members, out_dim = self.members, self.out_dim
        recurrent = members * (self.terms + self.timing)
        layout: Layout = {
            "hidden": ("terms, batch, 1, hidden_dim", (recurrent, batch, 1, self.hidden_dim)),
            "contributions": ("terms, batch, out_dim", (members * self._over_time, batch, out_dim)),
            "observed": ("terms, batch", (self._over_time, batch)),
        }
        if self.timing:
            layout["last_visit"] = layout["visited"] = "batch", (batch,)
        if self.continuous:
            layout["last_times"] = "terms, batch", (self.terms + self.timing, batch)
        if self.static_columns is not None:
            others = len(self.static_columns.columns)
            layout["static"] = "static terms, batch, out_dim", (members * others, batch, out_dim)
            layout["static_observed"] = "static terms, batch", (others, batch)
        return layout

    def _read(
        self,
        input: Tensor,
        mask: Tensor | None,
        lengths: Tensor | None,
        times: Tensor | None,
        state: State | None,
    ) -> Read:
        """The inputs of the networks, and the state before, checked."""
        x, observed, now, seen = self._read_values(input, mask, lengths)
        before = None
        if state is not None:
            before = check_state(state, self._state_layout(x.shape[1]), len(self.blocks), x)
        if self.reads_times != (times is not None):
            raise ValueError(
                "times must be given with timing=True or continuous=True, and only then; "
                f"the model has timing={self.timing} and continuous={self.continuous}"
            )
        visits = elapsed = None
        if times is not None:
            if self.timing:
                visits = read_visits(times, observed, x, before, self.time_unit)
                x, observed = with_timing(x, observed, visits)
            if self.continuous:
                elapsed = read_elapsed(times, observed, x, before, self.time_unit)
            warn_of_coarse_times(times, observed, self.time_unit)
        return Read(x, observed, now, seen, visits, elapsed, before)

    def _read_values(
        self, input: Tensor, mask: Tensor | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """The values that the recurrent terms read, 0 where masked, and where they are observed; and the same of the
        memoryless ones."""
        layout = "terms, batch, seq, in_dim" if self.columns is None else "batch, seq, columns"
        check_values("input", input, layout, self.any_parameter())
        if self.columns is not None:
            given = "input", input, mask, layout, inside(input, lengths, *input.shape[:2])
            others = (None, None) if self.memoryless_columns is None else self.memoryless_columns.read(*given)
            return *self.columns.read(*given), *others
        if input.shape[0] != self.terms or input.shape[3] != self.in_dim:
            raise ValueError(
                f"input must have {self.terms} terms and in_dim {self.in_dim} in ({layout}), got {tuple(input.shape)}"
            )
        observed = observed_terms(input, mask, lengths)
        return (input if observed is None else torch.where(observed[..., None], input, 0)), observed, None, None

    def _contributions(self, read: Read, return_sequence: bool) -> tuple[Tensor, list[Tensor]]:
        """The contributions of all but the static terms after the last step, or at every one, and the states of the
        blocks after the last."""
        seq, observed = read.x.shape[2], read.observed_over_time
        elapsed = None if read.elapsed is None else read.elapsed.elapsed
        every, steps, last = return_sequence or seq <= 1, None, None
        if not every:
            steps = None if observed is None else step_numbers(observed).amax(-1)[..., None, None]
            last = -1 if steps is None else steps.clamp(min=0)
        recurrent, hidden = self.run_networks(
            share(read.x, self.members),
            None if read.observed is None else share(read.observed, self.members),
            None if read.before is None else read.before.hidden,
            share(last[: len(read.x)], self.members) if isinstance(last, Tensor) else last,
            elapsed if elapsed is None or len(elapsed) == 1 else share(elapsed, self.members),
        )
        contributions = recurrent
        if self.memoryless is not None and read.now is not None:
            now = read.now
            if last is not None:
                now = at_step(now, last[len(read.x) :] if isinstance(last, Tensor) else last)
            contributions = join(contributions, self.memoryless(share(now, self.members)), self.members)
        if not every:
            if steps is not None:
                before = self._before(contributions, read.before)
                contributions = torch.where(share(steps, self.members) >= 0, contributions, before)
            return contributions.squeeze(2), hidden
        contributions = self._hold(contributions, observed, read.before)
        return contributions if return_sequence else self._last(contributions, read.before), hidden

    def _hold(self, contributions: Tensor, observed: Tensor | None, before: State | None) -> Tensor:
        """At each step the contribution of a term's last observed one."""
        if observed is None or 0 in observed.shape:
            return contributions
        if observed.shape[2] == 1:
            seen = share(observed, self.members)[..., None]
            return torch.where(seen, contributions, self._before(contributions, before))
        last = share(step_numbers(observed).cummax(-1).values, self.members)[..., None]
        held = contributions.gather(2, last.clamp(min=0).expand_as(contributions))
        return torch.where(last >= 0, held, self._before(held, before))

    def _last(self, contributions: Tensor, before: State | None) -> Tensor:
        """Those after the last step of (terms, batch, seq, out_dim), which may have none."""
        if contributions.shape[2]:
            return contributions[:, :, -1]
        none = contributions.sum(2)  # 0
        return none + self._before(none, before)

    def _from_static(
        self, static: Tensor | None, mask: Tensor | None, batch: int, state: State | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """The contributions of the static terms (members * terms, batch, out_dim), and which are observed."""
        if static is None and state is not None and state.static is not None and state.static_observed is not None:
            held = state.static, state.static_observed
            return self._seen(*held, unseen(self._missing(static=True), held[0])), held[1]
        if (self.static_columns is None) != (static is None):
            raise ValueError(
                "static must be given with static_columns, and only then; "
                f"the model has {'none' if self.static_columns is None else 'some'}"
            )
        if static is None or self.static_columns is None or self.static is None:
            return None, None
        layout = "batch, columns"
        check_values("static", static, layout, self.any_parameter())
        if static.shape[0] != batch:
            raise ValueError(f"static must have the {batch} rows of input in ({layout}), got {tuple(static.shape)}")
        x, seen = self.static_columns.read("static", static, mask, layout)
        contributions: Tensor = self.static(share(x, self.members))
        if seen is None:
            return contributions, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return self._seen(contributions, seen, unseen(self._missing(static=True), contributions)), seen

    def _before(self, like: Tensor, state: State | None) -> Tensor | int:
        """The contributions of terms before their first observed step, after the state where there is one,
        broadcastable to `like` (terms, batch, [1,] out_dim)."""
        if state is None:
            return unseen(self._missing(static=False), like)
        held = state.contributions
        held = self._seen(held, state.observed, unseen(self._missing(static=False), held))
        return held if like.dim() == held.dim() else held.unsqueeze(2)

    def _seen(self, contributions: Tensor, seen: Tensor, otherwise: Tensor | int) -> Tensor:
        """contributions (members * terms, batch, out_dim) where terms are seen (terms, batch)."""
        return torch.where(share(seen, self.members)[..., None], contributions, otherwise)

    def _missing(self, static: bool) -> Tensor | None:
        """The part of `missing` that is of the static terms, or of the others."""
        if self.missing is None or self.static_columns is None:
            return self.missing
        each = torch.unflatten(self.missing, 0, (self.members, -1))
        first = self._over_time
        return (each[:, first:] if static else each[:, :first]).flatten(0, 1)
