"""Basins whose flow is known, a model that is trained on them for a moment, and one that is a linear filter."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas
import torch
from torch import Tensor, nn

import rnam
from rnam.estimators.encoding import TAIL, Encoder
from rnam.models.additive import Additive

BASINS, DAYS = 12, 30
KERNEL = np.array([0.5, -0.2, 0.1, 0.0, 0.05])  # of rain at lags 0 to 4
CROSSED = np.array([0.3, 0.1, 0.02, 0.0, -0.04])  # times what temp is now


def weather(basins: int = BASINS, days: int = DAYS, seed: int = 0) -> Any:
    """A row for each day of each basin. `flow` is a filter of rain, and a quarter of the days lack a level."""
    rng = np.random.default_rng(seed)
    rain = np.where(rng.random((basins, days)) < 0.5, 0.0, rng.gamma(2.0, 1.0, (basins, days)))
    temp = rng.normal(10, 3, (basins, days))
    flow = np.stack([np.convolve(own, KERNEL)[:days] for own in rain]) + rng.normal(0, 0.1, rain.shape)
    frame = pandas.DataFrame(
        {
            "basin": np.repeat(np.arange(100, 100 + basins), days), "day": np.tile(np.arange(days), basins),
            "rain": rain.ravel(), "temp": temp.ravel(), "kind": rng.choice(["dry", "wet", "=cmd"], rain.size),
            "soil": np.repeat(rng.choice(["clay", "sand"], basins), days),
            "area": np.repeat(rng.normal(100, 30, basins), days), "flow": flow.ravel(),
        }
    )  # fmt: skip
    frame["high"] = frame["flow"] > frame["flow"].median()
    frame.loc[rng.random(len(frame)) < 0.25, "kind"] = None
    return frame


ROLES: dict[str, Any] = dict(
    id="basin", time="day", values=["rain", "temp"], categories=["kind"], static=["soil", "area"],
    units={"rain": "mm", "temp": "°C"}, at="visit",
)  # fmt: skip


def basins(target: str | None = "flow", **changes: Any) -> rnam.Panel:
    return rnam.Panel.from_frame(weather(), **{**ROLES, "target": target, **changes})


def fitted(kind: type, panel: Any, **changes: Any) -> Any:
    quick = {"max_epochs": 3, "random_state": 0, "verbose": 0, "device": "cpu"}
    return kind(4, **{**quick, **changes}).fit(panel)


class Filter(nn.Module):
    """The terms rain, temp and their pair of known kernels, in float64: rain times KERNEL, and rain times CROSSED times
    what temp is now. It undoes the scaling of the encoder."""

    def __init__(self, encoder: Encoder, gain: float, members: int = 1) -> None:
        super().__init__()
        self.features = {feature.name: feature for feature in encoder.features}
        self.terms, self.gain, self.members = encoder.terms, gain, members
        self.gam = nn.Module()
        self.gam.bias = nn.Parameter(torch.zeros(members, 1, dtype=torch.float64))

    def column(self, input: Tensor, name: str) -> Tensor:
        """(batch, seq), in units."""
        feature = self.features[name]
        encoded = input[..., feature.visit_columns[0]].double()
        return encoded / (1 - (encoded / TAIL) ** 2).sqrt() * feature.scale + feature.centre

    def forward(self, input: Tensor, *, return_members: bool = False, return_sequence: bool = False, **_: Any) -> Any:
        rain, temp = self.column(input, "rain"), self.column(input, "temp")
        filtered, crossed = (
            sum(weight * nn.functional.pad(rain, (lag, 0))[:, : rain.shape[1]] for lag, weight in enumerate(kernel))
            for kernel in (KERNEL, CROSSED)
        )
        known = {"rain": filtered, "rain & temp": crossed * temp}
        parts = torch.stack([known.get(term.name, torch.zeros_like(rain)) for term in self.terms])[..., None]
        parts = parts / self.gain
        each = torch.stack([parts * (1 + member) for member in range(self.members)])
        each = each if return_sequence else each[..., -1, :]
        whole = Additive(each.sum(1) + 0, each)
        return whole if return_members else Additive(whole.prediction.mean(0), each.mean(0))

    def observed(self, input: Tensor, *, return_sequence: bool = False, **_: Any) -> Tensor:
        shape = (len(self.terms), *input.shape[: 2 if return_sequence else 1])
        return torch.ones(shape, dtype=torch.bool)


def filtering(model: Any, members: int = 1) -> Any:
    """An estimator whose network is a `Filter`."""
    found = copy.copy(model)
    found.model_ = Filter(model.encoder_, model.loss_.gain[0], members)
    return found


def rounding(model: Any, column: str, values: Any) -> float:
    """The most by which a column in units differs from itself once it was encoded in float32.

    With u = (value - centre) / scale the encoder gives e = u / sqrt(1 + (u / 3)^2), which is rounded by at most
    2^-24 |e|. Its inverse has the derivative (1 + (u / 3)^2)^(3/2); a hundredth more is for what is of second order.
    """
    feature = next(own for own in model.encoder_.features if own.name == column)
    u = np.abs((np.asarray(values, np.float64) - feature.centre) / feature.scale).max()
    return float(1.01 * feature.scale * 2.0**-24 * u * (1 + (u / TAIL) ** 2))
