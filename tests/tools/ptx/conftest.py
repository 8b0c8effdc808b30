"""The tools need Triton, which Windows and macOS do not have."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("triton") else ["test_*.py"]
