"""The optional package: with it, it learns; without it, the examples say what they leave out."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest

from examples import ebm


def test_without_it_there_is_no_version_and_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert ebm.version() is None
    message = ebm.left_out(["EBM, last values", "EBM"])
    assert message.startswith("Left out: EBM, last values, EBM; interpret-core is not installed")
    assert "pip install -e '.[compare]'" in message


@pytest.mark.parametrize("binary", [True, False])
def test_it_is_additive_and_learns(binary: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("interpret")
    monkeypatch.setattr(ebm, "BAGS", 2)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    y = np.abs(x[:, 0]) + 0.1 * x[:, 1]
    target = (y > 0.7).astype(np.int64) if binary else y
    x[::7, 1] = np.nan  # as it is, without a warning
    model = ebm.fit(x, target, ["a", "b"], 0, binary=binary)
    assert model.explain_global().data()["names"] == ["a", "b"], "no interaction"
    said = model.decision_function(x) if binary else model.predict(x)
    assert np.corrcoef(said, y)[0, 1] > 0.8
