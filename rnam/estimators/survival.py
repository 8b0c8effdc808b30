"""`RNAMSurvival`: the time to an event, by an additive model over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import pandas
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from rnam import _checks
from rnam._checks import shown
from rnam.estimators import survival_outcomes, survival_scores, tables
from rnam.estimators.base import Pairs
from rnam.estimators.labels import Targets
from rnam.estimators.losses import Loss
from rnam.estimators.networks import Recurrent
from rnam.estimators.survival_losses import Method, Scale, SurvivalLoss
from rnam.estimators.survival_outcomes import Origin, Outcomes
from rnam.estimators.tables import Table
from rnam.models.block import CellName
from rnam.panel.schema import At

__all__ = ["RNAMSurvival"]

Array = NDArray[Any]

BINS = 20


class RNAMSurvival(Recurrent):
    """The time from a visit to an event, by a recurrent neural additive model.

    y is a time and an event for each id or each visit: the two targets of a Panel, target=["time", "event"], or a
    structured array of scikit-survival. An event is True, or 1, where it came at that time, and False, or 0, where
    observation ended then without it.

    With labels at visits each visit is a landmark: the model reads the visits up to it, and predicts the time from it
    on, of those who have had no event by then. With labels of ids the last visit of an id is its one landmark.

    method="hazards" cuts time into bins. The model gives the log-odds of the event in each bin, among those who reach
    it (Gensheimer and Narasimhan 2019); inside a bin hazards spread as those of the Kaplan-Meier curve. Without
    features it is that curve. method="ipcw" learns the event by each of `times` alone: the outcomes that are known,
    weighted by the inverse probability of being observed so long. With one time it is a classifier at this horizon.

    Args:
        times: from the visit on, for which survival is predicted where no others are asked for; of "ipcw" the horizons.
        bins: of "hazards": how many, with as many events each, 20 by default; or their right edges, the last of which
            is the latest time that is learned. Each must hold an event.
        method: "hazards" or "ipcw".
        origin: from when y counts. "clock": as the times of the visits do, so that with visits on days 0 and 90 an
            event at 400 comes 310 days after the second. "visit": from the visit of each label, of an id the last.
        time_scale: of the bins. "visit": the time since the visit. "clock": the panel's own times, such as ages; people
            enter at the visit (left truncation), and hazards are functions of age.
        Others: as `RNAMRegressor`.

    Attributes:
        loss_: the bins, their edges, and the curve between them, `SurvivalLoss`.

    Example:
        >>> import pandas
        >>> rng = np.random.default_rng(0)
        >>> df = pandas.DataFrame({"id": np.repeat(np.arange(80), 2), "day": [0, 30] * 80, "x": rng.normal(size=160)})
        >>> df["until"] = np.repeat(31 + rng.exponential(100, 80), 2)
        >>> df["died"] = np.repeat(rng.random(80) < 0.7, 2)
        >>> panel = rnam.Panel.from_frame(
        ...     df, id="id", time="day", values=["x"], target=["until", "died"], at="visit", time_unit="day"
        ... )
        >>> model = rnam.RNAMSurvival(8, times=[30, 60], max_epochs=5, random_state=0, verbose=0).fit(panel)
        >>> model.predict_survival(panel).columns.tolist()
        [30, 60]
    """

    _records: ClassVar[tuple[type, ...]] = (SurvivalLoss,)

    loss_: SurvivalLoss

    def __init__(
        self, hidden: int = 16, *, times: Sequence[float] | float | None = None,
        bins: Sequence[float] | int | None = None, method: Method = "hazards", origin: Origin = "clock",
        time_scale: Scale = "visit", blocks: int = 1, cell: CellName = "mingru", pairs: Pairs = None,
        timescales: tuple[float, float] | Literal["auto"] | None = "auto", continuous: bool | Literal["auto"] = "auto",
        timing: bool = False, members: int = 1, bootstrap: bool = True, regularizer: Mapping[str, float] | None = None,
        learning_rate: float = 0.01, weight_decay: float = 0.1, batch_size: int | Literal["auto"] = "auto",
        max_epochs: int = 40, schedule: Literal["onecycle", "plateau"] = "onecycle", patience: int | None = 15,
        validation: float | Literal["auto"] | None = 0.15, clip: float | None = 1.0, warm_start: bool = False,
        random_state: Any = None, device: str = "auto", precision: Literal["float32", "bf16"] = "float32",
        callbacks: Sequence[Any] | None = None, verbose: int = 1,
    ) -> None:  # fmt: skip
        self._keep(locals())

    def predict(self, X: Any) -> Any:
        """The risk of each id, or of each visit where labels are of visits: higher is earlier. It is the cumulative
        hazard from the visit on, in the mean over the edges of the bins, of method="ipcw" over the horizons. With
        time_scale="clock" it is the mean over as many times from the visit on, which part the events of the training
        part into equal shares; hazards later than what was seen count nothing, and the risk of a visit that is itself
        later is NaN.

        Args:
            X: as in `fit`. Labels are not read.

        Returns:
            Of a Panel and of a frame with an (id, time) index a Series whose index is the ids, or (id, time), in the
            order of the panel; else an array (n,).
        """
        table, output = self._predicted(X)
        return self._answer(table, *self._told(output, self._times(table)))

    def predict_survival(self, X: Any, times: Any = None) -> Any:
        """The probability of no event until each of several times from the visit on.

        Args:
            X: as in `fit`. Labels are not read.
            times: a number, or numbers that rise, in the units of the panel's times; by default those of the model, or
                the edges of its bins.

        Returns:
            A DataFrame with a row for each id, or for each visit where labels are of visits, and a column for each
            time. With time_scale="clock" it is NaN where the visit and the time together are later than what was seen.

        Raises:
            TypeError, ValueError: a time is negative or NaN, or longer than any that was seen in training: nothing is
                known of survival then.
        """
        asked, found, index = self._survival(X, times)
        return pandas.DataFrame(np.exp(found), index=index, columns=pandas.Index(asked, name="time"))

    def predict_risk(self, X: Any, time: float) -> Any:
        """The probability of the event within a time from the visit on, a Series. As `predict_survival`."""
        _checks.real_number("time", time)
        _, found, index = self._survival(X, [time])
        return pandas.Series(-np.expm1(found[:, 0]), index=index, name="risk")

    def score(self, X: Any, y: Any = None) -> float:
        """Harrell's concordance of `predict`, by scikit-survival (the extra `survival`): 0.5 is chance.

        With labels at visits the pairs are of visits, also of the same id, and times count from the visit on.

        Raises:
            ValueError: with time_scale="clock", a visit is later than what was seen in training.
        """
        outcomes, output, start = self._known(X, y)
        risk = self.loss_.risk(output, start)[outcomes.labelled]
        unseen = int(np.isnan(risk).sum())
        if unseen:
            raise ValueError(
                f"visits must be at most at {shown(self.loss_.grid.longest)}, the longest time that was seen in "
                f"training, to have a risk, got {unseen} of {len(risk)} that are later"
            )
        return survival_scores.concordance(outcomes.structured(), risk)

    def brier_score(self, X: Any, y: Any = None, times: Any = None, *, train: Any = None) -> Any:
        """The Brier score over time, by scikit-survival (the extra `survival`): squared errors of predicted survival,
        weighted by the inverse probability of censoring.

        Args:
            X: as in `fit`, with labels.
            y: as in `fit`.
            times: as in `predict_survival`, inside the times of these labels.
            train: a Panel or a pair (X, y) from which the probability of being censored is estimated; by default that
                of X itself.

        Returns:
            A Series with a value for each time.

        Raises:
            ValueError: a time lies outside of those of these labels, or is not predicted for one of the visits.
        """
        outcomes, output, start = self._known(X, y)
        asked = self._asked_times(times)
        survival = np.exp(self.loss_.log_survival(output, start, np.asarray(asked, np.float64)))[outcomes.labelled]
        unseen = np.isnan(survival)
        if unseen.any():
            n = int(unseen.any(0).argmax())
            raise ValueError(
                f"times[{n}] must be predicted for all visits, got {shown(asked[n])}, which {unseen[:, n].sum()} of "
                f"{len(unseen)} reach past {shown(self.loss_.grid.longest)}, the longest time that was seen in training"
            )
        pair = train if isinstance(train, tuple | list) else (train, None)
        like = outcomes if train is None else self._outcomes(tables.read(self, *pair))[0]
        told = survival_scores.brier_scores(like.structured(), outcomes.structured(), survival, np.asarray(asked))
        return pandas.Series(told, index=pandas.Index(asked, name="time"), name="brier")

    # what the base asks for

    def _goes_on(self) -> bool:
        again = super()._goes_on()
        if again:
            for name, fitted in (("method", self.loss_.name), ("time_scale", self.loss_.time_scale)):
                if getattr(self, name) != fitted:
                    raise ValueError(
                        f"{name} must be {fitted!r}, as in the fit that goes on, got {getattr(self, name)!r}; "
                        "warm_start=False begins anew"
                    )
        return again

    def _labels(self, table: Table) -> Targets:
        self._check()
        outcomes, at = self._outcomes(table)
        return Targets(outcomes.table, outcomes.labelled, at, ("time", "event"), False)

    def _told(self, outputs: NDArray[np.float64], times: NDArray[np.float64]) -> tuple[Array, None]:
        return self.loss_.risk(outputs, times)[:, None], None

    @property
    def _told_name(self) -> str:
        return "risk"

    def _read_targets(self, found: Targets, first: bool) -> Targets:
        if first and not Outcomes.of_table(found.values[found.labelled]).event.any():
            raise ValueError(f"y must have an event, got none in {found.labelled.sum()} labels")
        return found

    def _fit_loss(self, target: Array, weight: Array | None) -> Loss:
        edges: Any = self.bins
        if self.method == "ipcw":
            edges = _rising("times", self.times, positive=True)
        elif edges is None or _checks.is_whole_number(edges):
            edges = BINS if edges is None else _checks.positive_int("bins", edges)
        else:
            edges = _rising("bins", edges, positive=True)
        loss = SurvivalLoss.of(self.method, self.time_scale, edges, target, weight)
        if self.times is not None and self.time_scale == "visit":
            _refuse_unseen(_rising("times", self.times), loss)
        return loss

    def _check(self) -> None:
        _checks.one_of("method", self.method, ("hazards", "ipcw"))
        _checks.one_of("origin", self.origin, ("clock", "visit"))
        _checks.one_of("time_scale", self.time_scale, ("visit", "clock"))
        if self.times is not None:
            _rising("times", self.times)
        if self.method == "ipcw":
            if self.times is None:
                raise ValueError("times must be the horizons with method='ipcw', got None")
            if self.bins is not None:
                raise ValueError(f"bins must be left out with method='ipcw', got {self.bins!r}")
        if self.time_scale == "clock":
            if self.method == "ipcw":
                raise ValueError("time_scale must be 'visit' with method='ipcw', got 'clock'")
            if self.origin == "visit":
                raise ValueError("time_scale must be 'visit' with origin='visit', got 'clock'")

    def _outcomes(self, table: Table) -> tuple[Outcomes, At]:
        if table.y is not None:
            return survival_outcomes.of_structured(table.y, table.panel, self.origin)
        if table.panel.target is None:
            told = "a Panel without a target" if table.kind == "panel" else "None"
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is {told}")
        return survival_outcomes.of_panel(table.panel, self.origin), table.panel.at

    def _known(self, X: Any, y: Any) -> tuple[Outcomes, Array, Array]:
        """The outcomes of X, what the model gives for it, and when its visits were."""
        check_is_fitted(self)
        table = tables.read(self, X, y)
        outcomes, at = self._outcomes(table)
        if at != self.at_:
            raise ValueError(f"y must have labels of {self.at_}s, as in the fit, got those of {at}s")
        return outcomes, self._outputs(self.encoder_.transform(table.panel)), self._times(table)

    def _survival(self, X: Any, times: Any) -> tuple[list[Any], Array, Any]:
        """Times, log survival (rows, times), and the index of the rows."""
        check_is_fitted(self)
        asked = self._asked_times(times)
        table, output = self._predicted(X)
        found = self.loss_.log_survival(output, self._times(table), np.asarray(asked, np.float64))
        return asked, found, self._index(table)

    def _asked_times(self, times: Any) -> list[Any]:
        if times is None:
            if self.times is None:
                return list(self.loss_.spans)
            times = self.times
        asked = _rising("times", times)
        if self.loss_.time_scale == "visit":
            _refuse_unseen(asked, self.loss_)
        return asked


def _rising(argument: str, value: Any, positive: bool = False) -> list[Any]:
    """A number, or numbers that rise, as a list: at least 0, or above 0.

    Raises:
        TypeError, ValueError: it is none.
    """
    given = [value] if np.ndim(value) == 0 else list(value)
    if np.ndim(value) > 1 or not given:
        raise ValueError(f"{argument} must be a number or a list of numbers, got {value!r}")
    for n, item in enumerate(given):
        number = _checks.finite_number(f"{argument}[{n}]", item)
        if number < 0 or (positive and number == 0):
            raise ValueError(f"{argument}[{n}] must be {'above' if positive else 'at least'} 0, got {shown(number)}")
    if any(later <= earlier for earlier, later in pairwise(given)):
        raise ValueError(f"{argument} must rise, got {given}")
    return given


def _refuse_unseen(times: Sequence[float], loss: SurvivalLoss) -> None:
    longest = loss.grid.longest
    for n, time in enumerate(times):
        if time > longest:
            what = "horizon" if loss.name == "ipcw" else "time that was seen in training"
            raise ValueError(f"times[{n}] must be at most {shown(longest)}, the longest {what}, got {shown(time)}")
