"""From a table to a page: guess, split, train, explain, write."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import pandas

from rnam.command import kinds, reading
from rnam.estimators import NAMClassifier, NAMRegressor, RNAMClassifier, RNAMRegressor
from rnam.explanation.words import when
from rnam.panel import Panel
from rnam.report.writing import refuse_path

__all__ = ["run"]

FEWEST = 10  # ids


def run(given: argparse.Namespace) -> None:
    """`python -m rnam report`.

    Raises:
        ValueError, OSError, ImportError: the file, its columns or the arguments are not as they must be.
        KeyboardInterrupt: Ctrl-C.
    """
    if given.task == "survival":
        raise ValueError("--task survival: this command has no survival yet; rnam.RNAMSurvival is its model")
    page = refuse_path(given.out, given.overwrite)
    folder = page.with_suffix(".rnam")
    if folder.exists() and not given.overwrite:
        raise FileExistsError(f"{folder}, for the model, is there; --overwrite replaces it")
    if not 0 < given.held_out < 1:
        raise ValueError(f"--held-out must be between 0 and 1, got {given.held_out}")
    say = (lambda *words: None) if given.quiet else print

    panel, classes = _read(given, say)
    train, test = panel.split([1 - given.held_out, given.held_out], by="id", seed=given.seed)
    say(f"Held out: {len(test):,} of {len(panel):,} ids, which the page is about (--seed {given.seed})")
    model = _model(given, panel, classes)
    say(f"Training {type(model).__name__}, {given.members} member{'s' * (given.members != 1)}")
    _fit(model, train)
    explanation = model.explain(test, background=train, output=_output(given, model))
    title = given.title or f"{given.target}: what the model says"
    model.save(folder, overwrite=given.overwrite)
    explanation.report(page, title=title, overwrite=given.overwrite, verbose=int(not given.quiet))
    say(f"Wrote {page} and the model {folder}")


def _read(given: argparse.Namespace, say: Any) -> tuple[Panel, bool]:
    """The panel of the file, and whether its labels are classes."""
    cells = reading.Cells(given.separator, given.decimal, given.encoding, given.date_format)
    path = Path(given.file)
    frame = reading.read(path, cells)
    named = {f"--{name}": getattr(given, name) for name in ("values", "categories", "static", "ignore")}
    kinds.require(frame, {"--id": [given.id], "--time": [given.time], "--target": [given.target], **named})
    key = kinds.keys(frame, given.id, given.time, cells)
    label = kinds.label(frame, given.target, key.id, cells, given.task, given.at)
    others = [name for name in frame.columns if name not in (given.id, given.time, given.target)]
    columns = [kinds.guess(frame, name, key.id, cells, named) for name in others]
    used = [column for column in columns if column.values is not None]
    ids = key.id.nunique()
    span = " to ".join(when(end) for end in (key.time.min(), key.time.max()))
    say(f"{path.name}: {len(frame):,} rows, {ids:,} ids ({given.id}), {span} ({given.time})")
    width = max(map(len, frame.columns))
    say(f"  {given.target:{width}}  {'target':20} {label.why}")
    for column in columns:
        say(f"  {column.name:{width}}  {column}")
    if not used:
        raise ValueError(f"{path} must have a column to learn from beside id, time and target, got none")
    if ids < FEWEST:
        raise ValueError(f"{path} must have {FEWEST} ids or more, of which some are held out, got {ids}")

    read = {given.id: key.id, given.time: key.time, given.target: label.values}
    table = pandas.DataFrame(read | {column.name: column.values for column in used})
    if given.time_unit and key.time.dtype.kind != "M":
        raise ValueError(f"--time-unit must be left out where times are numbers, got {given.time_unit}")
    panel = Panel.from_frame(
        table, id=given.id, time=given.time, target=given.target, at=label.at, time_unit=given.time_unit, sort=True,
        values=[c.name for c in used if c.kind == "numbers" and not c.static],
        categories=[c.name for c in used if c.kind == "categories"],
        static=[c.name for c in used if c.static],
    )  # fmt: skip
    return panel, label.classes


def _model(given: argparse.Namespace, panel: Panel, classes: bool) -> Any:
    """An RNAM, or a NAM where each id has one visit and there is no history."""
    kind: Any
    if panel.lengths.max() > 1:
        kind = RNAMClassifier if classes else RNAMRegressor
    else:
        kind = NAMClassifier if classes else NAMRegressor
    more = {} if given.epochs is None else {"max_epochs": given.epochs}
    return kind(members=given.members, random_state=given.seed, verbose=int(not given.quiet), **more)


def _fit(model: Any, train: Panel) -> None:
    """Train. Ctrl-C, after which a fit keeps what it has, ends the command."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"the fit\b.*\bwas interrupted", RuntimeWarning)
        model.fit(train)
    if model.interrupted_:
        raise KeyboardInterrupt


def _output(given: argparse.Namespace, model: Any) -> str | None:
    """The class that the page explains: of several the last, where none is named."""
    names = model._output_names()
    if given.output is None:
        return None if len(names) == 1 else str(names[-1])
    if given.output not in names:
        raise ValueError(f"--output must be one of {', '.join(names)}, got {given.output!r}")
    return str(given.output)
