"""`python -m examples.pbcseq`."""

import sys

try:
    from examples.pbcseq.demo import main
except ImportError as error:
    sys.exit(f"error: {error}; the demo needs rnam with its extra `demo`: pip install -e '.[demo]'")

sys.exit(main())
