"""PCI addresses, in the one way that they are compared here. Pure."""

import re

_ADDRESS = re.compile(r"([0-9a-f]{1,8}):([0-9a-f]{2}:[0-9a-f]{2})(\.[0-9a-f])?")


def as_sysfs_writes(address: str) -> str:
    """`0000:1b:00.0`, from NVML's `00000000:1B:00.0` and from the `0000:1b:00` of an Xid's line.

    What is no address is left as it is: it equals no other.
    """
    parts = _ADDRESS.fullmatch(address.lower())
    return f"{int(parts[1], 16):04x}:{parts[2]}{parts[3] or '.0'}" if parts else address
