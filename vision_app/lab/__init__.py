"""Tests, measures and demonstrates the system: the demo, soak and crash runs, benchmarks, faults.

No module outside this package imports it.
"""
