"""The machine ledger: what every manifest of this user claims of each device.

Each manager writes its own claims into its runtime directory, and the ledger is all of them together. They count as
long as their manager lives and, when it was killed, as long as the engines do that it left behind.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from selfhost import atomic, paths, regular_file, state
from selfhost.errors import SelfhostError
from selfhost.planner.acceptance import claims_of, require_room
from selfhost.planner.claims import Claim, ManifestClaims
from selfhost.planner.plan import Plan
from selfhost.planner.reconcile import ObservedReplica
from selfhost.runtime import process
from selfhost.runtime.manager_lock import try_flock
from selfhost.state import ProcessIdentity

log = logging.getLogger(__name__)

CLAIMS = "claims.json"
FORMAT_VERSION = 1
LARGEST_BYTES = 1024**2
LOCK_SECONDS = 10.0  # others hold the lock for as long as it takes to read some small files and to write one
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsDocument:
    """The file of one manager."""

    format_version: int = FORMAT_VERSION
    manager: ProcessIdentity
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The claims of all manifests of this user, and what could not be read of them."""

    manifests: tuple[ManifestClaims, ...] = ()
    problems: tuple[str, ...] = ()  # sentences

    def others(self, manifest: str) -> tuple[ManifestClaims, ...]:
        """The claims of every manifest but this one."""
        return tuple(each for each in self.manifests if each.manifest != manifest)

    def of(self, manifest: str) -> ManifestClaims:
        """The claims of this manifest."""
        return next(
            (each for each in self.manifests if each.manifest == manifest),
            ManifestClaims(manifest=manifest, claims=()),
        )


_codec: TypeAdapter[ClaimsDocument] = TypeAdapter(ClaimsDocument)


def read_ledger() -> Ledger:
    """The ledger as it is now; never raises for what it finds.

    Folders of other users, which a shared `$SELFHOST_RUNTIME` may have, are not looked into.
    """
    found: list[ManifestClaims] = []
    problems: list[str] = []
    for folder in _own_folders():
        try:
            document = _read(folder / CLAIMS)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            problems.append(
                f"cannot tell what manifest '{folder.name}' claims of this machine, so only what it holds already "
                f"counts: {folder / CLAIMS}: {reason}"
            )
            continue
        if claims := _living(folder.name, document):
            found.append(ManifestClaims(manifest=folder.name, claims=claims))
    return Ledger(manifests=tuple(found), problems=tuple(problems))


class OwnClaims:
    """What one manager claims, on disk for the others; empty until it accepts a plan."""

    def __init__(self, manifest: str) -> None:
        self._manifest = manifest
        self._path = paths.runtime_dir(manifest) / CLAIMS
        self._plan: Plan | None = None
        self._leaving: set[str] = set()  # replicas that the accepted plan stops, until they are gone
        self._written: tuple[Claim, ...] | None = None

    async def accept(self, plan: Plan, running: Sequence[ObservedReplica], leaving: Collection[str]) -> None:
        """Claim what `plan` needs, in one step with the look at what others claim; `leaving` is what it stops.

        Raises `BlockedError`, and claims nothing more, when that much is not left.
        """
        async with _changing():
            ledger = await asyncio.to_thread(read_ledger)
            for problem in ledger.problems:
                log.warning("%s", problem)
            require_room(plan, running, leaving, ledger.others(self._manifest))
            before = self._plan, self._leaving
            self._plan, self._leaving = plan, set(leaving)
            try:
                self.update(running)
            except OSError as error:
                self._plan, self._leaving = before
                raise SelfhostError(
                    f"cannot write {self._path}: {error.strerror}", hint="is the disk full, or read-only? `df -h` tells"
                ) from error

    def gone(self, replica: str) -> None:
        """What was running as `replica` is gone, and whatever is there by that name now is the accepted plan's."""
        self._leaving.discard(replica)

    def update(self, running: Sequence[ObservedReplica]) -> None:
        """Write what is claimed while `running` is what there is; raises `OSError`."""
        if self._plan is None:
            return
        claims = claims_of(self._plan, running, self._leaving)
        if claims == self._written:
            return
        manager = process.identify(os.getpid())
        if manager is None:
            raise RuntimeError("this process does not exist")
        atomic.write_bytes(self._path, _codec.dump_json(ClaimsDocument(manager=manager, claims=claims)))
        self._written = claims

    def withdraw(self) -> None:
        """Claim nothing any more."""
        self._plan = self._written = None
        self._path.unlink(missing_ok=True)


def _own_folders() -> Iterator[Path]:
    try:
        folders = sorted(paths.runtime_root().iterdir())
    except OSError:  # nothing was ever started, or the folder is not ours
        return
    for folder in folders:
        if not folder.is_symlink() and folder.is_dir():
            try:
                paths.require_private(folder)
            except SelfhostError:
                continue
            yield folder


def _read(path: Path) -> ClaimsDocument:
    """The file at `path`; raises `OSError`, and `ValueError` with a reason for what it holds."""
    text = regular_file.read(path, limit=LARGEST_BYTES)
    try:
        version = json.loads(text)["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("it is damaged") from error
    if version != FORMAT_VERSION:
        raise ValueError(f"it has format {version}, and this selfhost knows {FORMAT_VERSION}")
    try:
        document = _codec.validate_json(text)
    except ValidationError as error:
        raise ValueError("it is damaged") from error
    if any(min(claim.bytes, claim.held_bytes) < 0 for claim in document.claims):
        raise ValueError("it is damaged")  # it would make room that is not there
    return document


def _living(manifest: str, document: ClaimsDocument) -> tuple[Claim, ...]:
    try:
        if process.is_same(document.manager):
            return document.claims
        left = {record.name for record in state.read_records(manifest) if process.still_runs(record)}
    except SelfhostError:  # what may still run may still take its memory
        return document.claims
    return tuple(claim for claim in document.claims if claim.replica in left)


@asynccontextmanager
async def _changing() -> AsyncIterator[None]:
    """Be the only one who looks at the ledger and then adds to it.

    The folder itself is locked: a lock file could not be removed without letting two in, and nothing of ours may stay.
    """
    descriptor = os.open(paths.runtime_root(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while not try_flock(descriptor):
            if time.monotonic() > deadline:
                raise SelfhostError(
                    f"another process keeps {paths.runtime_root()} locked",
                    hint="`lsof` names it; or set SELFHOST_RUNTIME to a directory of your own",
                )
            await asyncio.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)
