"""Weights on this machine: where they are, what is missing, and the child process that fetches them.

They lie in the standard Hub cache, where other tools find them too. The transfer itself is the Hub client's.
"""

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from selfhost import demo, paths
from selfhost.catalog.model import CheckpointKind, CheckpointRef
from selfhost.errors import BlockedError, SelfhostError
from selfhost.parent_death import die_with
from selfhost.progress import Progress, Report
from selfhost.units import format_bytes

REPORT_SECONDS = 0.5


def locate(checkpoint: CheckpointRef) -> Path:
    """The folder that an engine is given: always a local one, so that no engine fetches anything by itself."""
    if checkpoint.kind is CheckpointKind.BUILT_IN:
        return demo.path(checkpoint.location)
    if checkpoint.kind is CheckpointKind.LOCAL:
        return Path(checkpoint.location)
    return _repository_folder(checkpoint) / "snapshots" / str(checkpoint.revision)


def missing_bytes(checkpoint: CheckpointRef) -> int:
    """How much of the checkpoint is not on this machine yet, by the sizes that the Hub states."""
    if checkpoint.kind is not CheckpointKind.HUB:
        return 0
    folder = locate(checkpoint)
    return sum(size for name, size in _files(checkpoint).items() if not _is_whole(folder / name, size))


def check_disk(checkpoint: CheckpointRef) -> None:
    """Refuse with numbers when what is missing does not fit the disk that will hold it."""
    missing = missing_bytes(checkpoint)
    folder = _repository_folder(checkpoint)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if missing > free:
        raise BlockedError(
            f"{checkpoint.label} needs {format_bytes(missing)} more disk and {existing} has {format_bytes(free)} free",
            hint="free some, or set HF_HOME to a larger disk",
        )


def fetch_command(checkpoint: CheckpointRef) -> tuple[str, ...]:
    """The child process that fetches what is missing; it prints one `Progress` per line on standard output.

    A process of its own because the Hub client cannot be interrupted: it can be killed instead. It dies with us.
    """
    revision = str(checkpoint.revision)
    return (sys.executable, "-P", "-m", "selfhost.weights", checkpoint.location, revision, str(os.getpid()))


def fetch(repo: str, commit: str, report: Report) -> None:
    """Fetch the serving files of `repo` at `commit` into the Hub cache; raises `SelfhostError` with the reason."""
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from selfhost.catalog import huggingface
    from selfhost.catalog.hub_errors import explain

    files = huggingface.serving_files_of(repo, commit)
    checkpoint = CheckpointRef(kind=CheckpointKind.HUB, location=repo, revision=commit, total_bytes=sum(files.values()))
    disable_progress_bars()
    finished = threading.Event()
    watcher = threading.Thread(target=_report_growth, args=(checkpoint, report, finished), daemon=True)
    watcher.start()
    try:
        snapshot_download(repo, revision=commit, allow_patterns=list(files))
    except (httpx2.HTTPError, OSError) as error:
        raise explain(error, repo, commit) from error
    finally:
        finished.set()
        watcher.join()


def _report_growth(checkpoint: CheckpointRef, report: Report, finished: threading.Event) -> None:
    """Tell about bytes as they reach the disk: the client's own bars move in steps of 10 MiB and count some twice."""
    blobs = _repository_folder(checkpoint) / "blobs"
    there = checkpoint.total_bytes - missing_bytes(checkpoint) - _size(blobs)
    last = -1
    while not finished.wait(REPORT_SECONDS):
        done = min(there + _size(blobs), checkpoint.total_bytes)
        if done != last:
            report(
                Progress(
                    phase="downloading",
                    message=f"{checkpoint.label}: {format_bytes(done)} of {format_bytes(checkpoint.total_bytes)}",
                    done_bytes=done,
                    total_bytes=checkpoint.total_bytes,
                )
            )
        last = done


def _size(folder: Path) -> int:
    """Bytes in the files of `folder`, half-fetched ones included; they may vanish while we look."""
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            with contextlib.suppress(FileNotFoundError):
                total += entry.stat().st_size
    return total


def main(args: Sequence[str]) -> int:
    """`python -m selfhost.weights REPO COMMIT PARENT`: fetch, with progress as JSON lines on standard output.

    PARENT is the process that started this one: without it nobody would know of the transfer, so it ends with it.
    """
    repo, commit, parent = args
    die_with(int(parent))
    try:
        fetch(repo, commit, lambda progress: print(progress.to_json(), flush=True))  # noqa: T201 (the protocol)
    except SelfhostError as error:
        print(*error.lines(), sep="\n", file=sys.stderr)  # noqa: T201 (likewise)
        return error.exit_code
    return 0


def _repository_folder(checkpoint: CheckpointRef) -> Path:
    return paths.hub_cache_dir() / f"models--{checkpoint.location.replace('/', '--')}"


def _files(checkpoint: CheckpointRef) -> dict[str, int]:
    from selfhost.catalog import huggingface

    return huggingface.serving_files_of(checkpoint.location, str(checkpoint.revision))


def _is_whole(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
