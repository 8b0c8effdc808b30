"""How far to trust the terms: concurvity, stability over members, and the effects of being missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam import explain, plot
from rnam.explain._arrays import Bools, Floats
from rnam.explanation.axes import nothing
from rnam.explanation.results import Result, band
from rnam.explanation.sources import Source

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Missingness", "Stability", "TermConcurvity", "concurvity", "missingness", "stability"]

AGREE = 0.5  # the least correlation over members of a term that is identified


@dataclass(frozen=True, eq=False)
class TermConcurvity(Result):
    """How much of each term the others could say: `rnam.explain.concurvity`, the mean over members.

    Args:
        term: (terms,)
        worst, observed, estimate: (terms,), from 0, no trouble, to 1.
        pairwise_worst, pairwise_observed, pairwise_estimate: (terms, terms), of column j by row i alone.
    """

    term: tuple[str, ...]
    worst: Floats
    observed: Floats
    estimate: Floats
    pairwise_worst: Floats
    pairwise_observed: Floats
    pairwise_estimate: Floats

    def frame(self) -> Any:
        """A row for each term."""
        columns = {name: getattr(self, name) for name in ("worst", "observed", "estimate")}
        return pandas.DataFrame({"term": self.term, **columns})

    def plot(self, ax: Axes | None = None) -> Axes:
        """The pairwise observed concurvity, with that of all others in the last row."""
        table = np.concatenate([self.pairwise_observed, self.observed[None]])
        for n in range(len(self.term)):
            table[n, n] = np.nan
        return plot.surface(
            self.term, [*self.term, "all others"], table, label="observed concurvity", limit=1.0,
            x_label="how much of this term", y_label="is said by", ax=ax,
        )  # fmt: skip


def concurvity(source: Source, knots: int) -> TermConcurvity:
    """`Explanation.concurvity`."""
    each = [explain.concurvity(own, source.weight, knots=knots) for own in source.contributions]
    names = "worst", "observed", "estimate", "pairwise_worst", "pairwise_observed", "pairwise_estimate"
    return TermConcurvity(source.reader.names, *(np.mean([getattr(own, name) for own in each], 0) for name in names))


@dataclass(frozen=True, eq=False)
class Stability(Result):
    """The agreement of members, which were trained apart, on each term.

    Args:
        term: (terms,)
        agreement: (terms,), the mean correlation of the contributions of two members, weighted; NaN where a member has
            a constant term.
        importance, sd: (terms,), mean and standard deviation over members.
        relative: (terms,), sd / importance.
        identified: bool (terms,), whether the agreement is at least 0.5. Where it is not, members explain the data
            alike by different terms, and the term should be reported as not identified.
        pairwise: (terms, members, members), the correlations.
    """

    term: tuple[str, ...]
    agreement: Floats
    importance: Floats
    sd: Floats
    relative: Floats
    identified: Bools
    pairwise: Floats

    def frame(self) -> Any:
        """A row for each term."""
        names = "term", "agreement", "importance", "sd", "relative", "identified"
        return pandas.DataFrame({name: getattr(self, name) for name in names})

    def plot(self, ax: Axes | None = None) -> Axes:
        """The agreement of each term, those that are not identified in grey."""
        return plot.ranges(
            self.agreement, self.term, marked=~self.identified, marked_label="not identified", at=AGREE,
            label="agreement: mean correlation of two members", ax=ax,
        )  # fmt: skip


def stability(source: Source) -> Stability:
    """`Explanation.stability`."""
    parts, weight = source.contributions, source.weight
    members = len(parts)
    if members < 2:
        raise ValueError("the model must have 2 members or more to be stable over them, got 1")
    share = weight / weight.sum()
    away = parts - np.einsum("r,mrt->mt", share, parts)[:, None]
    product = np.einsum("r,mrt,nrt->tmn", share, away, away)
    size = np.sqrt(np.einsum("tmm->tm", product))
    with np.errstate(divide="ignore", invalid="ignore"):
        pairwise = product / (size[:, :, None] * size[:, None])
    upper = np.triu_indices(members, 1)
    agreement = pairwise[:, upper[0], upper[1]].mean(1)
    by_member = np.average(np.abs(parts), axis=1, weights=weight)
    mean, sd = by_member.mean(0), by_member.std(0, ddof=1)
    relative = sd / np.where(mean > 0, mean, np.nan)
    return Stability(source.reader.names, agreement, mean, sd, relative, agreement >= AGREE, pairwise)


@dataclass(frozen=True, eq=False)
class Missingness(Result):
    """The contributions of terms where they were never observed, apart from the effects of values.

    Args:
        term: (terms,)
        scale: what is contributed to.
        effect: (terms,), the contribution of a term that was never observed, over that of the mean of what was; the
            mean over members.
        low, high: (terms,), minus and plus one standard deviation over members; NaN for one model.
        never: (terms,), the share of the predictions at which the term was never observed.
        held: (terms,), the share at which it is not observed then, and says what it said before; 0 of the timing term.
        importance: (terms,), the weighted mean over predictions of the absolute effect: `never` times the size of it.
        n_never: (terms,), how many predictions these are.
    """

    term: tuple[str, ...]
    scale: str
    effect: Floats
    low: Floats
    high: Floats
    never: Floats
    held: Floats
    importance: Floats
    n_never: NDArray[np.int64]

    def frame(self) -> Any:
        """A row for each term."""
        names = "term", "effect", "low", "high", "never", "held", "importance", "n_never"
        return pandas.DataFrame({name: getattr(self, name) for name in names})

    def plot(self, ax: Axes | None = None) -> Axes:
        """The effect of each term; grey where it was always observed, so that nothing was learned."""
        return plot.ranges(
            self.effect, self.term, low=self.low, high=self.high, marked=self.n_never == 0,
            marked_label="always observed here", label=f"effect of being missing on {self.scale}", ax=ax,
        )  # fmt: skip


def missingness(source: Source) -> Missingness:
    """`Explanation.missingness`."""
    reader, inputs = source.reader, source.inputs
    never = ~source.observed
    share = source.weight / source.weight.sum()
    by_member = source.centred(reader.contributions(nothing(source), "id"))[:, 0]
    mean, low, high = band(by_member)
    rows = source.rows(source.panel)
    owners = np.repeat(np.arange(inputs.sequences), inputs.lengths)[rows]
    held = np.zeros(len(reader.terms))
    for n, term in enumerate(reader.terms):
        if term.kind == "timing":
            continue
        columns = list(term.columns)
        seen = inputs.static_mask[owners][:, columns] if term.kind == "static" else inputs.mask[rows][:, columns]
        held[n] = share @ (~seen.all(1) & ~never[:, n])
    shares = share @ never
    return Missingness(
        reader.names, reader.scale_name, mean, low, high, shares, held, shares * np.abs(by_member).mean(0), never.sum(0)
    )
