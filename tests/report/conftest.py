"""One model and one page for all tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rnam
from tests.report import support


@pytest.fixture(scope="session")
def explanation() -> Any:
    """Of a recurrent classifier of two members, with a pair, on people it was not fitted to."""
    train, test = support.panel().split([0.6, 0.4], by="id", seed=1)
    test = rnam.Panel.concat([test, train[[id for id in train.ids if not id.startswith("P")]]])
    model = support.fitted(rnam.RNAMClassifier, train, hidden=4, pairs=[("bili", "stage")])
    return model.explain(test, background=train)


@pytest.fixture(scope="session")
def page(explanation: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("report") / "page.html"
    explanation.report(path, title=support.SCRIPT)
    return path
