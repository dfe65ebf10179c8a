"""Checks of what others should not read. Pure."""

from collections.abc import Iterator
from shlex import quote

from selfhost.doctor.facts import PrivateFile
from selfhost.doctor.finding import Verdict, fine, warning

OTHERS = 0o077  # permission bits of group and others


def file_modes(files: tuple[PrivateFile, ...]) -> Iterator[Verdict]:
    """Files with secrets that more people can read than should."""
    open_ = [file for file in files if file.mode & OTHERS]
    for file in open_:
        yield warning(
            f"{file.holds} in {file.path} can be read by other users (mode {file.mode:04o})",
            fix=f"chmod {'700' if file.folder else '600'} {quote(file.path)}",
        )
    if files and not open_:
        yield fine(f"what holds secrets is for this user alone: {', '.join(file.path for file in files)}")


def in_manifest(lines: tuple[int, ...]) -> Iterator[Verdict]:
    """Keys that are written into the manifest, which is reviewed and committed."""
    if lines:
        where = ", ".join(str(line) for line in lines)
        yield warning(
            f"the manifest holds what looks like a key or token in line {where}: who reads the file has it; write "
            "${env:NAME} in its place, and make a new one",
        )
    else:
        yield fine("nothing in the manifest looks like a key or token")
