"""A child process with a deadline: libcuda may hang in the kernel, and the Hub's client cannot be interrupted."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from selfhost.parent_death import dying_with_us

REAP_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How it went."""

    code: int
    stdout: str
    stderr: str


def run(argv: Sequence[str], *, seconds: float, environ: Mapping[str, str], grace_seconds: float = 0.0) -> Ended:
    """Run `argv` in a group of its own; raises `subprocess.TimeoutExpired` after SIGKILL to the group, and `OSError`.

    One that starts groups itself gets SIGINT first, and `grace_seconds` to end them. Not `subprocess.run`, which then
    waits for the child to be gone: one in uninterruptible sleep may stay. It dies with the thread that called this,
    where the kernel can do that.
    """
    process = subprocess.Popen(
        dying_with_us(argv) if sys.platform == "linux" else argv,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=seconds)
        return Ended(code=process.returncode, stdout=stdout, stderr=stderr)
    finally:
        if process.poll() is None and grace_seconds:
            _send(process, signal.SIGINT, grace_seconds)
        if process.poll() is None:
            _send(process, signal.SIGKILL, REAP_SECONDS)
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


def _send(process: subprocess.Popen[str], number: signal.Signals, seconds: float) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
