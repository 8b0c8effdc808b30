"""A recurrent neural additive model learns from the clinic visits of 312 liver patients.

    python -m examples.pbcseq

data.py        the visits: inputs, outcome, censoring weights, folds
models.py      an `rnam.RNAMClassifier` for each fold
evaluation.py  the scores, and the logistic regression beside the model
picture.py     one patient, visit by visit
demo.py        the command line: puts these together
compare/       the model beside plain baselines, and beside itself without a memory
"""
