"""The models as scikit-learn estimators: skorch's nets, taught that a model gives a prediction and contributions.

    pip install 'rnam[sklearn]'

    net = AdditiveRegressor(rnam.RNAM, module__terms=3, ..., module__columns=[[0], [1], [2]], max_epochs=50, lr=1e-3)
    sklearn.model_selection.cross_val_score(net, X, y, params={"sample_weight": w})

Everything else is skorch's: callbacks, early stopping, checkpoints, devices, pickling, GridSearchCV over `module__*`.
A model with `module__members=K` is trained as K models: each has the loss that it would have alone, and the loss is
their sum; on bootstrap samples of people with `fit(X, y, resample=ids)`. predict gives their mean, as does what is
validated.

X is an array or a pandas frame for the model's first argument, or skorch.helper.SliceDict(input=..., mask=...,
lengths=...), whose first dimension is that of the samples; so a recurrent model takes `columns`. What the terms read,
`input` and `static`, may be integers or floats of any precision; predictions of halves come as float32.
"""

from __future__ import annotations

try:
    import skorch  # noqa: F401
except ImportError as error:
    raise ImportError("rnam.sklearn needs skorch, which is not installed: pip install 'rnam[sklearn]'") from error

from rnam.sklearn.nets import AdditiveBinaryClassifier, AdditiveClassifier, AdditiveRegressor

__all__ = ["AdditiveBinaryClassifier", "AdditiveClassifier", "AdditiveRegressor"]
