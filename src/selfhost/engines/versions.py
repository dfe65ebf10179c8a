"""Which vLLM releases selfhost runs."""

import re

from selfhost.errors import BlockedError, SelfhostError

DEFAULT = "0.32.0"
OLDEST = "0.32.0"  # the first release without known remote execution (CVE-2026-114053) and crashes (CVE-2026-115918)

_RELEASE = re.compile(r"\d+\.\d+\.\d+(rc\d+)?(\.post\d+)?")


def require_supported(version: str) -> None:
    """Refuse what is not the number of a release, and releases with known holes."""
    if not _RELEASE.fullmatch(version):
        raise SelfhostError(f"'{version}' is not a release of vLLM", hint=f"write it as {DEFAULT}")
    if _numbers(version) < _numbers(OLDEST):
        raise BlockedError(
            f"vLLM {version} has known security holes that a request can reach",
            hint=f"use {OLDEST} or newer",
        )


def public(version: str) -> str:
    """The version without its build: `0.32.0+cpu` is `0.32.0`."""
    return version.partition("+")[0]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
