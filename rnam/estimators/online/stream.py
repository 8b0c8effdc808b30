"""`Online`: a fitted model that goes on from the state of each id, as visits come."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
import torch
from numpy.typing import NDArray

from rnam import _checks
from rnam.estimators.encoding import Encoder, Inputs
from rnam.estimators.online import files
from rnam.estimators.online.answers import Answer
from rnam.estimators.online.store import Store
from rnam.estimators.online.visits import Late, read
from rnam.models.rnam import RNAM
from rnam.models.streaming import State, Streamed
from rnam.panel.columns import plain
from rnam.panel.storage import Integers, ragged

__all__ = ["Online", "resume"]

Array = NDArray[Any]

_NUMBERS = 2**22  # of hidden states that one call of the model makes at most, 16 MB of float32


class Online:
    """A model with the state of each id, which takes visits as they come. `model.online()` makes one.

    The numbers are those of the whole history of an id, to rounding, and a visit takes the time of one step: the model
    reads no earlier visit again. The model is kept as it was when this was made: states of one fit mean nothing to the
    next one, so a later `fit` of the estimator, `warm_start` or a move to a device has no part in it.

    Args:
        model: a fitted RNAM estimator, which is copied.
        late: "refuse" a visit that is not after the last one of its id, or "ignore" it.

    Example:
        >>> rows = [(7, 85, 1.6, 0), (7, 87, 1.8, 0), (8, 87, 2.4, 1), (8, 88, 2.5, 1)]
        >>> df = pandas.DataFrame(rows, columns=["idcode", "year", "ln_wage", "union"])
        >>> panel = rnam.Panel.from_frame(df, id="idcode", time="year", values=["ln_wage"], target="union", at="visit")
        >>> model = rnam.RNAMClassifier(4, max_epochs=1, validation=None, random_state=0, verbose=0).fit(panel)
        >>> live = model.online()
        >>> history = live.update(panel)
        >>> answer = live.update({"idcode": 7, "year": 88, "ln_wage": 1.9})
        >>> answer.prediction in (0, 1), answer.contributions.index.tolist()
        (True, ['ln_wage'])
        >>> live
        Online(RNAMClassifier): 2 ids (idcode)
    """

    def __init__(self, model: Any, *, late: Late = "refuse") -> None:
        _checks.one_of("late", late, ("refuse", "ignore"))
        if not isinstance(getattr(model, "model_", None), RNAM):
            raise TypeError(f"model must be a fitted RNAM estimator, got {type(model).__name__}")
        self._model = copy.copy(model)
        self._model.model_ = copy.deepcopy(model.model_)  # which warm_start trains in place
        self.late = late
        schema = model.schema_.schema
        static = len(schema.static), len(schema.static_categories)
        self._store = Store(_before_any(model.model_, model.encoder_), static)

    @property
    def model(self) -> Any:
        """The estimator, as it was when this was made."""
        return self._model

    @property
    def ids(self) -> Any:
        """A pandas Index of the ids that are there, in the order in which they came."""
        name = self._model.schema_.schema.id[0]
        return pandas.Index(list(self._store.ids), name=name, tupleize_cols=False)

    def __len__(self) -> int:
        """The number of ids."""
        return len(self._store)

    def __contains__(self, id: object) -> bool:
        return id in self._store

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._store.ids)

    def __getitem__(self, id: Hashable) -> State:
        """The state of an id, `rnam.State` of one row, in memory of its own.

        Raises:
            KeyError: there is no such id.
        """
        self._require(id)
        return self._store.state(self._store.rows([id]))

    def __repr__(self) -> str:
        name = self._model.schema_.schema.id[0]
        return f"Online({type(self._model).__name__}): {len(self):,} {'id' if len(self) == 1 else 'ids'} ({name})"

    def update(self, visits: Any) -> Answer:
        """Go on with visits, and say what the model predicts after each.

        Where anything is refused, all states are as before.

        Args:
            visits: one as a dict or a Series, by the names of the panel's columns; or several, of one id or many, as a
                DataFrame or a Panel. The visits of an id are in order of time. A value that is NaN or absent is a gap:
                a visit may bring a few columns alone. Words that the model was not fitted on are gaps, too. Static
                columns may come with any visit, and count from the call that brings them on, for all visits in it.
                Targets, weights and groups of the panel are not read.

        Raises:
            TypeError, ValueError: a column is unknown; an id or a time is missing; a visit is late, or comes twice, and
                `late` is "refuse"; a static value differs from the one before; or as `rnam.Panel.from_frame` does.
        """
        model, store = self._model, self._store
        arrived = read(visits, model.schema_.schema, store, self.late)
        terms, out_dim = model.model_.sizes()
        outputs, contributions = (np.empty((len(arrived.places), *shape)) for shape in ((out_dim,), (terms, out_dim)))
        if arrived.panel is not None:
            inputs, ids = model.encoder_.transform(arrived.panel), [plain(id) for id in arrived.panel.ids]
            steps = list(_advance(model.model_, inputs, store, store.rows(ids)))
            for step in steps:
                outputs[step.visits], contributions[step.visits] = step.outputs, step.contributions
            for step in steps:
                store.put([ids[n] for n in step.positions], step.state, arrived.known.take(step.positions))
            outputs, contributions = outputs[arrived.places], contributions[arrived.places]
        return Answer(model, outputs, contributions, arrived)

    def forget(self, id: Hashable) -> None:
        """Forget an id: its state, its last time and its static values. Its next visit is a first one.

        Raises:
            KeyError: there is no such id.
        """
        self._require(id)
        self._store.forget(id)

    def save(self, path: str | Path) -> None:
        """Write the states of all ids to a file of safetensors, without pickle: `resume` reads it.

        Raises:
            TypeError: an id is neither a word, a number nor a bool.
            IsADirectoryError: the path is a folder.
            FileNotFoundError, NotADirectoryError: there is no folder in which the file would be.
        """
        files.write(Path(path), self._store, files.fingerprint(self._model))

    def _require(self, id: Hashable) -> None:
        if id not in self._store:
            raise KeyError(f"no {self._model.schema_.schema.id[0]} {id!r} among {len(self)} ids")


def resume(model: Any, path: str | Path, *, late: Late = "refuse") -> Online:
    """The states that `Online.save` wrote, with their model.

    Args:
        model: the fitted estimator that wrote them, or a copy, or what `rnam.load` gives of it.
        path: of the file.
        late: as in `Online`.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no file; there is a folder in its place.
        ValueError: the file is none of these, damaged, of a later version or of another model.

    Example:
        >>> import tempfile
        >>> X = np.random.default_rng(0).normal(size=(20, 5, 2))  # people, steps, columns
        >>> model = rnam.RNAMRegressor(4, max_epochs=1, random_state=0, verbose=0).fit(X, X[:, :, 0].mean(1))
        >>> live = model.online()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     told = live.update({"id": 7, "time": 0, "x0": 1.0})
        ...     live.save(f"{folder}/7.states")
        ...     len(resume(model, f"{folder}/7.states"))
        1
    """
    live = Online(model, late=late)
    files.read(Path(path), live._store, files.fingerprint(model))
    return live


class _Step(NamedTuple):
    """The result of a call of the model: positions (ids,) in the inputs; visits (visits,), the places of theirs;
    outputs (visits, out_dim) and contributions (visits, terms, out_dim); the state of the ids after them."""

    positions: Integers
    visits: Integers
    outputs: Array
    contributions: Array
    state: State


def _advance(network: RNAM, inputs: Inputs, store: Store, rows: Integers) -> Iterator[_Step]:
    """The network's calls on sequences that go on from these rows of a store. Sequences of about one length go
    together, since they are padded to the longest."""
    lengths = inputs.lengths
    order = np.argsort(lengths, kind="stable")
    most = max(1, _NUMBERS // (network.members * (network.terms + network.timing) * network.hidden_dim))
    first = 0
    while first < len(order):
        last = first + 1
        while last < len(order) and (last + 1 - first) * lengths[order[last]] <= most:
            last += 1
        positions = order[first:last]
        first = last
        told = _call(network, inputs, positions, store.state(rows[positions]))
        there = np.arange(lengths[positions[-1]]) < lengths[positions][:, None]
        by_visit = told.contributions.movedim(0, 2).double().cpu().numpy()[there]
        outputs = told.prediction.double().cpu().numpy()[there]
        yield _Step(positions, ragged(inputs.offsets[positions], lengths[positions]), outputs, by_visit, told.state)


def _call(network: RNAM, inputs: Inputs, positions: Integers, state: State | None) -> Streamed:
    """The network's answer at every visit of these sequences."""
    batch = inputs.batch(positions, network.gam.bias.device)
    with torch.no_grad():
        told: Streamed = network(**batch, state=state, return_sequence=True, return_state=True)
    return told


def _before_any(network: RNAM, encoder: Encoder) -> State:
    """A state of one row, as the network gives it after a visit without a value; rows of a store are like it."""
    values, facts = (
        np.zeros((1, sum(len(getattr(feature, columns)) for feature in encoder.features)), np.float32)
        for columns in ("visit_columns", "static_columns")
    )
    times = np.zeros(1) if encoder.timed else None
    nothing = Inputs(values, values != 0, times, facts, facts != 0, np.arange(2), False)
    return _call(network, nothing, np.zeros(1, np.int64), None).state
