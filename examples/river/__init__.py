"""Ten years of the river Fulda, from weather alone: a recurrent neural additive model, and what it says.

    python -m examples.river

data.py        the days, the blocks of time that are held out, and the thaws
methods.py     the model, and the same without memory
rivals.py      ridge on lags, distributed lags, boosting, EBM, and a GRU
scores.py      scores and bands of predictions of blocks that no model saw
answers.py     the check on measured flow, the response to 20 mm, the thaws
picture.py     a year, what each term adds, and these answers
command.py     the command line: puts these together
"""
