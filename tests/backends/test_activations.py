"""One table of activations a backend; a name that a backend lacks is refused at the door."""

from __future__ import annotations

import importlib

import pytest
import torch

import rnam
from rnam import functional, reference
from rnam.functional import grouped_linear
from tests.support import backends

MODULES = {"torch": "rnam.backends.blocks", "triton": "rnam.kernels"}
X, W = torch.randn(2, 3, 4), torch.randn(2, 4, 4)


@pytest.mark.parametrize("backend", backends.EACH)
def test_every_backend_has_a_row_for_every_name(backend: str) -> None:
    names = {name for name in functional.ACTIVATIONS if name is not None}
    module = reference if backend == "reference" else importlib.import_module(MODULES[backend])
    assert {name for name in module.ACTIVATIONS if name is not None} == names


def test_a_name_that_the_reference_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functional, "ACTIVATIONS", (*functional.ACTIVATIONS, "cube"))
    expected = "activation must be None or one of 'relu', 'gelu', 'silu' on backend 'reference', got 'cube'"
    with rnam.set_backend("reference"), pytest.raises(ValueError, match=expected):
        grouped_linear(X, W, None, "cube")  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", backends.EACH[1:])
def test_a_name_that_a_backend_lacks_is_refused(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after adding one to the public list and to the reference alone."""
    monkeypatch.setattr(functional, "ACTIVATIONS", (*functional.ACTIVATIONS, "cube"))
    monkeypatch.setitem(reference.ACTIVATIONS, "cube", lambda x: x**3)
    with rnam.set_backend("reference"):
        assert torch.equal(grouped_linear(X, W, None, "cube"), torch.bmm(X, W) ** 3)  # type: ignore[arg-type]
    expected = f"activation must be None or one of 'relu', 'gelu', 'silu' on backend {backend!r}, got 'cube'"
    with rnam.set_backend(backend), pytest.raises(ValueError, match=expected):
        grouped_linear(X, W, None, "cube")  # type: ignore[arg-type]
