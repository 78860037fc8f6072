"""Becomes a server process: takes the lock on its data, gives up root, arranges to die with its parent, then execs.

`python -m cluster.embedded.launch --lock=PATH --signal=N --user=NAME --stale=PATH -- PROGRAM [ARGUMENT …]`
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import pwd
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1

# The children of a killed server take a moment to notice.
LOCK_DEADLINE_S = 5.0


def main() -> None:
    """Does not return: the program takes this process over, so its pid is the server's."""
    options = _parse()
    _lock(options.lock)
    if options.stale:
        # Whoever wrote it is gone, for we hold the lock; its pid may be somebody else's by now.
        Path(options.stale).unlink(missing_ok=True)
    if options.user:
        _become(options.user)
    # Last, for a change of user undoes it.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, options.signal, 0, 0, 0)
    os.execv(options.program[0], options.program)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run an embedded server in the foreground.")
    parser.add_argument("--lock", required=True, help="file to lock; a second server on the same data exits with 75")
    parser.add_argument("--signal", type=int, required=True, help="what it gets when its parent dies; 0: nothing")
    parser.add_argument("--user", default="", help="user to become; empty: stay who we are")
    parser.add_argument("--stale", default="", help="pid file of a killed predecessor, removed under the lock")
    parser.add_argument("program", nargs="+", help="program and arguments, after --")
    return parser.parse_args()


def _lock(path: str) -> None:
    """Inherited by the program and its children, so an orphan cannot meet its successor on the same files."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(descriptor, True)
    deadline = time.monotonic() + LOCK_DEADLINE_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                print(f"another server runs on the data that {path} guards; stop it first", file=sys.stderr)
                sys.exit(os.EX_TEMPFAIL)
        time.sleep(0.05)


def _become(user: str) -> None:
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


if __name__ == "__main__":
    main()
