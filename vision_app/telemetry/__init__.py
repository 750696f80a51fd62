"""Logs, metrics, traces, and the watch over work that stands still."""
