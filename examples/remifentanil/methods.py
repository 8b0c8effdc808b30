"""Methods, each a function of the records, a fold, a seed and the settings that predicts the fold's concentrations.

All read the rate that held since the record before, age, lean body mass and sex; no concentration is ever read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer
from torch import Tensor, nn

import rnam
from examples.remifentanil.data import FLOOR, STATIC, TARGET, Floats, Fold, Indices, as_panel, averages
from examples.training import fit as epochs_of

TREES = (100, 200, 400)
STRENGTHS = np.logspace(-3, 3, 7)


@dataclass(frozen=True)
class Settings:
    """Of the networks; rate and epochs of the RNAM were tried on one inner fold of the first training part."""

    hidden: int = 16
    blocks: int = 2
    gru_width: int = 32
    batch: int = 8  # people
    learning_rate: float = 0.02  # at its highest
    epochs: int = 80


def recurrent(table: pandas.DataFrame, fold: Fold, seed: int, settings: Settings, *, continuous: bool) -> Any:
    """An RNAM whose memory decays by the minutes that passed; or by steps, with the log gap beside the rate: as a term,
    and in a pair with it."""
    model = rnam.RNAMRegressor(
        settings.hidden, blocks=settings.blocks, continuous=continuous,
        pairs=None if continuous else [("rate", "log_gap")], batch_size=settings.batch,
        learning_rate=settings.learning_rate, max_epochs=settings.epochs, validation=None, random_state=seed,
        device="cpu", verbose=0,
    )  # fmt: skip
    return model.fit(as_panel(table, gap=not continuous)[fold.train])


def told(model: Any, table: pandas.DataFrame, people: Indices, *, continuous: bool) -> Floats:
    """(concentrations of these people,)"""
    panel = as_panel(table, gap=not continuous)[people]
    return np.asarray(model.predict(panel), np.float64)[panel.labelled]


def boosting(table: pandas.DataFrame, fold: Fold, seed: int, settings: Settings) -> Floats:
    """Trees on the averages; how many is chosen on the inner folds."""
    trees = HistGradientBoostingRegressor(learning_rate=0.05, max_leaf_nodes=15, max_features=0.5, random_state=seed)
    return _searched(trees, {"max_iter": TREES}, table, fold)


def splines(table: pandas.DataFrame, fold: Fold, seed: int, settings: Settings) -> Floats:
    """Additive over the averages: a spline of each, with a penalty that is chosen on the inner folds. The seed changes
    nothing."""
    model = make_pipeline(SplineTransformer(5, knots="quantile", extrapolation="linear"), Ridge())
    return _searched(model, {"ridge__alpha": STRENGTHS}, table, fold)


def features(table: pandas.DataFrame) -> Floats:
    """(records, features): logarithms of the exact averages, and what is known of the person."""
    return np.concatenate([np.log(FLOOR + averages(table)), table[list(STATIC)]], axis=1)


def _searched(model: Any, choices: dict[str, Sequence[float]], table: pandas.DataFrame, fold: Fold) -> Floats:
    there = table[TARGET].notna().to_numpy()
    x, y, person = features(table)[there], table[TARGET].to_numpy()[there], table["person"].to_numpy()[there]
    train, test = np.isin(person, fold.train), np.isin(person, fold.test)
    inner = [tuple(np.flatnonzero(np.isin(person[train], people)) for people in both) for both in fold.inner]
    search = GridSearchCV(model, choices, scoring="neg_mean_squared_error", cv=inner).fit(x[train], y[train])
    return np.asarray(search.predict(x[test]))


def gru(table: pandas.DataFrame, fold: Fold, seed: int, settings: Settings) -> Floats:
    """A black box: a GRU that reads rate, log gap, age, lean mass and sex at once."""
    panel = as_panel(table, gap=True)
    whole, train = panel.padded(), np.isin(panel.ids, fold.train)
    columns, target = whole["values"], whole["target"][..., 0]
    columns = np.concatenate([columns, np.repeat(whole["static"][:, None], columns.shape[1], axis=1)], axis=-1)
    known = train[:, None] & ~np.isnan(target)
    mean, sd, level, spread = columns[known].mean(0), columns[known].std(0), target[known].mean(), target[known].std()
    x = torch.tensor(np.nan_to_num((columns - mean) / sd), dtype=torch.float32)  # padding lies at the end
    y = torch.tensor((target - level) / spread, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        cell, head = nn.GRU(x.shape[-1], settings.gru_width, batch_first=True), nn.Linear(settings.gru_width, 1)

    def predicted(columns: Tensor) -> Tensor:
        return torch.squeeze(head(cell(columns)[0]), -1)

    def batches(epoch: int) -> Sequence[Tensor]:
        order = np.random.default_rng([seed, epoch]).permutation(np.flatnonzero(train))
        return torch.tensor(order).split(settings.batch)

    def loss(batch: Tensor) -> Tensor:
        seen = y[batch].isfinite()
        return (predicted(x[batch])[seen] - y[batch][seen]).square().mean()

    model, rate, epochs = nn.ModuleList([cell, head]), settings.learning_rate, settings.epochs
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    for _ in epochs_of(model, optimizer, batches, loss, rate=rate, epochs=epochs, running=None):
        pass
    with torch.no_grad():
        found = predicted(x).double().numpy() * spread + level
    return np.asarray(found[~train[:, None] & ~np.isnan(target)])
