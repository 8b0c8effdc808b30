"""`Estimator`: what the classifiers and the regressors share, from a table to a trained model and back to y's units."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import pandas
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from rnam import _checks
from rnam.estimators import labels, pairs, tables
from rnam.estimators.encoding import Encoder
from rnam.estimators.labels import Targets
from rnam.estimators.losses import Loss
from rnam.estimators.samples import Sample
from rnam.estimators.start import start_level
from rnam.estimators.tables import Table
from rnam.estimators.training import Batches, Settings, choose_device, outputs, seeded, train
from rnam.explain.names import describe
from rnam.models.nam import NAM
from rnam.models.rnam import RNAM
from rnam.panel import Panel
from rnam.panel.columns import plain
from rnam.panel.schema import At
from rnam.sklearn import tables as numbers

if TYPE_CHECKING:
    from rnam.explanation import Explanation

__all__ = ["Estimator", "Pairs"]

Array = NDArray[Any]
Pairs = Sequence[tuple[Any, Any]] | int | None

READ_AT_ONCE = 1024  # sequences of a batch of predictions
STEPS, BATCHES = 10, (32, 512)  # of an epoch with batch_size="auto", and the least and the greatest size of a batch
SHARE, FEWEST = 0.15, 1000  # held out with validation="auto", where there are at least so many labels


class Estimator(BaseEstimator):  # type: ignore[misc]
    """A model that is trained from a table.

    Attributes:
        model_: the `rnam.RNAM` or `rnam.NAM`, in eval mode, whose terms are called as the columns.
        encoder_: from columns to what the model reads, `Encoder`.
        loss_: what the outputs say in the units of y, `Loss`.
        history_: a dict for each epoch, with the losses of the training and the held-out part and the learning rate.
        best_epoch_: whose weights were kept; None without a held-out part.
        seed_: of the held-out part, drawn from random_state in the first fit. One that goes on (`warm_start`) holds out
            the same ids of the same data, also where random_state is None.
        interrupted_: whether Ctrl-C ended the fit. A model of a file that does not say so has no such attribute.
        pairs_: the pairs of columns that have a term.
        schema_: a Panel of the training columns without ids: `rnam.Panel.from_frame(df, like=model.schema_)`.
        table_: what X was in `fit`: "panel", "visits", "array" or "rows".
        at_: where labels are: "id" or "visit".
        target_names_, single_target_: of the targets, and whether y had one dimension.
        n_features_in_, feature_names_in_: as scikit-learn's.
    """

    _flat = False  # whether the model reads each visit by itself

    # what `save` writes beside model_: what each class adds to a fit, and the dataclasses in it
    _saved: ClassVar[tuple[str, ...]] = (
        "encoder_", "loss_", "history_", "best_epoch_", "seed_", "interrupted_", "pairs_", "schema_", "table_", "at_",
        "target_names_", "single_target_", "n_features_in_", "feature_names_in_",
    )  # fmt: skip
    _records: ClassVar[tuple[type, ...]] = (Encoder, Loss)

    loss: str | Callable[..., Any]
    pairs: Pairs
    members: int
    bootstrap: bool
    regularizer: Mapping[str, float] | None
    learning_rate: float
    weight_decay: float
    batch_size: int | Literal["auto"]
    max_epochs: int
    schedule: Literal["onecycle", "plateau"]
    patience: int | None
    validation: float | Literal["auto"] | None
    clip: float | None
    warm_start: bool
    random_state: Any
    device: str
    precision: Literal["float32", "bf16"]
    callbacks: Sequence[Any] | None
    verbose: int

    at_: At  # what a fit learns; the others have one place where they are set

    def _keep(self, given: Mapping[str, Any]) -> None:
        """The arguments of `__init__`, as they are."""
        for name in self._get_param_names():
            setattr(self, name, given[name])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inputs = tags.input_tags
        inputs.allow_nan = inputs.string = inputs.categorical = inputs.three_d_array = True
        tags.target_tags.required = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    # what a kind of model adds

    def _encode(self, panel: Panel, chosen: Sequence[tuple[Any, Any]]) -> Encoder:
        raise NotImplementedError

    def _model(self, encoder: Encoder, out_dim: int) -> RNAM | NAM:
        raise NotImplementedError

    # what a kind of label adds

    def _labels(self, table: Table) -> Targets:
        """The labels of a table, as they came."""
        return labels.read(self, table)

    def _read_targets(self, found: Targets, first: bool) -> Targets:
        """Labels as numbers, or classes as codes; of a new fit, or of one whose classes are known."""
        raise NotImplementedError

    def _fit_loss(self, target: Array, weight: Array | None) -> Loss:
        raise NotImplementedError

    def _label_weight(self, target: Array) -> Array | None:
        """A weight for each label, beside those of the samples, that other labels do not change."""
        return None

    def _balanced(self, training: Sample, held_out: Sample | None) -> tuple[Sample, Sample | None]:
        """Both parts with the weights that the labels of the training part ask for."""
        return training, held_out

    def _told(self, outputs: NDArray[np.float64], times: NDArray[np.float64]) -> tuple[Array, Sequence[Any] | None]:
        """Predictions from the model's `outputs` (rows, out_dim) at these times (rows,): of visits, or of the last
        visit of each id. Returns (rows, columns) and the names of the columns, or None where there is one column,
        without a second dimension."""
        raise NotImplementedError

    @property
    def _told_name(self) -> Any:
        """The name of a prediction of one column."""
        return self.target_names_[0]

    @property
    def _classes(self) -> tuple[Any, ...]:
        return ()

    def fit(
        self, X: Any, y: Any = None, *, validation: Any = None, sample_weight: Any = None, groups: Any = None
    ) -> Self:
        """Train a model from X and y.

        X may be a Panel; a frame with an (id, time) index; an array (n, T, columns) with NaN where there is nothing; or
        a frame or array of rows, each of which is an id with one visit. Words, categories and bools are levels, and NaN
        is a gap. Infinities are refused.

        Args:
            X: as above.
            y: labels of ids, (n,) or (n, targets); or of visits, one for each row of a frame with such an index, or
                (n, T) of an array. None takes the target of the panel.
            validation: a Panel, or a pair (X, y): the held-out part, in the place of a share of the ids.
            sample_weight: of ids or visits, as labels are; the panel's own by default.
            groups: of ids, which stay together in the held-out part and in the bootstrap samples of members; the
                panel's own by default.

        Where X has ids, the index of a Series must hold them, and its items are found by it. All else goes by its
        place.

        Raises:
            TypeError, ValueError: X or y is not one of these, or holds what cannot be learned from; a parameter is out
                of its range. It names the column, the id or the argument.
        """
        again = self._goes_on()
        random = check_random_state(self.random_state)
        seed = int(random.randint(2**31 - 1))
        whole = self._first_table(X, y, sample_weight, groups, again)
        if not (again and hasattr(self, "seed_")):
            self.seed_ = seed
        training, held_out = self._balanced(*self._held_out(whole, validation))
        settings = self._settings(training, seed)
        if again:
            self._run(training, held_out, settings, warm=True)
            self._warn(f"the fit {self._ended()}")
            return self
        chosen = self._chosen_pairs()
        count = chosen if isinstance(chosen, int) else 0
        if count:
            pairs.check_names(training.panel)
        self._make(training, () if isinstance(chosen, int) else chosen, seed)
        self._run(training, held_out, settings)
        told = f"the fit {self._ended()}"
        if count and self.interrupted_:
            told += "; pairs were not searched for"
        elif count:
            told = self._add_pairs(training, held_out, settings, count, seed)
        self._warn(told)
        return self

    def contributions(self, X: Any) -> Any:
        """The part of each term in the prediction, before the link, in the units of y.

        Args:
            X: as in `fit`.

        Returns:
            A DataFrame with a row for each prediction and a column for each term; of several outputs the columns have
            two levels, (output, term). With `intercept_` their sum is decision_function of a classifier, and the
            prediction of a regressor, of loss="poisson" its logarithm.
        """
        check_is_fitted(self)
        table = tables.read(self, X)
        values, columns = self._by_term(self._contributions(self.encoder_.transform(table.panel)))
        return pandas.DataFrame(values, index=self._index(table), columns=columns)

    def explain(self, X: Any, y: Any = None, *, background: Any = None, output: str | int | None = None) -> Explanation:
        """Explain the model on X: importance, shapes, people, responses, and how far to trust them.

        Args:
            X: as in `fit`.
            y: the labels, for answers that compare with them; None takes the target of the panel.
            background: what contributions are centred on, and whose values and histories count as what occurred: the
                training panel. X itself by default.
            output: the name of an output, where there are several. Of survival None is the mean over the bins.

        Raises:
            sklearn.exceptions.NotFittedError: the model is not fitted.
            TypeError, ValueError: X is not as in the fit; output is none of the model's, or is needed.
        """
        from rnam.explanation import Explanation  # which takes what an estimator need not

        check_is_fitted(self)
        return Explanation(self, X, y, background, output)

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the fitted model into a folder, as JSON and safetensors; `rnam.load` reads it.

        Parameters that are code, such as callbacks, are refused: `set_params(callbacks=None)` before leaves them out.

        Args:
            path: of the folder, which is made; the folder above it must be there.
            overwrite: replace the model that is there.

        Raises:
            TypeError, FileExistsError, NotADirectoryError: as `rnam.save`; nothing is written then.
        """
        from rnam.estimators import saving  # which takes safetensors

        saving.save(self, path, overwrite=overwrite)

    @property
    def intercept_(self) -> NDArray[np.float64]:
        """(outputs,), what contributions are added to, in the units of y."""
        bias = self.model_.gam.bias.detach().double().cpu().numpy().reshape(-1, self.loss_.out_dim).mean(0)
        return np.asarray(self.loss_.decision(bias[None])[0])

    def _goes_on(self) -> bool:
        _checks.boolean_flag("warm_start", self.warm_start)
        return self.warm_start and hasattr(self, "model_")

    def _settings(self, training: Sample, seed: int) -> Settings:
        size = self.batch_size
        if size == "auto":
            size = int(np.clip(2 ** round(math.log2(training.learned(self._flat) / STEPS)), *BATCHES))
        if self.callbacks is not None and not isinstance(self.callbacks, list | tuple):
            raise TypeError(f"callbacks must be None or a list of skorch's, got {type(self.callbacks).__name__}")
        return Settings(
            self.learning_rate, self.weight_decay, size, self.max_epochs, self.schedule, self.patience, self.clip,
            self.regularizer, self.bootstrap, self.precision, self.device, seed, tuple(self.callbacks or ()),
            self.verbose,
        )  # fmt: skip

    def _first_table(self, X: Any, y: Any, sample_weight: Any, groups: Any, again: bool) -> Sample:
        """X and y of a fit. Their kinds and names are noted, and must be the same where the fit goes on."""
        table = tables.read(self, X, y) if again else tables.learn(self, X, y)
        found = self._known_labels("y", table) if again else self._labels(table)
        target = self._read_targets(found, first=not again)
        if not again:
            self.schema_, self.table_, self.at_ = tables.empty(table.panel), table.kind, found.at
            self.target_names_, self.single_target_ = found.names, found.single
        return self._sample(table, target, sample_weight, groups)

    def _sample(self, table: Table, found: Targets, sample_weight: Any, groups: Any) -> Sample:
        panel = table.panel
        if self._flat and found.at == "id" and (panel.lengths > 1).any():
            which = panel.ids[int(panel.lengths.argmax())]
            raise ValueError(
                f"{type(self).__name__} reads one visit of each id where labels are of ids, got "
                f"{panel.lengths.max()} of {panel.schema.id_name} {plain(which)!r}; an RNAM reads all of them"
            )
        weight = labels.weight_of(sample_weight, table, found)
        groups = panel.groups if groups is None else labels.for_each_id("groups", groups, table)
        numbered = None if groups is None else numbers.distinct("groups", np.asarray(groups))
        sample = Sample(panel, found.values, found.labelled, found.at, weight, numbered)
        own = self._label_weight(found.values[found.labelled])
        return sample if own is None else sample.weighed(own)

    def _held_out(self, whole: Sample, validation: Any) -> tuple[Sample, Sample | None]:
        if validation is None:
            share: float | str = 0.0 if self.validation is None else self.validation
            if share == "auto":
                share = SHARE if whole.labelled.sum() >= FEWEST else 0.0
            share = _checks.probability("validation", share)
            if not share:
                return whole, None
            return whole.split(share, np.random.default_rng(self.seed_), len(self._classes))
        if isinstance(validation, tuple | list) and len(validation) == 2:
            X, y = validation
        else:
            X, y = validation, None
            if not isinstance(X, Panel):
                raise TypeError(f"validation must be a Panel or a pair (X, y), got {type(X).__name__}")
        table = tables.read(self, X, y)
        found = self._known_labels("validation", table)
        return whole, self._sample(table, self._read_targets(found, first=False), None, None)

    def _known_labels(self, argument: str, table: Table) -> Targets:
        """The labels of a table, which must be of what the fit had, in its order.

        Raises:
            ValueError: they are not; or as `_labels`.
        """
        found, names = self._labels(table), tuple(self.target_names_)
        if found.at != self.at_ or len(found.names) != len(names):
            raise ValueError(
                f"{argument} must have {len(names)} labels at each {self.at_}, as in the fit, got {len(found.names)} "
                f"at each {found.at}"
            )
        if found.names != names and set(found.names) == set(names):
            raise ValueError(
                f"{argument} must have the targets {', '.join(names)} in this order, as in the fit, got "
                f"{', '.join(found.names)}"
            )
        return found

    def _chosen_pairs(self) -> list[tuple[Any, Any]] | int:
        if self.pairs is None:
            return []
        if _checks.is_whole_number(self.pairs):
            return _checks.whole_number("pairs", self.pairs)
        if isinstance(self.pairs, str) or not isinstance(self.pairs, Sequence):
            raise TypeError(f"pairs must be None, an int or a list of pairs of names, got {self.pairs!r}")
        return list(self.pairs)

    def _make(self, training: Sample, chosen: Sequence[tuple[Any, Any]], seed: int) -> None:
        """An encoder, a loss and a model that is not trained yet, for these columns and labels."""
        encoder = self._encode(training.panel, chosen)
        weight = None if training.weight is None else training.weight[training.labelled]
        loss = self._fit_loss(training.target[training.labelled], weight)
        with seeded(seed, choose_device(self.device)):
            model = self._model(encoder, loss.out_dim).float()  # whatever torch's default dtype is
        start_level(model)
        self.encoder_, self.loss_, self.pairs_ = encoder, loss, [tuple(pair) for pair in chosen]
        terms = [term.name for term in encoder.terms]
        describe(model, terms, [term.unit for term in encoder.terms], self._output_names())
        self.model_ = model

    def _add_pairs(self, training: Sample, held_out: Sample | None, settings: Settings, count: int, seed: int) -> str:
        """A second fit, with the pairs that the residuals of the first one show; returns what to tell of Ctrl-C.

        Where that ends it, the model is kept that does better on the held-out part; without one that of the first fit,
        which is whole."""
        first = {name: value for name, value in vars(self).items() if name.endswith("_")}
        try:
            found = pairs.search(training.panel, training.rows(), *self._residuals(training), count)
            if not found:
                return ""
            self._make(training, found, seed)
            self._run(training, held_out, settings)
            if not self.interrupted_ or _least(self.history_) < _least(first["history_"]):
                return f"the fit with pairs {self._ended()}"
            epochs = len(self.history_)
        except KeyboardInterrupt:
            epochs = 0
        self.__dict__.update(first, interrupted_=True)
        return (
            f"the fit with pairs was interrupted after {epochs} epochs; the model of the first fit, without pairs, "
            "is kept"
        )

    def _ended(self) -> str:
        kept = "the last weights" if self.best_epoch_ is None else f"the weights of epoch {self.best_epoch_}"
        return f"was interrupted after {len(self.history_)} epochs and keeps {kept}"

    def _warn(self, told: str) -> None:
        """Warns of an interrupted fit, at its end, where the model is whole."""
        if self.interrupted_:
            warnings.warn(told, RuntimeWarning, stacklevel=3)

    def _run(self, training: Sample, held_out: Sample | None, settings: Settings, warm: bool = False) -> None:
        """Trains the model."""
        try:
            valid: Batches | None = None if held_out is None else held_out.batches(self.encoder_)
            fitted = train(self.model_, self.loss_, training.batches(self.encoder_), valid, settings, warm=warm)
        except BaseException:  # Ctrl-C before the first batch, too
            if not warm or not all(own.isfinite().all() for own in self.model_.parameters()):
                del self.model_  # which is not fitted
            raise
        self.history_, self.best_epoch_ = fitted.history, fitted.best_epoch
        self.interrupted_ = fitted.interrupted

    def _residuals(self, sample: Sample) -> tuple[Array, Array]:
        """The negative gradient of each label's loss in the outputs (labels, out_dim), and the label's weight."""
        found = torch.from_numpy(self._outputs(self.encoder_.transform(sample.panel))[sample.labelled])
        found.requires_grad_()
        target = self.loss_.scaled(sample.target[sample.labelled])
        (slope,) = torch.autograd.grad(self.loss_(found, target).sum(), found)
        weight = np.ones(len(found)) if sample.weight is None else sample.weight[sample.labelled]
        return -slope.numpy(), weight

    def _outputs(self, inputs: Any) -> NDArray[np.float64]:
        return outputs(self.model_, inputs, at=self.at_, batch_size=READ_AT_ONCE)

    def _contributions(self, inputs: Any) -> NDArray[np.float64]:
        """float64 (rows, terms, out_dim), in the model's own units."""
        found = outputs(self.model_, inputs, at=self.at_, batch_size=READ_AT_ONCE, by_term=True)
        return found.swapaxes(0, 1)

    def _by_term(self, contributions: NDArray[np.float64]) -> tuple[NDArray[np.float64], Any]:
        """Contributions (rows, terms, out_dim) of the model in the units of y, (rows, columns), and a pandas Index of
        these columns: the terms, of several outputs (output, term)."""
        terms, names = [term.name for term in self.encoder_.terms], self._output_names()
        columns = pandas.Index(terms)
        if len(names) > 1:
            columns = pandas.MultiIndex.from_product([names, terms], names=["output", "term"])
        found = contributions * np.asarray(self.loss_.gain)
        return found.transpose(0, 2, 1).reshape(len(found), len(columns)), columns

    def _predicted(self, X: Any) -> tuple[Table, NDArray[np.float64]]:
        """The model's outputs for X, a row for each id or visit."""
        check_is_fitted(self)
        table = tables.read(self, X)
        found = self._outputs(self.encoder_.transform(table.panel))
        numbers.warn_of_overflow(found)
        return table, found

    def _times(self, table: Table) -> NDArray[np.float64]:
        """When predictions are made: at each visit, or at the last one of each id."""
        panel = table.panel
        return panel.times if self.at_ == "visit" else panel.times[panel.last]

    def _output_names(self) -> list[str]:
        return self.loss_.output_names(self.target_names_, self._classes)

    def _index(self, table: Table) -> Any:
        """The index of predictions: ids, or ids and times; numbers from 0 for rows and arrays."""
        panel = table.panel
        if self.at_ == "id":
            return panel.ids if table.kind in ("panel", "visits") else pandas.RangeIndex(len(panel))
        owners = panel.ids.repeat(panel.lengths)
        levels = [owners.get_level_values(n) for n in range(owners.nlevels)]
        return pandas.MultiIndex.from_arrays([*levels, panel.stamps], names=[*owners.names, panel.schema.clock.name])

    def _answer(self, table: Table, found: Array, names: Sequence[Any] | None) -> Any:
        """Predictions (rows, columns) as X was: a Series or a DataFrame for a panel or an (id, time) frame, else an
        array, of labels at steps (n, T, columns).

        Args:
            names: of the columns; None where there is one, without a second dimension.
        """
        single = names is None
        if table.kind in ("panel", "visits"):
            index = self._index(table)
            if names is None:
                return pandas.Series(found[:, 0], index=index, name=self._told_name)
            return pandas.DataFrame(found, index=index, columns=pandas.Index(names))
        if self.at_ == "visit":
            missing: Any = np.nan if found.dtype.kind == "f" else None
            spread = np.full(
                (len(table.panel), table.steps, found.shape[1]), missing, found.dtype if missing else object
            )
            spread[table.cells()] = found
            found = spread
        return found[..., 0] if single else found


def _least(history: Sequence[Mapping[str, Any]]) -> float:
    """The least held-out loss; infinite without one."""
    return min((row["valid_loss"] for row in history if "valid_loss" in row), default=math.inf)
