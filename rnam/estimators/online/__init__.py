"""Visits as they come: `model.online()` of a fitted RNAM estimator.

live = model.online()
answer = live.update({"idcode": 7, "year": 88, "ln_wage": 1.9})
answer.prediction, answer.contributions["ln_wage"]
live.save("union.states")
live = rnam.estimators.online.resume(model, "union.states")

`rnam.estimators.online.stream`     `Online`: what it takes, and the calls of the model
`rnam.estimators.online.visits`     visits as a panel; those that are late
`rnam.estimators.online.store`      the states by id
`rnam.estimators.online.answers`    `Answer`: predictions and contributions by name
`rnam.estimators.online.files`      states in a file
"""

from __future__ import annotations

from rnam.estimators.online.answers import Answer
from rnam.estimators.online.stream import Online, resume
from rnam.estimators.online.visits import Late

__all__ = ["Answer", "Late", "Online", "resume"]
