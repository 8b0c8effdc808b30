"""First-order scans of any width: of given maps, and of the gates of a cell."""
