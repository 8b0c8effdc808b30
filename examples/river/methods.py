"""The model: an RNAM that reads weather alone; and the same without a memory.

Each is the mean of three, one for each inner fold of the training part, which says when its training ends. The mean of
additive models is additive: its contributions are their mean ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas

import rnam
from examples.river.data import PAIR, WEATHER, Block, Floats
from examples.training import seed_for


@dataclass(frozen=True)
class Settings:
    """Of every RNAM; chosen on the seed 10."""

    epochs: int = 30
    hidden: int = 16
    blocks: int = 2
    timescales: tuple[float, float] = (1.5, 100.0)  # days, at which memory starts
    window: int = 90  # days whose flow a sequence shows
    burn_in: int = 90  # days before them, whose weather warms the state
    step: int = 30  # days from a window to the next
    batch: int = 16  # windows in a step
    learning_rate: float = 0.02  # at its highest

    def model(self, seed: int, memory: bool) -> Any:
        """Terms of rain, temperature, its daily range, and the pair of rain and temperature."""
        common: dict[str, Any] = {"pairs": [PAIR], "max_epochs": self.epochs, "patience": None, "random_state": seed,
                                  "verbose": 0, "device": "cpu"}  # fmt: skip
        if not memory:
            return rnam.NAMRegressor((self.hidden,) * 2, **common)
        return rnam.RNAMRegressor(
            self.hidden, blocks=self.blocks, timescales=self.timescales, batch_size=self.batch,
            learning_rate=self.learning_rate, **common,
        )  # fmt: skip


class Mean:
    """The mean of some fitted models."""

    def __init__(self, models: list[Any]) -> None:
        self.models = models

    @classmethod
    def fit(cls, block: Block, seed: int, settings: Settings, memory: bool = True) -> Mean:
        models = []
        for number, (train, held) in enumerate(block.inner):
            if memory:
                train = train.windows(settings.window, burn_in=settings.burn_in, step=settings.step)
                held = held.windows(settings.window, burn_in=settings.burn_in, step=settings.window)
            model = settings.model(seed_for(seed, number), memory)
            models.append(model.fit(train, validation=held))
        return cls(models)

    @classmethod
    def load(cls, folder: Path) -> Mean:
        return cls([rnam.load(path) for path in sorted(folder.iterdir())])

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, model in enumerate(self.models):
            model.save(folder / f"{number}.rnam", overwrite=True)

    def predict(self, panel: rnam.Panel) -> Floats:
        """(visits,), the logarithm of the flow."""
        return np.mean([model.predict(panel).to_numpy() for model in self.models], axis=0)

    def contributions(self, panel: rnam.Panel) -> pandas.DataFrame:
        """(visits, terms). Rain and its pair share what they say: their sum is one column."""
        parts = sum(model.contributions(panel) for model in self.models) / len(self.models)
        pair = [name for name in parts.columns if name not in WEATHER]
        return parts.assign(rain=parts[["rain", *pair]].sum(axis=1)).drop(columns=pair)
