"""The tests are left out where skorch or another package of the extra `compare` is not installed."""

from __future__ import annotations

import importlib.util

NEEDED = ("matplotlib", "sklearn", "skorch", "tqdm")
collect_ignore_glob = [] if all(map(importlib.util.find_spec, NEEDED)) else ["test_*.py"]
