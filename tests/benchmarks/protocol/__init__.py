"""Tests of benchmarks/protocol."""
