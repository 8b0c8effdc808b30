"""Microseconds that a model predicts, written down before they are measured.

The model runs the compiled sm_90 code of one multiprocessor in order: issue slots, special functions, tensor cores, the
pipe of shared memory, asynchronous copies, latency and rate of memory, barriers, a launch. Seven of its numbers were
fitted to the H200's notebook and electricity rows. Of 36 other rows its median error is 13% and its largest 45%; a
difference below 15% says nothing. Two numbers are the range of two fits. The kernels are those with x in the pipeline
of the backward, and, with flags, with one word for a row of steps.
"""

# (stage, shape, type, pass, provider) -> (least, most); "table" is the best of the table's candidates.
PREDICTED: dict[tuple[str, str, str, str, str], tuple[float, float]] = {
    ("backward", "mid", "tf32", "backward", "table"): (71, 79),
    ("backward", "mid", "bfloat16", "backward", "table"): (57, 60),
    ("backward", "p12", "tf32", "backward", "table"): (72, 72),
    ("backward", "p12", "bfloat16", "backward", "table"): (53, 53),
    ("backward", "electricity", "tf32", "backward", "table"): (174, 187),
    ("backward", "eeg-long", "tf32", "backward", "3 stages"): (183, 205),
    ("backward", "eeg-long", "bfloat16", "backward", "table"): (153, 173),
    ("backward", "notebook", "tf32", "backward", "3 stages"): (48, 56),
    ("backward", "notebook", "bfloat16", "backward", "table"): (38, 44),
    ("forms", "electricity", "tf32", "forward", "batch rows"): (71, 73),
    ("forms", "electricity", "bfloat16", "forward", "batch rows"): (59, 59),
    ("forms", "electricity", "tf32", "backward", "batch rows"): (110, 118),
    ("forms", "electricity", "bfloat16", "backward", "batch rows"): (131, 135),
    ("forms", "p12", "tf32", "backward", "224 registers"): (62, 69),
    ("flags", "notebook", "tf32", "forward", "rnam-masked"): (30, 30),
}


def predicted(stage: str, shape: str, kind: str, pass_: str, provider: str) -> tuple[float, float] | None:
    return PREDICTED.get((stage, shape, kind, pass_, provider))
