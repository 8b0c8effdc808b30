"""`python -m examples.plasmode`."""

import sys

from examples.plasmode.demo import main

sys.exit(main())
