"""`python -m rnam`, see `rnam.command`."""

from rnam.command.options import main

if __name__ == "__main__":
    raise SystemExit(main())
