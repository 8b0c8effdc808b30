"""No device function has in its source what the oldest triton that setup asks for does not compile."""

import ast
import inspect
import pkgutil

import pytest
import triton

import rnam.kernels

MODULES = [module.name for module in pkgutil.walk_packages(rnam.kernels.__path__, "rnam.kernels.") if not module.ispkg]


def device_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """The functions under the decorators of common/device.py."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [f for f in functions if {ast.unparse(d) for d in f.decorator_list} & {"device", "kernel"}]


def gives_none(function: ast.FunctionDef) -> bool:
    returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
    return any(value is None or (isinstance(value, ast.Constant) and value.value is None) for value in returned)


@pytest.mark.parametrize("name", MODULES)
def test_no_function_gives_none(name):
    """Triton 3.6: cannot convert None to tensor."""
    module = __import__(name, fromlist=["*"])
    found = device_functions(ast.parse(inspect.getsource(module)))
    assert not [f.name for f in found if gives_none(f)]
    jitted = {n: x for n, x in vars(module).items() if isinstance(x, triton.runtime.JITFunction)}
    compiled = {n for n, x in jitted.items() if x.__module__ == name}
    assert compiled <= {f.name for f in found}


def test_a_function_that_gives_none_is_found():
    source = "@device\ndef f(x):\n    if x:\n        return 1\n    else:\n        return None\n"
    (function,) = device_functions(ast.parse(source))
    assert gives_none(function)
