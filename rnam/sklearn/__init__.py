"""The models as scikit-learn estimators: skorch's nets for models that give a prediction and contributions.

    pip install 'rnam[sklearn]'

    net = AdditiveRegressor(rnam.NAM, module__terms=3, max_epochs=50, lr=1e-3, random_state=0)
    sklearn.model_selection.cross_val_score(net, X, y, params={"sample_weight": w})

Everything else is skorch's: callbacks, early stopping, checkpoints, devices, pickling, GridSearchCV over `module__*`.

X:
    A frame or an array (samples, columns), or an array (samples, steps, columns) for a recurrent model with `columns`.
    For a model with more arguments, skorch.helper.SliceDict(input=..., mask=..., lengths=...), whose first dimension is
    that of the samples. Columns are of floats, integers, bools, nullable numbers or objects that are numbers. Words,
    dates and pandas's categories are refused by the name of their column. Predictions of a model in half precision are
    float32. A prediction that overflows is a RuntimeWarning.

    The columns are known by name, as `feature_names_in_`, and a frame with other columns, or the same in another
    order, is refused. The terms of the model are called after them (`rnam.explain`).

Missing values:
    NaN, NA, None, infinities and what a masked array hides in X are masked for a model that was made with
    `missing=True`, and for the terms of an RNAM that read a sequence. Any other model refuses them, by the name of the
    column. So does a module of one's own, unless its attribute `missing` is not None; it is then given `mask=`. y,
    weights, lengths, and the times of steps at which a term is observed must be there.

Weights:
    The loss of a batch is the sum of its weighted errors, divided by the batch size and by the mean weight of the
    training part. Small batches and the whole set thus have the same optimum. The validation loss is the weighted mean
    over the validation part.

Members:
    A model with `module__members=K` is trained as K models. Each has the loss that it would have alone, and the loss is
    their sum. With `fit(X, y, resample=ids)` each learns from its own bootstrap sample of people. predict gives their
    mean, as does what is validated.
"""

from __future__ import annotations

try:
    import skorch  # noqa: F401
except ImportError as error:
    raise ImportError("rnam.sklearn needs skorch, which is not installed: pip install 'rnam[sklearn]'") from error

from rnam.sklearn.nets import AdditiveBinaryClassifier, AdditiveClassifier, AdditiveRegressor

__all__ = ["AdditiveBinaryClassifier", "AdditiveClassifier", "AdditiveRegressor"]
