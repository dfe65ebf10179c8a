"""Files of this user: secrets, engine environments, and what crashed work left behind."""

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from selfhost import paths, state
from selfhost.doctor.facts import CrashedRun, InstalledEngine, Leftovers, PrivateFile, Problem, Rest
from selfhost.engines import environment
from selfhost.errors import SelfhostError
from selfhost.runtime import process
from selfhost.runtime.control_client import ControlClient

# Keys as their makers shape them: the Hub's, selfhost's own, and those of hosted models.
KEY = re.compile(r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,})")


def private_files() -> tuple[PrivateFile, ...]:
    """What holds secrets and is there."""
    token = paths.hub_token_file()
    candidates = [
        (token, "the Hub token"),
        (token.with_name("stored_tokens"), "the Hub tokens"),
        (paths.user_home() / ".netrc", "passwords"),
    ]
    for name in paths.manifests():
        folder = paths.state_dir(name)
        candidates += [(folder, f"the state of '{name}'"), (folder / "keys.json", f"the hashes of '{name}''s keys")]
    found = []
    for path, holds in candidates:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            mode = path.stat().st_mode
            found.append(PrivateFile(path=str(path), holds=holds, mode=stat.S_IMODE(mode), folder=stat.S_ISDIR(mode)))
    return tuple(found)


def lines_with_keys(text: str) -> tuple[int, ...]:
    """The lines of a manifest, from 1, that hold what looks like a key."""
    return tuple(number for number, line in enumerate(text.splitlines(), 1) if KEY.search(line))


def engines() -> tuple[InstalledEngine, ...]:
    """The environments that selfhost built."""
    return tuple(
        InstalledEngine(vllm_version=each.vllm_version, path=str(each.directory)) for each in environment.installed()
    )


def leftovers() -> Leftovers:
    """What nobody looks after any more, of every manifest of this user."""
    runs: list[CrashedRun] = []
    unreadable: list[Problem] = []
    for name in paths.manifests():
        try:
            records = state.read_records(name)
            if records and not ControlClient(name).is_running():
                runs += [_crashed(name, record) for record in records]
        except SelfhostError as error:
            unreadable.append(Problem(message=error.message, hint=error.hint))
    return Leftovers(
        runs=tuple(runs), builds=tuple(_builds()), downloads=tuple(_downloads()), unreadable=tuple(unreadable)
    )


def _crashed(manifest: str, record: state.RunRecord) -> CrashedRun:
    return CrashedRun(
        manifest=manifest,
        name=record.name,
        pid=record.process.pid if process.still_runs(record) else None,
        shared_memory_bytes=sum(_occupied(Path(path)) for path in record.shared_memory),
    )


def _builds() -> Iterator[Rest]:
    for path in environment.directories():
        try:
            whole = environment.read(path)
        except SelfhostError:  # of a newer selfhost
            continue
        if whole is None and not _is_being_built(path):
            yield Rest(path=str(path), size_bytes=environment.disk_bytes(path))


def _is_being_built(path: Path) -> bool:
    """Whether somebody holds the lock that `engines.lock` takes for this folder."""
    try:
        descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _downloads() -> Iterator[Rest]:
    """Half-fetched files of the Hub cache that no process has open, as far as this user may see."""
    halves = sorted(paths.hub_cache_dir().glob("*--*/blobs/*.incomplete"))
    if not halves:
        return
    opened = _open_files()
    for path in halves:
        if str(path.resolve()) not in opened:
            yield Rest(path=str(path), size_bytes=_occupied(path))


def _open_files() -> set[str]:
    found = set()
    for descriptors in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to somebody else
            for descriptor in os.scandir(descriptors):
                with contextlib.suppress(OSError):
                    found.add(str(Path(descriptor.path).readlink()))
    return found


def _occupied(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0
