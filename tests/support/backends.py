"""The backends that tests of functions take in turn, each in the process that runs it."""

import pytest

TRITON = pytest.param("triton", marks=pytest.mark.interpreter)
EACH = ("reference", "torch", TRITON)

# for a test whose fixture `backend` takes them all
on_triton = pytest.mark.parametrize("backend", [TRITON], indirect=True)
