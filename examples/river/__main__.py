"""`python -m examples.river`."""

from examples.start import start

start("examples.river.command", "demo")
