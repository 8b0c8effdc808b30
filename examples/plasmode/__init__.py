"""Does an additive model find the truth in real visits? Lab times and values are real, the outcome is simulated.

    python -m examples.plasmode

data.py        the visits of a population study: cleaning, inputs
truth.py       the simulated outcome: its terms, which are known
training.py    the models: an ensemble on the sequences, and the same on the last values
baselines.py   regressions and boosting
evaluation.py  scores, recovery of the terms, coverage of the refit spread
picture.py     the terms beside their truth, and one person over time
demo.py        the command line: puts these together
"""
