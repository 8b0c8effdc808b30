"""Explanations of a fitted estimator on a panel: answers as arrays, tables and pictures.

pip install 'rnam[sklearn,plot]'

e = model.explain(test, background=train)
e.importance().plot(); e.person(4711).words(); e.lag_response("rain", size=20, lags=30).frame()

`rnam.explanation.explanation`    `Explanation`, on which each answer is a method
`rnam.explanation.reading`        a fitted estimator as contributions to one number, by member
`rnam.explanation.support`        which values and histories occurred
"""

from rnam.explanation.calibrations import Calibration
from rnam.explanation.counterfactuals import Counterfactual
from rnam.explanation.drifts import Drift
from rnam.explanation.explanation import Explanation
from rnam.explanation.importances import Importance
from rnam.explanation.lag_responses import Cut, ExposureLagResponse
from rnam.explanation.memories import TermMemory
from rnam.explanation.persons import Person
from rnam.explanation.results import Result
from rnam.explanation.shapes import PairShape, Shape, Shapes
from rnam.explanation.trust import Missingness, Stability, TermConcurvity

__all__ = [
    "Calibration", "Counterfactual", "Cut", "Drift", "Explanation", "ExposureLagResponse", "Importance", "Missingness",
    "PairShape", "Person", "Result", "Shape", "Shapes", "Stability", "TermConcurvity", "TermMemory",
]  # fmt: skip
