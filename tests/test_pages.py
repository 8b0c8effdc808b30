"""The examples in the pages of docs/ are Python, and name what the package has."""

import ast
import re
from pathlib import Path

import pytest

import rnam

PAGES = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))


def examples() -> list[tuple[str, str]]:
    return [
        (page.name, example)
        for page in PAGES
        for example in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    ]


def test_there_are_some() -> None:
    assert {"first-step.md", "ptx.md"} <= {page for page, _ in examples()}


@pytest.mark.parametrize(("page", "example"), examples())
def test_an_example_is_python_and_its_names_exist(page: str, example: str) -> None:
    tree = ast.parse(example)
    names = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "rnam"
    ]
    assert [name for name in names if not hasattr(rnam, name)] == []


def test_every_page_is_in_the_list() -> None:
    listed = set(re.findall(r"\]\((\S+\.md)\)", (PAGES[0].parent / "README.md").read_text()))
    assert listed == {page.name for page in PAGES} - {"README.md"}
