"""The demo's model beside plain baselines, and beside itself without a memory.

    python -m examples.pbcseq.compare

summaries.py   what is known of each term so far, for models without a memory
methods.py     the baselines, and RNAM on single visits
command.py     the command line: folds, bars, table, what was asked
picture.py     the scores of every seed as dots
"""
