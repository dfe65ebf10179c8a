"""What a manager that was killed left behind: its processes, sockets, temporary files and shared memory."""

import shutil

from selfhost import paths, state
from selfhost.runtime.engine_process import clean_up
from selfhost.runtime.manager_lock import LOCK
from selfhost.runtime.process import end_recorded


async def end_leftovers(manifest: str) -> tuple[str, ...]:
    """End and remove everything that the records of `manifest` name; returns the names of what still ran."""
    ended = []
    for record in state.read_records(manifest):
        if await end_recorded(record):
            ended.append(record.name)
        clean_up(manifest, record)
    return tuple(ended)


def clear_runtime_dir(manifest: str) -> None:
    """Remove sockets, tables and temporary files; only right for who holds the manager's lock, which stays."""
    for path in paths.runtime_dir(manifest).iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
