"""Processes that end in the middle: forked calls, and functions that kill who calls them."""

from __future__ import annotations

import os
import signal
import traceback


def child(call, *arguments) -> int:
    """Run a call in a forked process, for its exit status only (negative: the signal that ended it)."""
    pid = os.fork()
    if pid == 0:
        try:
            call(*arguments)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def dying(function, left):
    """Return a function that kills its process when ``left`` has run out."""

    def wrapped(*arguments, **options):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return wrapped
