"""What a manager that was killed left behind: its processes, sockets, temporary files and shared memory."""

import shutil

from selfhost import paths, state
from selfhost.runtime import process
from selfhost.runtime.engine_process import clean_up, with_shared_memory
from selfhost.runtime.manager_lock import LOCK


async def end_leftovers(manifest: str) -> tuple[str, ...]:
    """End and remove everything that the records of `manifest` name; returns the names of what still ran."""
    ended = []
    for record in state.read_records(manifest):
        left = record
        if process.still_runs(record):
            left = with_shared_memory(record)
            await process.end_group(record.process.pid)
            ended.append(record.name)
        clean_up(manifest, left)
    return tuple(ended)


def clear_runtime_dir(manifest: str) -> None:
    """Remove sockets, tables and temporary files; only right for who holds the manager's lock, which stays."""
    for path in paths.runtime_dir(manifest).iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
