"""The neural additive model on two small tables, beside a linear model and a boosted additive one.

    python -m examples.tabular

data.py        scikit-learn's breast cancer and diabetes, with names and units
methods.py     rnam.NAM through rnam.sklearn, logistic and ridge regression, interpret's EBM
scores.py      what is scored, over all folds of a seed
picture.py     shape functions of the terms that matter most, NAM and EBM on the same axes
command.py     the command line: puts these together
"""
