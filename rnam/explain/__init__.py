"""What an additive model says, in a form that can be checked and shown.

Contributions are arrays (batch, terms, out), over time (batch, terms, seq, out), with a leading dimension of members
where `members=True` says so. Arguments may be numpy arrays, lists or tensors; what is computed is float64.

    names        `describe`: names and units of the terms, stored with the model
    values       `contributions`, `intercept`, `observed`
"""

from rnam.explain.evaluation import contributions, intercept, observed
from rnam.explain.names import describe

__all__ = ["contributions", "describe", "intercept", "observed"]
