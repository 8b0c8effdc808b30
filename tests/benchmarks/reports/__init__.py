"""Tests of benchmarks/reports."""
