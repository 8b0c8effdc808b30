"""People whose columns, levels and ids are called as an attack would be, and the parts of a page."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import numpy as np
import pandas

import rnam

SCRIPT = "<script>window.attacked = true</script>"
BREAK = '</script><img src="http://192.0.2.1/x" onerror="window.attacked = true">'


def visits(ids: int = 30, seed: int = 0) -> Any:
    """A row for each visit. `died` depends on bili, on its history and on stage."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 9, ids)
    rows = int(lengths.sum())
    names = [BREAK, "{{script}}", "=1+1", *(f"P{n:03}" for n in range(3, ids))]
    days = np.concatenate([np.cumsum(rng.integers(20, 200, n)) for n in lengths])
    frame = pandas.DataFrame(
        {
            "id": np.repeat(names, lengths),
            "date": pandas.Timestamp("2020-01-01") + pandas.to_timedelta(days, unit="D"),
            "bili": rng.gamma(2, 1, rows), SCRIPT: rng.normal(size=rows),
            "stage": rng.choice(["one", "two", BREAK], rows), "sex": np.repeat(rng.choice(["f", "m"], ids), lengths),
            "age": np.repeat(rng.normal(50, 10, ids), lengths),
        }
    )  # fmt: skip
    before = frame.groupby("id", sort=False)["bili"].shift().fillna(2)
    risk = frame["bili"] + before - 4 + (frame["stage"] == "two")
    frame["died"] = np.where(rng.random(rows) < 1 / (1 + np.exp(-risk)), "dead & gone", "alive")
    frame["cost"] = 10 * frame["bili"] + rng.normal(size=rows)
    frame.loc[rng.random(rows) < 0.2, "bili"] = np.nan
    return frame


ROLES: dict[str, Any] = dict(
    id="id", time="date", values=["bili", SCRIPT], categories=["stage"], static=["sex", "age"], at="visit",
    units={"bili": "mg/dl"},
)  # fmt: skip


def panel(target: str | None = "died", ids: int = 30, **changes: Any) -> rnam.Panel:
    return rnam.Panel.from_frame(visits(ids), target=target, **{**ROLES, **changes})


def fitted(kind: type, panel: rnam.Panel, **changes: Any) -> Any:
    quick = {"max_epochs": 4, "random_state": 0, "verbose": 0, "device": "cpu", "members": 2}
    return kind(**{**quick, **changes}).fit(panel)


def data_of(page: str) -> Any:
    """The data that the page shows."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def unpacked(packed: Any) -> Any:
    dtype = {"f4": np.float32, "i4": np.int32}[packed["type"]]
    return np.frombuffer(base64.b64decode(packed["base64"]), dtype)
