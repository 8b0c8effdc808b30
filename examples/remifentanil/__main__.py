"""`python -m examples.remifentanil`."""

from examples.start import start

start("examples.remifentanil.command", "demo")
