"""From a table to predictions, by a model that was saved."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas

from rnam._files import replace
from rnam.command import kinds, reading
from rnam.estimators.saving import load
from rnam.explain._files import harmless
from rnam.panel import Panel
from rnam.panel.schema import Column, Schema

__all__ = ["run"]


def run(given: argparse.Namespace) -> None:
    """`python -m rnam predict`.

    Raises:
        ValueError, OSError, ImportError: the model, the file or the arguments are not as they must be.
    """
    out = Path(given.out)
    if out.suffix != ".csv":
        raise ValueError(f"--out must end in .csv, got {out.name}")
    if out.exists() and not given.overwrite:
        raise FileExistsError(f"{out} is there; --overwrite replaces it")
    model = load(given.model)
    if not hasattr(model, "schema_") or not hasattr(model, "predict"):
        raise ValueError(f"{given.model} must be a fitted estimator, got a {type(model).__name__}")
    if type(model).__name__ == "RNAMSurvival":
        raise ValueError(f"{given.model}: this command has no survival yet; rnam.RNAMSurvival predicts by Python")
    cells = reading.Cells(given.separator, given.decimal, given.encoding, given.date_format)
    panel = _read(Path(given.file), model.schema_, cells, given.unseen)
    frame = _predictions(model, panel)
    replace(out, frame.to_csv(index=False, lineterminator="\n").encode())
    if not given.quiet:
        print(f"Wrote {out}: {len(frame):,} predictions by {type(model).__name__}, of each {model.at_}")


def _read(path: Path, like: Any, cells: reading.Cells, unseen: str) -> Panel:
    schema: Schema = like.schema
    if len(schema.id) > 1:
        raise ValueError("the model must be one of ids, got one of windows")
    frame = reading.read(path, cells)
    id, time = str(schema.id[0]), str(schema.clock.name)
    needed = [name for column in schema.inputs for name in (column.parts or (column.name,))]
    lacking = [str(name) for name in (id, time, *needed) if str(name) not in frame.columns]
    if lacking:
        raise ValueError(
            f"{path} must have the columns of the training, got none called {', '.join(map(repr, lacking))}"
        )
    key = kinds.keys(frame, id, time, cells)
    if (key.time.dtype.kind == "M") != (schema.clock.kind == "date"):
        raise ValueError(f"column {time!r} must hold {schema.clock.kind}s, as in the training, got {key.time.iloc[0]}")
    read: dict[Any, Any] = {schema.id[0]: key.id, schema.clock.name: key.time}
    for column in schema.inputs:
        for name in column.parts or (column.name,):
            read[name] = _column(frame[str(name)], column, cells, unseen)
    return Panel.from_frame(pandas.DataFrame(read), like=like, sort=True)


def _column(series: Any, column: Column, cells: reading.Cells, unseen: str) -> Any:
    if column.levels is None or column.parts:
        return reading.numbers(series, cells)[0]
    known = {str(level): level for level in column.levels}
    written = reading.words(series)
    new = written.notna() & ~written.isin(list(known))
    if new.any() and unseen == "refuse":
        row = new.idxmax()
        raise ValueError(
            f"{reading.place(row, series.name)} must be one of {', '.join(known)}, got {written[row]!r}; --unseen "
            "missing takes it as missing"
        )
    return written.map(known, na_action="ignore").astype(object)


def _predictions(model: Any, panel: Panel) -> Any:
    """Ids, times of visits, and predictions; of classes the most probable one and the probability of each."""
    found = model.predict(panel)
    frame = found.to_frame() if found.ndim == 1 else found
    frame.columns = [f"predicted {name}" for name in frame.columns]
    if hasattr(model, "classes_"):
        chance = model.predict_proba(panel)
        frame = frame.join(chance.set_axis([f"probability of {name}" for name in chance.columns], axis=1))
    frame = frame.reset_index()
    for name in frame.columns:
        if frame[name].dtype.kind not in "fiubmM":
            frame[name] = [harmless(cell) if isinstance(cell, str) else cell for cell in frame[name]]
    return frame.set_axis([harmless(str(name)) for name in frame.columns], axis=1)
