"""`python -m examples.pbcseq`."""

from examples.start import start

start("examples.pbcseq.demo", "demo")
