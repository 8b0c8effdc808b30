"""Models that are trained from a table: scikit-learn's estimators on `rnam.RNAM` and `rnam.NAM`.

pip install 'rnam[sklearn]'

model = rnam.RNAMClassifier(random_state=0).fit(panel)
model.predict_proba(later); model.contributions(later)

`rnam.estimators.classifiers`, `rnam.estimators.regressors`    the estimators
`rnam.estimators.survival`                                     the estimator of times to an event
`rnam.estimators.encoding`                                     `Encoder`: columns, levels, scales and terms
`rnam.estimators.losses`                                       `Loss`
`rnam.estimators.training`                                     `train`
"""

from __future__ import annotations

try:
    import pandas  # noqa: F401
    import skorch  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"rnam's estimators need {error.name}, which is not installed: pip install 'rnam[sklearn]'"
    ) from error

from rnam.estimators.classifiers import NAMClassifier, RNAMClassifier
from rnam.estimators.regressors import NAMRegressor, RNAMRegressor
from rnam.estimators.survival import RNAMSurvival

__all__ = ["NAMClassifier", "NAMRegressor", "RNAMClassifier", "RNAMRegressor", "RNAMSurvival"]
