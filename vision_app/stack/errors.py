"""Errors of the embedded stack. Not for faults of the pipeline itself."""

from __future__ import annotations


class StackError(Exception):
    """Something keeps the embedded stack from working. The message names the cause and what to do next."""


class AlreadyRunningError(StackError):
    """Another supervisor already serves this home. Use it, or stop it with `vision down`."""
