"""The benchmark suite in a short form; nothing is asserted of a time."""
