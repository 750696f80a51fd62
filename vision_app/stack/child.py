"""Runs a command so that it ends when its parent ends: `child.py PARENT_PID SIGNAL USER -- COMMAND ...`.

Started by path with `python -I -S` for speed, hence only the standard library. It is a separate program, not a
`preexec_fn`, because the supervisor has threads. On Linux the kernel sends SIGNAL to the command when the supervisor
dies, even by kill -9; on other systems the next `vision up` or `vision down` finds the leftover processes.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent, signal_number, user, separator, *command = arguments
    if separator != "--" or not command:
        sys.exit("usage: child.py PARENT_PID SIGNAL USER -- COMMAND ...")
    if user:
        _become(user)  # before asking for the signal: changing the user would cancel it
    if sys.platform == "linux":
        _die_with_parent(int(parent), int(signal_number))
    os.execv(command[0], command)  # noqa: S606 - the very purpose


def _become(user: str) -> None:
    import pwd

    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _die_with_parent(parent: int, signal_number: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the supervisor is gone")


if __name__ == "__main__":
    main(sys.argv[1:])
