"""Records on disk of what was started: enough to recognise, reach and clean up every process after a crash of ours."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from selfhost import atomic, paths, regular_file
from selfhost.errors import SelfhostError

FORMAT_VERSION = 1
LARGEST_BYTES = 1024**2  # of a record


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """A process that cannot be confused with a later one of the same pid (proc(5): stat field 22; boot_id)."""

    pid: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One started engine or gateway."""

    format_version: int = FORMAT_VERSION
    name: str  # "chat/0", "gateway-4711"
    process: ProcessIdentity  # leader of its own process group and session
    members: tuple[ProcessIdentity, ...] = ()  # of its group, when last looked at; they can outlive the leader
    started: float  # seconds since the epoch
    log: str
    temp_dir: str | None = None
    socket: str | None = None
    shared_memory: tuple[str, ...] = ()  # paths under /dev/shm that its processes had mapped


_records: TypeAdapter[RunRecord] = TypeAdapter(RunRecord)


def write_record(manifest: str, record: RunRecord) -> None:
    """Write or replace the record of `record.name`."""
    atomic.write_bytes(_path(manifest, record.name), _records.dump_json(record, indent=2))


def remove_record(manifest: str, name: str) -> None:
    """Forget `name`; nothing happens when there is no record."""
    _path(manifest, name).unlink(missing_ok=True)


def read_records(manifest: str) -> tuple[RunRecord, ...]:
    """All records of a manifest.

    Raises `SelfhostError` for one that cannot be read: a guess could kill a stranger or start a second engine.
    """
    return tuple(_read(path) for path in _files(manifest))


def _files(manifest: str) -> Iterator[Path]:
    folder = paths.state_dir(manifest) / "running"
    return iter(sorted(folder.glob("*.json"))) if folder.is_dir() else iter(())


def _path(manifest: str, name: str) -> Path:
    return paths.state_dir(manifest) / "running" / f"{name.replace('/', '-')}.json"


def _read(path: Path) -> RunRecord:
    hint = f"if nothing of it runs any more, remove {path}"
    try:
        record = _records.validate_json(regular_file.read(path, limit=LARGEST_BYTES))
    except OSError as error:
        raise SelfhostError(f"cannot read the record {path}: {error.strerror}", hint=hint) from error
    except ValidationError as error:
        raise SelfhostError(f"the record {path} is damaged or of another version of selfhost", hint=hint) from error
    if record.format_version != FORMAT_VERSION:
        raise SelfhostError(
            f"the record {path} has format {record.format_version}; this selfhost knows {FORMAT_VERSION}",
            hint="use the version of selfhost that wrote it",
        )
    return record
