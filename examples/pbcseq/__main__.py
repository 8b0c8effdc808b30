"""`python -m examples.pbcseq`."""

import sys

try:
    from examples.pbcseq.demo import main

    status = main()
except ImportError as error:
    sys.exit(f"error: {error}; the demo needs rnam with its extra `demo`: pip install -e '.[demo]'")
except KeyboardInterrupt:  # before `main` handles it: while torch is imported, or the options are read
    print("\nInterrupted before the training.", file=sys.stderr)
    status = 130

sys.exit(status)
