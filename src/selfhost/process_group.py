"""Ending a child process that leads a group of its own."""

import os
import signal
import subprocess
from contextlib import suppress

REAP_SECONDS = 0.2


def end(
    process: subprocess.Popen[bytes] | subprocess.Popen[str],
    *,
    number: signal.Signals = signal.SIGKILL,
    seconds: float = REAP_SECONDS,
) -> None:
    """Send `number` to the group of `process`, if that still runs, and wait until it is gone, but not longer.

    One that hangs inside a driver is in uninterruptible sleep and stays: whoever waits for it hangs too.
    """
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)


def close_pipes(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Close our ends, which a grandchild may keep open on the other side."""
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()
