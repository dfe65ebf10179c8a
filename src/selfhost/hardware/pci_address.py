"""PCI addresses, in the one way that they are compared here. Pure."""


def as_sysfs_writes(address: str) -> str:
    """`0000:1b:00.0`, from NVML's `00000000:1B:00.0` and from the `0000:1b:00` of an Xid's line.

    Raises `ValueError` for what is no address.
    """
    domain, _, rest = address.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest if '.' in rest else rest + '.0'}"
