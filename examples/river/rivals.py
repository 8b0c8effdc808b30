"""Other models of the same weather. Each is a function of the days, a block and a seed that predicts the block's days.

All choices are made on the inner folds of the training part, and all scaling is by its days.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.preprocessing import SplineTransformer, StandardScaler
from torch import Tensor, nn

import rnam
from examples import ebm
from examples.river.data import INNER, WEATHER, Block, Floats, Indices, rows
from examples.training import fit as epochs_of

Rival = Callable[[pandas.DataFrame, Block, int], Floats]

LAGS, AVERAGES = 8, (2, 4, 8, 16, 32, 64, 128)  # days
REACH, KNOTS = 120, (0, 1, 2, 4, 8, 15, 30, 60, 120)  # of distributed lags, days
STRENGTHS = np.logspace(-1, 5, 13)
TREES = 400
GRU_EPOCHS, GRU_WIDTH = (20, 40), 32


def lagged(days: pandas.DataFrame) -> tuple[Floats, list[str]]:
    """(days, features): each column of today and of the 7 days before, and its exponential averages up to 128 days."""
    found = {}
    for name in WEATHER:
        column = days[name]
        found |= {f"{name} -{lag}": column.shift(lag).bfill() for lag in range(LAGS)}
        found |= {f"{name} ~{scale}": column.ewm(com=scale).mean() for scale in AVERAGES}
    return pandas.DataFrame(found).to_numpy(np.float64), list(found)


def distributed(days: pandas.DataFrame, known: Indices) -> Floats:
    """(days, features): splines of each column, added over lags of 0 to 120 days with weights that are splines of the
    logarithm of the lag. Knots, and the range to which values are clamped, are those of the days `known`."""
    lag = np.log1p(np.arange(REACH + 1))[:, None]
    knots = np.log1p(np.array(KNOTS, np.float64))[:, None]
    weights = SplineTransformer(degree=2, knots=knots).fit_transform(lag)
    found = []
    for name in WEATHER:
        column = days[name].to_numpy(np.float64)[:, None]
        places = np.quantile(column[known], [0, 0.9, 1])[:, None]
        values = SplineTransformer(degree=2, knots=places, extrapolation="constant").fit(column[known])
        basis = values.transform(column)
        before = np.repeat(basis[:365].mean(0, keepdims=True), REACH, 0)  # of the year before the record
        padded = np.concatenate([before, basis])
        for weight in weights.T:
            found.append(sum(w * padded[REACH - n : len(padded) - n] for n, w in enumerate(weight) if w))
    return np.concatenate(found, axis=1)


def _inner(block: Block) -> list[tuple[Indices, Indices]]:
    return [(rows(train), rows(held)) for train, held in block.inner]


def _chosen(errors: Sequence[Sequence[float]], choices: Sequence[float]) -> float:
    """Of least mean error, (inner folds, choices)."""
    return choices[int(np.mean(errors, axis=0).argmin())]


def _ridge(features: Floats, target: Floats, block: Block) -> Floats:
    def fitted(train: Indices, test: Indices, strength: float) -> Floats:
        scaler = StandardScaler().fit(features[train])
        # in sigma of the training days: what is further off than those ever were is clamped
        low, high = features[train].min(0), features[train].max(0)
        x = scaler.transform(np.clip(features, low, high))
        return np.asarray(Ridge(strength).fit(x[train], target[train]).predict(x[test]))

    errors = [
        [float(np.mean((fitted(train, held, strength) - target[held]) ** 2)) for strength in STRENGTHS]
        for train, held in _inner(block)
    ]
    return fitted(rows(block.train), rows(block.test), _chosen(errors, STRENGTHS))


def ridge(days: pandas.DataFrame, block: Block, seed: int) -> Floats:
    """Linear in lags and exponential averages."""
    return _ridge(lagged(days)[0], days["log_flow"].to_numpy(), block)


def distributed_lags(days: pandas.DataFrame, block: Block, seed: int) -> Floats:
    """Additive over columns and lags, a spline of each, as Gasparrini's distributed lag non-linear models are."""
    return _ridge(distributed(days, rows(block.train)), days["log_flow"].to_numpy(), block)


