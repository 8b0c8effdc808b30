"""The backends that tests of functions take in turn, each in the process that runs it."""

import pytest

from rnam.backends import choice

plain = pytest.mark.skipif(choice.interpreted(), reason="runs in the other process")
EACH = (
    pytest.param("reference", marks=plain),
    pytest.param("torch", marks=plain),
    pytest.param("triton", marks=pytest.mark.interpreter),
)
