"""The tests mirror the files they test; tests/support holds what several need."""
