"""The logs of the gateway and of the manager, which whoever reaches the port can make grow: bounded while they run."""

import asyncio
from contextlib import suppress
from pathlib import Path

from selfhost import paths
from selfhost.runtime.logfile import rotate

OWN = ("gateway", "manager")
LARGEST_BYTES = 48 * 1024**2  # of each part of a log; with what comes between two looks, two parts stay below 128 MiB
LOOK_SECONDS = 2.0


def own_log(manifest: str, name: str) -> Path:
    """The log of the `gateway` or of the `manager`; an earlier part of it may be next to it."""
    return paths.state_dir(manifest) / "logs" / f"{name}.log"


async def keep_bounded(manifest: str) -> None:
    """Rotate both logs whenever they have grown too large, until cancelled."""
    while True:
        for name in OWN:
            with suppress(OSError):  # not there yet; or the disk is full, and then it is tried again
                await asyncio.to_thread(rotate, own_log(manifest, name), LARGEST_BYTES)
        await asyncio.sleep(LOOK_SECONDS)
