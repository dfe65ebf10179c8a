"""What the kernel tells in files, in /proc and /sys.

In a sandbox something else may lie in their place, a pipe or a device: no reader here waits for one or reads on and on.
"""

from pathlib import Path

from selfhost import regular_file
from selfhost.units import MIB

LARGEST_BYTES = 4 * MIB  # of a file; what comes after it is not looked at (20,000 mounts are less)
_MOST_DIGITS = 20  # of 2**64


def read_text(path: Path) -> str | None:
    """The text of `path` without the white space around it; None where there is no such file, or none to be read."""
    try:
        with regular_file.opened(path) as file:
            return file.read(LARGEST_BYTES).decode(errors="replace").strip()
    except OSError:
        return None


def number(text: str) -> int | None:
    """The number that `text` is; None for anything else ("max", "-1")."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None
