"""How an example starts as a program, before torch is imported."""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn


def start(module: str, extra: str) -> NoReturn:
    """Run `main` of a module and exit with its status. A package that is missing is named, with the extra that has it.

    Ctrl-C counts from the first import on: `main` handles it only when it runs.
    """
    try:
        status = importlib.import_module(module).main()
    except ImportError as error:
        sys.exit(f"error: {error}; this needs rnam with its extra `{extra}`: pip install -e '.[{extra}]'")
    except KeyboardInterrupt:
        print("\nInterrupted before the training.", file=sys.stderr)
        status = 130
    sys.exit(status)
