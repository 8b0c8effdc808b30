"""The benchmark suite: `python -m benchmarks`, see `__main__.py`."""

import os

# The profiler behind `memory` writes a line to stderr at each start and stop; it reads this when torch is imported.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
