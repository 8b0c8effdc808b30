"""A recurrent neural additive model learns from the clinic visits of 312 liver patients.

    python -m examples.pbcseq

data.py        the visits: inputs, outcome, censoring weights, folds
training.py    the models: a small ensemble for each fold
checkpoint.py  which models the file holds that an interrupted run goes on from
evaluation.py  the scores, and the logistic regression beside the model
picture.py     one patient, visit by visit
demo.py        the command line: puts these together
compare/       the model beside plain baselines, and beside itself without a memory
"""
