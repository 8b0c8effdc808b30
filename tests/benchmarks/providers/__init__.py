"""Tests of benchmarks/providers."""
