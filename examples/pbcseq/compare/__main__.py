"""`python -m examples.pbcseq.compare`."""

from examples.start import start

start("examples.pbcseq.compare.command", "compare")
