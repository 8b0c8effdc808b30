"""Imports of the package point one way: a file imports what stands above it in this list, and nothing below."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rnam

PACKAGE = Path(rnam.__file__).parent

LAYERS = (
    "_version",
    "_memory",
    "_checks",
    "_files",
    "backends.calls",
    "backends.flags",
    "backends.flops",
    "backends.choice",
    "reference",
    "backends.blocks",
    "backends.cells",
    "backends.operator",
    "backends.scan",
    "backends.linear",
    "backends.min_gru",
    "backends.feed_forward",
    "backends.projected",
    "backends.block",
    "_arguments",
    "functional",
    "linear",
    "_untouched",
    "gru",
    "regularizers",
    "resampling",
    "models",
    "warm_up",
    "explain",
    "plot",
    "sklearn",
    "panel",
    "estimators",
    "explanation",
    "report",
    "command",
    "info",
    "backends",
    "",  # rnam itself
)

FOLDERS = (
    "backends.blocks", "models", "explain", "plot", "sklearn", "panel", "estimators", "explanation", "report",
    "command",
)  # fmt: skip


def layer(module: str) -> str:
    """The entry of the list that a module, or a name in one, belongs to."""
    name = module.removeprefix("rnam").removeprefix(".")
    for folder in FOLDERS:
        if name == folder or name.startswith(folder + "."):
            return folder
    while name not in LAYERS:
        name = name.rpartition(".")[0]
    return name


def imported(body: list[ast.stmt]) -> Iterator[str]:
    """What is imported when a module is, and not for a type checker alone or where a function runs."""
    for node in body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rnam":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ClassDef | ast.Try) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test)
        ):
            yield from imported(node.body)


def files() -> list[Path]:
    return [file for file in sorted(PACKAGE.rglob("*.py")) if not file.is_relative_to(PACKAGE / "kernels")]


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_imports_what_stands_above_it(file: Path) -> None:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    own = layer(".".join(("rnam", *parts)).removesuffix(".__init__"))
    for name in imported(ast.parse(file.read_text()).body):
        assert LAYERS.index(layer(name)) <= LAYERS.index(own), f"{own} imports {name}"
