"""What a manager that was killed left behind: its processes, sockets, temporary files and shared memory."""

import contextlib
import shutil

from selfhost import paths, state
from selfhost.runtime.engine_process import clean_up
from selfhost.runtime.process import end_recorded


async def end_leftovers(manifest: str) -> tuple[str, ...]:
    """End and remove everything that the records of `manifest` name; returns the names of what still ran."""
    ended = []
    for record in state.read_records(manifest):
        if await end_recorded(record):
            ended.append(record.name)
        clean_up(manifest, record)
    return tuple(ended)


def remove_runtime_dir(manifest: str) -> None:
    """Remove the folder of sockets and tables; only right while no manager runs."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(paths.runtime_dir(manifest))