def boosting(days: pandas.DataFrame, block: Block, seed: int) -> Floats:
    """Trees on lags and exponential averages; how many is chosen."""
    features, target = lagged(days)[0], days["log_flow"].to_numpy()

    def grown(train: Indices, trees: int) -> HistGradientBoostingRegressor:
        model = HistGradientBoostingRegressor(
            max_iter=trees, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=20, early_stopping=False,
            max_features=0.3, random_state=seed,
        )  # fmt: skip
        return model.fit(features[train], target[train])

    errors = [
        [float(np.mean((told - target[held]) ** 2)) for told in grown(train, TREES).staged_predict(features[held])]
        for train, held in _inner(block)
    ]
    trees = int(_chosen(errors, range(1, TREES + 1)))
    return np.asarray(grown(rows(block.train), trees).predict(features[rows(block.test)]))


def boosted_additive(days: pandas.DataFrame, block: Block, seed: int) -> Floats:
    """interpret's EBM on lags and exponential averages."""
    features, names = lagged(days)
    known = rows(block.train)
    model = ebm.fit(features[known], days["log_flow"].to_numpy()[known], names, seed, binary=False)
    return np.asarray(model.predict(features[rows(block.test)]), np.float64)


class _Gru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRU(len(WEATHER), GRU_WIDTH, batch_first=True), nn.Linear(GRU_WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.cell(x)[0])[..., 0]
        return found


def gru(days: pandas.DataFrame, block: Block, seed: int) -> Floats:
    """A black box: a GRU of width 32 that reads all columns, on windows as the RNAM's. Its epochs are chosen on the
    same inner fold."""
    train, held = block.inner[INNER // 2]
    target = days["log_flow"].to_numpy()[rows(held)]
    errors = [float(np.mean((_gru(train, held, seed, epochs) - target) ** 2)) for epochs in GRU_EPOCHS]
    return _gru(block.train, block.test, seed, int(_chosen([errors], GRU_EPOCHS)))


def _gru(part: rnam.Panel, test: rnam.Panel, seed: int, epochs: int) -> Floats:
    known = rows(part)
    weather, flow = np.asarray(part.values[known], np.float64), np.asarray(part.target)[known]
    mean, sd, level, spread = weather.mean(0), weather.std(0), flow.mean(), flow.std()
    whole = part.windows(90, burn_in=90, step=30).padded()
    x = torch.tensor((whole["values"] - mean) / sd, dtype=torch.float32)
    y = torch.tensor((whole["target"][..., 0] - level) / spread, dtype=torch.float32)
    there = y.isfinite()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _Gru()

    def batches(epoch: int) -> Sequence[Tensor]:
        return torch.tensor(np.random.default_rng([seed, epoch]).permutation(len(x))).split(8)

    def loss(batch: Tensor) -> Tensor:
        seen = there[batch]
        return (model(x[batch])[seen] - y[batch][seen]).square().sum() / max(1, int(seen.sum()))

    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    for _ in epochs_of(model, optimizer, batches, loss, rate=0.01, epochs=epochs, running=None):
        pass
    with torch.no_grad():
        whole_series = torch.tensor((test.values - mean) / sd, dtype=torch.float32)
        told = model(whole_series[None])[0].double().numpy()
    return np.asarray(told * spread + level)[rows(test)]


EBM = "EBM on lags"
FEW: dict[str, Rival] = {
    "boosting on lags": boosting,
    "ridge on lags": ridge,
    "distributed lags": distributed_lags,
}
MORE: dict[str, Rival] = {EBM: boosted_additive, "GRU, a black box": gru}  # which take minutes
