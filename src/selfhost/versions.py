"""Which vLLM releases selfhost runs: the one rule for the manifest, the command line and the environments. Pure."""

import re

from packaging.version import Version

from selfhost.errors import BlockedError, SelfhostError

DEFAULT = "0.32.0"
OLDEST = "0.32.0"  # the first release without known remote execution (CVE-2026-114053) and crashes (CVE-2026-115918)

RELEASE = r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}(?:rc[0-9]{1,4})?(?:\.post[0-9]{1,4})?"  # as vLLM numbers them, whole


def is_release(version: str) -> bool:
    """Whether `version` is written as vLLM numbers its releases."""
    return re.fullmatch(RELEASE, version) is not None


def is_supported(release: str) -> bool:
    """Whether `release` is free of known holes that a request can reach; a candidate is older than its release."""
    return Version(release) >= Version(OLDEST)


def require_supported(version: str) -> None:
    """Refuse what is not the number of a release, and releases with known holes."""
    if not is_release(version):
        raise SelfhostError(f"'{version}' is not a release of vLLM", hint=f"write it as {DEFAULT}")
    if not is_supported(version):
        raise BlockedError(
            f"vLLM {version} has known security holes that a request can reach",
            hint=f"use {OLDEST} or newer",
        )
