"""Fitted models, visits of people, and the whole history that a stream is held against."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas
import torch
from numpy.typing import NDArray

import rnam
from tests.support.assertions import assert_within

OPTIONS: dict[str, Any] = dict(max_epochs=2, validation=None, random_state=0, verbose=0)
ROLES: dict[str, Any] = dict(
    id="person", time="day", values=["bili", "albumin"], categories=["ward"], static=["age", "sex"],
    cyclic={"hour": 24}, memoryless=["hour"], target="died", at="visit",
)  # fmt: skip


def people(count: int = 9, seed: int = 0) -> Any:
    """A table of people who take turns, on 1 to 8 days that are drawn: gaps, levels, static columns, two targets."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(count):
        for day in np.sort(rng.choice(60, rng.integers(1, 9), replace=False)):
            rows.append((f"p{person}", int(day), rng.normal(3, 2), rng.normal(), "xyz"[rng.integers(3)]))
    df = pandas.DataFrame(rows, columns=["person", "day", "bili", "albumin", "ward"])
    df["hour"] = rng.integers(0, 24, len(df)).astype(float)
    df["age"] = 30.0 + df["person"].str[1:].astype(int)
    df["sex"] = np.where(df["age"] % 2, "f", "m")
    df["died"] = rng.integers(0, 2, len(df))
    df["days"] = rng.normal(100, 20, len(df))
    for name in ("bili", "albumin", "ward", "hour"):
        df.loc[rng.random(len(df)) < 0.3, name] = None
    df.loc[df["person"] == "p2", "sex"] = None  # nobody knows it
    return df.sort_values("day", kind="stable", ignore_index=True)


def panel(df: Any = None, **changes: Any) -> rnam.Panel:
    return rnam.Panel.from_frame(people() if df is None else df, **{**ROLES, **changes})


def fitted(of: rnam.Panel | None = None, kind: type = rnam.RNAMClassifier, **options: Any) -> Any:
    return kind(4, **{**OPTIONS, **options}).fit(panel() if of is None else of)


def inputs(df: Any) -> Any:
    """The table without what is to be predicted."""
    return df.drop(columns=["died", "days"], errors="ignore")


def whole(model: Any, of: rnam.Panel, dtype: torch.dtype) -> NDArray[np.float64]:
    """What each term contributes at each visit of a panel, read from its first visit on, in the precision of `dtype`:
    (visits, terms, outputs), in the units of the network."""
    network, found = copy.deepcopy(model.model_).to(dtype), model.encoder_.transform(of)
    batch = found.batch(np.arange(len(of)))
    batch = {name: each.to(dtype) if each.dtype == torch.float32 else each for name, each in batch.items()}
    with torch.no_grad():
        contributions = network(**batch, return_sequence=True).contributions.double().numpy()
    return np.concatenate([contributions[:, n, :length].swapaxes(0, 1) for n, length in enumerate(found.lengths)])


def assert_whole(model: Any, of: rnam.Panel, contributions: Any, decision: Any) -> None:
    """Contributions and sums, by (id, time), are those of the whole history: with twice the error of that in float32,
    and a band of four roundings of the largest, against the same in float64.

    Args:
        of: the panel of the visits, in whose order those of the stream are put.
        contributions, decision: a DataFrame and a Series, or DataFrames, of a stream.
    """
    __tracebackhide__ = True
    gain, outputs = np.asarray(model.loss_.gain), len(model.loss_.gain)
    exact, plain = (whole(model, of, dtype) * gain for dtype in (torch.float64, torch.float32))
    band = 2 * np.abs(plain - exact).max() + 4 * 2.0**-24 * np.abs(exact).max()
    index = pandas.MultiIndex.from_arrays([of.ids.repeat(of.lengths), of.stamps])
    assert len(contributions) == len(index) and not contributions.index.has_duplicates
    got = contributions.reindex(index).to_numpy().reshape(len(index), outputs, -1).swapaxes(1, 2)
    assert_within("contributions", got, exact, band)
    total = exact.sum(1) + model.intercept_
    got = decision.reindex(index).to_numpy().reshape(total.shape)
    assert_within("decision", got, total, exact.shape[1] * band + 4 * 2.0**-24 * np.abs(total).max())
