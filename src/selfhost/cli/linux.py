"""Where engines run. What only reads, checks and plans works on every Unix."""

import sys

from selfhost.errors import BlockedError

_NAMES = {"darwin": "macOS"}


def require_linux() -> None:
    """Refuse what starts or installs engines where none runs.

    vLLM's wheels are for Linux, and so is what the manager needs of the kernel (pidfd, /proc, PR_SET_PDEATHSIG).
    Raises `BlockedError`.
    """
    if sys.platform != "linux":
        raise BlockedError(
            f"engines run on Linux only, and this is {_NAMES.get(sys.platform, sys.platform)}",
            hint="here: selfhost check, and selfhost plan --on 1xL4; then selfhost up on a Linux machine",
        )
