"""Child processes that die when we do, however we die: nobody could find them afterwards.

This file is also the program that makes it so for programs which are not ours: it asks the kernel to be killed when its
parent ends (prctl(2), PR_SET_PDEATHSIG) and becomes the command it was given, in 15 ms. Doing the same between fork and
exec (`preexec_fn`) can hang in a process that has threads.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def dying_with_us(argv: Sequence[str | Path]) -> tuple[str, ...]:
    """The command line that runs `argv` as a child of this process until the thread that started it ends.

    The kernel goes by the thread, so start it in one that waits for it: the main thread, or one that does nothing else.
    """
    return (sys.executable, "-I", "-S", __file__, str(os.getpid()), *map(str, argv))


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; exits at once when that is not `parent` any more."""
    import ctypes  # noqa: PLC0415 (only the child needs it)

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("error: whoever started this has ended")


def _become(argv: list[str]) -> None:
    try:
        os.execvp(argv[0], argv)  # noqa: S606 (no shell is what we want)
    except OSError as error:
        sys.exit(f"error: cannot run {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    _become(sys.argv[2:])
