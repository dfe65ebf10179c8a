"""Which vLLM releases selfhost runs: the one rule for the manifest, the command line and the environments. Pure."""

import re

from packaging.version import Version

from selfhost.errors import BlockedError, SelfhostError

DEFAULT = "0.32.0"
OLDEST = "0.32.0"  # the first release without known remote execution (CVE-2026-114053) and crashes (CVE-2026-115918)

# The holes that a request can reach, and the release that closed each (the advisories of vLLM).
HOLES = {
    "CVE-2026-22778": "0.14.1",
    "CVE-2026-27893": "0.18.0",
    "CVE-2026-34756": "0.19.0",
    "CVE-2026-116176": "0.24.0",
    "PYSEC-2026-2303": "0.24.0",
    "CVE-2026-105756": "0.30.0",
    "CVE-2026-105757": "0.30.0",
    "CVE-2026-105758": "0.30.0",
    "CVE-2026-105760": "0.30.0",
    "CVE-2026-114053": "0.31.0",
    "CVE-2026-116180": "0.31.0",
    "CVE-2026-115918": "0.32.0",
}

RELEASE = r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}(?:rc[0-9]{1,4})?(?:\.post[0-9]{1,4})?"  # as vLLM numbers them, whole


def is_release(version: str) -> bool:
    """Whether `version` is written as vLLM numbers its releases."""
    return re.fullmatch(RELEASE, version) is not None


def is_supported(release: str) -> bool:
    """Whether `release` is free of known holes that a request can reach; a candidate is older than its release."""
    return Version(release) >= Version(OLDEST)


def known_holes(release: str) -> tuple[str, ...]:
    """The ids of the holes that `release` has."""
    return tuple(hole for hole, closed in HOLES.items() if Version(release) < Version(closed))


def require_supported(version: str) -> None:
    """Refuse what is not the number of a release, and releases with known holes."""
    if not is_release(version):
        raise SelfhostError(f"'{version}' is not a release of vLLM", hint=f"write it as {DEFAULT}")
    if not is_supported(version):
        raise BlockedError(
            f"vLLM {version} has known security holes that a request can reach",
            hint=f"use {OLDEST} or newer",
        )
