"""`python -m examples.plasmode`."""

from examples.start import start

start("examples.plasmode.demo", "demo")
