"""Programs that use rnam. Run one as a module from the repository's root: `python -m examples.river`."""
