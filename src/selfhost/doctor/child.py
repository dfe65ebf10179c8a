"""A child process with a deadline: libcuda may hang in the kernel, and the Hub's client cannot be interrupted."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfhost import process_group
from selfhost.parent_death import dying_with_us


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
        if grace_seconds:
            process_group.end(process, number=signal.SIGINT, seconds=grace_seconds)
        process_group.end(process)
        process_group.close_pipes(process)
