"""What an additive model says, in a form that can be checked and shown.

Contributions are arrays (batch, terms, out), over time (batch, terms, seq, out), with a leading dimension of members
where `members=True` says so. Arguments may be numpy arrays, lists or tensors; what is computed from contributions is
float64.

    `rnam.explain.names`        `describe`: names and units of the terms, stored with the model
    `rnam.explain.evaluation`   `contributions`, `intercept`, `observed`
    `rnam.explain.centring`     `Centering`, `importance`, `spread`
    `rnam.explain.calibration`  `recalibrate`, `calibration_slope`, `observed_expected`, `brier_skill`,
                                `calibration_curve`
    `rnam.explain.concurvities`    `concurvity`: how much of each term the others could say
    `rnam.explain.conformity`   `conformal`: bands of numbers and sets of classes, by person, and their coverage
    `rnam.explain.simultaneity` `simultaneous`: one band for a whole curve, from refits
    `rnam.explain.checks`       `observed_check`: the same small regression on measured and on predicted values
    `rnam.explain.responses`    `response`: a term's answer to a step or an impulse
    `rnam.explain.lag_responses`    `lag_response`: what a change does to the prediction at the lags after it
    `rnam.explain.memories`     `memory`: how long each term remembers, and what that is worth
    `rnam.explain.pairs`        `purify`: a pair without what belongs to its main terms
    `rnam.explain.tables`       `table`: shape functions, as CSV and JSON too
"""

from rnam.explain.calibration import (
    CalibrationCurve,
    Recalibration,
    brier_skill,
    calibration_curve,
    calibration_slope,
    observed_expected,
    recalibrate,
)
from rnam.explain.centring import Centering, Spread, importance, spread
from rnam.explain.checks import ObservedCheck, observed_check
from rnam.explain.concurvities import Concurvity, concurvity
from rnam.explain.conformity import Band, Conformal, Coverage, conformal
from rnam.explain.evaluation import contributions, intercept, observed
from rnam.explain.lag_responses import LagResponse, lag_response
from rnam.explain.memories import Memory, memory
from rnam.explain.names import describe
from rnam.explain.pairs import Purified, purify
from rnam.explain.responses import Response, response
from rnam.explain.simultaneity import simultaneous
from rnam.explain.tables import Table, table

__all__ = [
    "Band",
    "CalibrationCurve",
    "Centering",
    "Concurvity",
    "Conformal",
    "Coverage",
    "LagResponse",
    "Memory",
    "ObservedCheck",
    "Purified",
    "Recalibration",
    "Response",
    "Spread",
    "Table",
    "brier_skill",
    "calibration_curve",
    "calibration_slope",
    "concurvity",
    "conformal",
    "contributions",
    "describe",
    "importance",
    "intercept",
    "lag_response",
    "memory",
    "observed",
    "observed_check",
    "observed_expected",
    "purify",
    "recalibrate",
    "response",
    "simultaneous",
    "spread",
    "table",
]
