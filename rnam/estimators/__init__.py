"""Models that are trained from a table: scikit-learn's estimators on `rnam.RNAM` and `rnam.NAM`.

pip install 'rnam[sklearn]'
"""

from __future__ import annotations
