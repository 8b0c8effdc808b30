"""A failing test says which element failed and by how much: the two forms of assert that do not are refused."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def _silent(source: str) -> Iterator[tuple[int, str]]:
    """The lines of asserts that say neither which element failed nor by how much."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            for part in _operands(node.test):
                if _over_a_generator(part):
                    yield node.lineno, "assert all(generator): assert each, or assert that the list of failures is []"
                elif _largest_below(part) or _elements_in_order(part):
                    yield (
                        node.lineno,
                        "assert error.max() <= bound: use assert_within, and x.min() > bound the other way",
                    )


def _operands(test: ast.expr) -> Iterator[ast.expr]:
    """What a test joins by `and`, `or` and `not`."""
    inner = test.values if isinstance(test, ast.BoolOp) else [test.operand] if isinstance(test, ast.UnaryOp) else None
    if inner is None:
        yield test
    else:
        for part in inner:
            yield from _operands(part)


def _over_a_generator(node: ast.expr) -> bool:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("all", "any")
    return called and any(isinstance(a, ast.GeneratorExp | ast.ListComp) for a in node.args)


def _largest_below(node: ast.expr) -> bool:
    """x.max() <= y, also in a chain, in float(...) or as x.amax()."""
    if not isinstance(node, ast.Compare):
        return False
    values = [node.left, *node.comparators]
    pairs = zip(node.ops, values, values[1:], strict=False)
    below = {ast.Lt: 0, ast.LtE: 0, ast.Gt: 1, ast.GtE: 1}
    return any(_calls(pair[below[type(op)]], "max", "amax") for op, *pair in pairs if type(op) in below)


def _calls(node: ast.expr, *names: str) -> bool:
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float":
        node = node.args[0]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "item":
        node = node.func.value
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names


def _elements_in_order(node: ast.expr) -> bool:
    """(x <= y).all() or x.le(y).all()."""
    if not _calls(node, "all"):
        return False
    compared = node.func.value  # type: ignore[attr-defined]
    ordered = isinstance(compared, ast.Compare) and isinstance(compared.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
    return ordered or _calls(compared, "le", "lt", "ge", "gt")


def test_no_assertion_is_silent() -> None:
    found = [
        f"{path.relative_to(TESTS.parent)}:{line}: {why}"
        for path in sorted(TESTS.rglob("*.py"))
        for line, why in sorted(_silent(path.read_text()))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "assert all(x == y for x, y in pairs)",
        "assert not any(x.isnan().any() for x in parts)",
        "assert parts and all([x.ok for x in parts]), parts",
        "assert (h - exact).abs().sub(bound).max() <= 0",
        "assert (h - exact).abs().max() < 1e-6",
        "assert 0 < error.amax().item() <= 1",
        "assert float((a - b).abs().max()) <= limit",
        "assert limit >= np.abs(a - b).max()",
        "assert not (error <= bound).all()",
        "assert error.le(bound).all() and error.numel()",
        "assert (state > 0).all()",
    ],
)
def test_a_silent_assertion_is_found(line: str) -> None:
    assert len(list(_silent(line))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "assert all(flags)",
        "assert not [x for x in parts if not any(y in x for y in known)]",
        "assert error.max() > 0",
        "assert state.min() > 0",
        "assert (a.min(), a.max()) == (1, 16)",
        "assert (mask == 0).all()",
        "assert a.mean() <= b.max()",
    ],
)
def test_an_assertion_that_speaks_is_left_alone(line: str) -> None:
    assert not list(_silent(line))
