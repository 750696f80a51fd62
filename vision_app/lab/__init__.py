"""What tests, measures and shows the system: the demo, soak and crash runs, benchmarks, faults.

No module outside of it imports it.
"""
