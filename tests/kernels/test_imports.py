"""The folders of kernels/: imports point one way, and a package has no code of its own."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "kernels"
FOLDERS = {
    "common": set(),
    "feed_forward": {"common"},
    "linear": {"common"},
    "scan": {"common"},
    "min_gru": {"common", "scan"},
    "block": {"common", "feed_forward", "min_gru"},
}


def imported_folders(path: Path) -> set[str]:
    """The folders that a file imports from, by relative imports, beside its own."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {node.module.split(".")[0] for node in nodes if node.level == 2 and node.module}


def test_every_folder_is_here():
    assert {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} == set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_one_way(folder):
    for path in (ROOT / folder).glob("*.py"):
        assert imported_folders(path) <= FOLDERS[folder], path


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_package_is_a_docstring(folder):
    (docstring,) = ast.parse((ROOT / folder / "__init__.py").read_text()).body
    assert isinstance(docstring, ast.Expr)
