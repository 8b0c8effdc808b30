"""The examples in the docstrings run, and the API reference is built from them."""

import doctest
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rnam
import rnam.estimators.classifiers
import rnam.estimators.codec
import rnam.estimators.encoding
import rnam.estimators.gaps
import rnam.estimators.losses
import rnam.estimators.networks
import rnam.estimators.online.answers
import rnam.estimators.online.stream
import rnam.estimators.regressors
import rnam.estimators.saving
import rnam.estimators.start
import rnam.estimators.survival
import rnam.explanation.explanation
import rnam.panel.contents
import rnam.panel.panel
import rnam.sklearn.nets
import rnam.warm_up

MODULES = [
    rnam.functional,
    rnam.linear,
    rnam.gru,
    rnam.models.rnam,
    rnam.models.nam,
    rnam.models.streaming,
    rnam.resampling,
    rnam.regularizers,
    rnam.explain.names,
    rnam.explain.evaluation,
    rnam.explain.centring,
    rnam.explain.calibration,
    rnam.explain.checks,
    rnam.explain.conformity,
    rnam.explain.memories,
    rnam.explain.responses,
    rnam.explain.tables,
    rnam.sklearn.nets,
    rnam.warm_up,
    rnam.estimators.networks,
    rnam.estimators.online.answers,
    rnam.estimators.online.stream,
    rnam.panel.contents,
    rnam.panel.panel,
    rnam.estimators.encoding,
    rnam.estimators.gaps,
    rnam.estimators.losses,
    rnam.estimators.start,
    rnam.estimators.classifiers,
    rnam.estimators.regressors,
    rnam.estimators.codec,
    rnam.estimators.saving,
    rnam.estimators.survival,
    rnam.explain.lag_responses,
    rnam.explain.pairs,
    rnam.explain.concurvities,
    rnam.explanation.explanation,
]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_examples(module: object) -> None:
    names = {"torch": torch, "rnam": rnam, **vars(rnam.functional), **vars(module)}
    result = doctest.testmod(module, extraglobs=names)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


def test_the_reference_is_built_without_a_warning(tmp_path: Path) -> None:
    """As `make docs` does. Every public function and class is in it."""
    pytest.importorskip("pdoc")
    command = [sys.executable, "-W", "error", "-m", "pdoc", "--docformat", "google", "-o", str(tmp_path)]
    command += [
        "rnam",
        "rnam.sklearn",
        "rnam.panel",
        "rnam.estimators",
        "rnam.explanation",
        "rnam.report",
        "rnam.command",
    ]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (out.returncode, out.stdout + out.stderr) == (0, "")
    modules = (rnam, rnam.functional, rnam.explain, rnam.plot, rnam.regularizers, rnam.sklearn, rnam.panel)
    for module in (*modules, rnam.estimators, rnam.explanation):
        page = (tmp_path / f"{module.__name__.replace('.', '/')}.html").read_text()
        members = [name for name in module.__all__ if callable(getattr(module, name))]
        assert not [name for name in members if f'id="{name}"' not in page]
