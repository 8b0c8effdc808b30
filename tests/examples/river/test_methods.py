"""How long a model is trained is chosen on an inner fold, and the models of a mean then learn from all of its part."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas
import pytest

from examples.river.methods import Mean, Settings

BLOCK: Any = SimpleNamespace(
    train="all", test="test", inner=[("first", "a"), ("second", "b"), ("third", "c")], name="block 0"
)


@dataclass(frozen=True)
class Told(Settings):
    """Notes its fits, and scores them as it is told."""

    best: int = 15

    def fit(self, panel: Any, seed: int, epochs: int, memory: bool) -> Any:
        fits.append((panel, seed, epochs, memory))
        return SimpleNamespace(score=lambda held: (held == "b") * (1.0 if epochs == self.best else 0.5))


fits: list[tuple[Any, int, int, bool]] = []


@pytest.mark.parametrize("best", [15, 30])
@pytest.mark.parametrize("memory", [False, True])
def test_the_epochs_are_those_that_do_best_on_the_middle_inner_fold(best: int, memory: bool) -> None:
    fits.clear()
    mean = Mean.fit(BLOCK, 7, Told(best=best), memory)
    assert [(panel, epochs, kind) for panel, _, epochs, kind in fits] == [
        ("second", 15, memory), ("second", 30, memory), ("all", best, memory), ("all", best, memory)
    ]  # fmt: skip
    assert len(mean.models) == 2
    assert fits[2][1] != fits[3][1], "members have seeds of their own"


def test_one_choice_takes_no_inner_fit() -> None:
    fits.clear()
    Mean.fit(BLOCK, 7, Told(epochs=(3,)))
    assert [(panel, epochs) for panel, _, epochs, _ in fits] == [("all", 3)] * 2


def test_the_mean_of_models_and_of_their_parts() -> None:
    def model(constant: float) -> Any:
        frame = pandas.DataFrame({"rain": [constant], "temperature": 1.0, "range": 2.0, "rain & temperature": 10.0})
        return SimpleNamespace(predict=lambda panel: pandas.Series([constant]), contributions=lambda panel: frame)

    mean = Mean([model(1.0), model(4.0)])
    panel: Any = None
    assert mean.predict(panel).tolist() == [2.5]
    parts = mean.contributions(panel)
    assert parts.columns.tolist() == ["rain", "temperature", "range"]
    assert np.array_equal(parts, [[12.5, 1.0, 2.0]])
