"""The two kinds of models that an estimator trains: recurrent terms of all visits, and feed-forward terms of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sklearn.utils.validation import check_is_fitted

from rnam import _checks
from rnam.estimators.base import Estimator
from rnam.estimators.encoding import Encoder
from rnam.estimators.gaps import Gaps
from rnam.models.block import CellName
from rnam.models.nam import NAM
from rnam.models.rnam import RNAM
from rnam.panel import Panel

if TYPE_CHECKING:
    from rnam.estimators.online import Late, Online

__all__ = ["FeedForward", "Recurrent"]


class Recurrent(Estimator):
    """Trains an `rnam.RNAM`.

    Attributes:
        continuous_, time_unit_, timescales_: what the model was made with; the time scales in units of time_unit_, or
            in steps where time is not continuous.
    """

    _saved: ClassVar[tuple[str, ...]] = ("continuous_", "time_unit_", "timescales_")

    hidden: int
    blocks: int
    cell: CellName
    timescales: tuple[float, float] | Literal["auto"] | None
    continuous: bool | Literal["auto"]
    timing: bool

    def _encode(self, panel: Panel, chosen: Sequence[tuple[Any, Any]]) -> Encoder:
        gaps = Gaps.of(panel)
        if self.continuous != "auto":
            _checks.boolean_flag("continuous", self.continuous)
        _checks.boolean_flag("timing", self.timing)
        self.continuous_ = bool(not gaps.regular if self.continuous == "auto" else self.continuous)
        self.time_unit_ = gaps.unit if self.continuous_ or self.timing else 1.0
        if self.timescales == "auto":
            self.timescales_ = gaps.timescales(self.continuous_)
        else:
            given = _checks.timescales("timescales", self.timescales)
            unit = gaps.unit if self.continuous_ else 1.0
            self.timescales_ = None if given is None else (given[0] / unit, given[1] / unit)
        return Encoder.fit(panel, pairs=chosen, timing=self.timing, timed=self.continuous_)

    def _model(self, encoder: Encoder, out_dim: int) -> RNAM:
        columns = encoder.columns("recurrent")
        assert columns is not None  # the encoder refuses to have none
        return RNAM(
            len(columns),
            _checks.positive_int("hidden", self.hidden),
            out_dim,
            self.blocks,
            columns=columns,
            missing=True,
            timing=self.timing,
            memoryless_columns=encoder.columns("memoryless"),
            static_columns=encoder.columns("static"),
            members=self.members,
            cell=self.cell,
            timescales=self.timescales_,
            continuous=self.continuous_,
            time_unit=self.time_unit_,
        )

    def online(self, *, late: Late = "refuse") -> Online:
        """The model with a state for each id, which takes visits as they come and reads none of them twice.

        Args:
            late: "refuse" a visit that is not after the last one of its id, or "ignore" it.

        Raises:
            sklearn.exceptions.NotFittedError: the model is not fitted.

        Example:
            >>> X = torch.randn(20, 5, 2).numpy()  # people, steps, columns
            >>> model = rnam.RNAMRegressor(4, max_epochs=1, random_state=0, verbose=0).fit(X, X[:, :, 0].mean(1))
            >>> live = model.online()
            >>> live.update({"id": 7, "time": 0, "x0": 1.0}).contributions.index.tolist()
            ['x0', 'x1']
        """
        from rnam.estimators.online import Online

        check_is_fitted(self)
        return Online(self, late=late)


class FeedForward(Estimator):
    """Trains an `rnam.NAM`."""

    _flat = True

    hidden: Sequence[int]

    def _encode(self, panel: Panel, chosen: Sequence[tuple[Any, Any]]) -> Encoder:
        return Encoder.fit(panel, pairs=chosen, flat=True)

    def _model(self, encoder: Encoder, out_dim: int) -> NAM:
        columns = encoder.columns("memoryless")
        assert columns is not None  # each column is a term
        return NAM(len(columns), self.hidden, out_dim, columns=columns, missing=True, members=self.members)
