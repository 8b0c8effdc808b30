"""Remifentanil at irregular minutes: a memory that decays by the time that passed, beside one that reads the gap.

    python -m examples.remifentanil

data.py        the records, the rate that held, folds by person, and exact exponential averages of the rate
methods.py     the model in both forms, boosting and splines on the averages, and a GRU
command.py     the command line: puts these together
picture.py     three people: measured, predicted, the band, and the rate
"""
