"""The model: an RNAM that reads weather alone; and the same without a memory.

Each is the mean of two that differ in their random numbers. The mean of additive models is additive: its contributions
are their mean ones. How long they are trained is chosen on an inner fold of the training part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas

import rnam
from examples.river.data import INNER, PAIR, WEATHER, Block, Floats
from examples.training import seed_for


@dataclass(frozen=True)
class Settings:
    """Of every RNAM; the first ones were tried on the seeds 0, 3 and 10."""

    hidden: int = 16
    blocks: int = 2
    timescales: tuple[float, float] = (1.5, 100.0)  # days, at which memory starts
    window: int = 90  # days whose flow a sequence shows
    burn_in: int = 90  # days before them, whose weather warms the state
    step: int = 30  # days from a window to the next
    batch: int = 8  # windows in a step
    learning_rate: float = 0.02  # at its highest
    epochs: tuple[int, ...] = (15, 30)  # of which one is chosen
    members: int = 2

    def fit(self, panel: rnam.Panel, seed: int, epochs: int, memory: bool) -> Any:
        """A model with terms of rain, temperature, its daily range, and the pair of rain and temperature."""
        common: dict[str, Any] = {"pairs": [PAIR], "max_epochs": epochs, "validation": None, "random_state": seed,
                                  "verbose": 0, "device": "cpu"}  # fmt: skip
        if not memory:
            return rnam.NAMRegressor((self.hidden,) * 2, **common).fit(panel)
        model = rnam.RNAMRegressor(
            self.hidden, blocks=self.blocks, timescales=self.timescales, batch_size=self.batch,
            learning_rate=self.learning_rate, **common,
        )  # fmt: skip
        return model.fit(panel.windows(self.window, burn_in=self.burn_in, step=self.step))


class Mean:
    """The mean of some fitted models."""

    def __init__(self, models: list[Any]) -> None:
        self.models = models

    @classmethod
    def fit(cls, block: Block, seed: int, settings: Settings, memory: bool = True) -> Mean:
        def trained(panel: rnam.Panel, number: int, epochs: int) -> Any:
            return settings.fit(panel, seed_for(seed, number), epochs, memory)

        epochs = settings.epochs[0]
        if len(settings.epochs) > 1:
            train, held = block.inner[INNER // 2]
            scores = [trained(train, settings.members, choice).score(held) for choice in settings.epochs]
            epochs = settings.epochs[int(np.argmax(scores))]
        return cls([trained(block.train, number, epochs) for number in range(settings.members)])

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
