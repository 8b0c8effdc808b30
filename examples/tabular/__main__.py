"""`python -m examples.tabular`."""

from examples.start import start

start("examples.tabular.command", "compare")
