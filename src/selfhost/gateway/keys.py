"""API keys at rest: who may call, as hashes in one file. Nothing in it opens a door; a key is shown once, when made."""

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from selfhost import atomic, regular_file
from selfhost.errors import SelfhostError
from selfhost.units import MIB

FORMAT_VERSION = 1
LARGEST_VERSION = 1000  # what is more is damage
LARGEST_FILE_BYTES = 10 * MIB  # 30,000 keys
PREFIX = "sk-selfhost-"  # recognisable in a leak, to people and to secret scanners

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Signature = tuple[int, int, int]  # of a file: another one means other contents


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """What is written down about a key."""

    id: str
    name: str
    sha256: str  # of the whole key, hexadecimal
    created: str  # 2026-11-21T22:30:00Z
    revoked: str | None = None  # when; a revoked key stays on record, so that its end does not open the gateway


def _nobody(plaintext: str) -> None:
    del plaintext


class KeyStore:
    """The keys of one manifest, in the file `path`, which need not exist.

    Every method reads the file anew when it has changed, so a key made or revoked by another process counts at once.
    All raise `SelfhostError` when the file cannot be read or understood.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signature: Signature | None = None
        self._records: tuple[KeyRecord, ...] = ()

    def create(self, name: str, *, show: Callable[[str], object] = _nobody) -> tuple[KeyRecord, str]:
        """Make a key and write down its hash; the key itself is in the answer and nowhere else.

        `show` gets it first. If that raises there is no key, for the gateway would demand one that nobody has seen.
        """
        if not _NAME.fullmatch(name):
            raise SelfhostError(
                f"'{name}' cannot be the name of a key",
                hint="use up to 64 letters, digits, dots, dashes and underscores, starting with a letter or digit",
            )
        plaintext = PREFIX + secrets.token_hex(24)
        record = KeyRecord(
            id=f"key-{secrets.token_hex(4)}", name=name, sha256=hash_key(plaintext.encode()).hex(), created=_now()
        )
        with self._locked():
            if any(other.name == name for other in self.list()):
                raise SelfhostError(
                    f"there is already a key named '{name}'", hint=f"selfhost keys revoke {name}, or take another name"
                )
            show(plaintext)
            self._write((*self.records(), record))
        return record, plaintext

    def list(self) -> tuple[KeyRecord, ...]:
        """The keys that are valid, the oldest first."""
        return tuple(record for record in self.records() if record.revoked is None)

    def records(self) -> tuple[KeyRecord, ...]:
        """All keys ever made, revoked ones too."""
        signature = self.signature()
        if signature != self._signature:
            self._records = () if signature is None else _parse(self._path, self._read())
            self._signature = signature
        return self._records

    def revoke(self, id_or_name: str) -> KeyRecord:
        """End a key, by its id or the name it has as long as it is active."""
        with self._locked():
            for record in self.list():
                if id_or_name in {record.id, record.name}:
                    revoked = replace(record, revoked=_now())
                    self._write(tuple(revoked if other is record else other for other in self.records()))
                    return revoked
        raise SelfhostError(f"there is no active key '{id_or_name}'", hint="selfhost keys list")

    def signature(self) -> Signature | None:
        """Of the file as it is now, for one `stat`; None when there is none."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(self._path, error) from error
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> bytes:
        try:
            return regular_file.read(self._path, limit=LARGEST_FILE_BYTES)
        except OSError as error:
            raise _unreadable(self._path, error) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time. The lock is on a file beside the store, since the store itself is replaced."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(self._path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        except OSError as error:
            raise _unwritable(self._path, error) from error
        finally:
            os.close(descriptor)

    def _write(self, records: tuple[KeyRecord, ...]) -> None:
        document = {"format_version": FORMAT_VERSION, "keys": [asdict(record) for record in records]}
        atomic.write_bytes(self._path, json.dumps(document, indent=2).encode() + b"\n")


def hash_key(plaintext: bytes) -> bytes:
    """What is stored for a key. Keys are random, so a slow hash would add nothing but time to each request."""
    return hashlib.sha256(plaintext).digest()


def _parse(path: Path, raw: bytes) -> tuple[KeyRecord, ...]:
    try:
        document: Any = json.loads(raw)
        version = document["format_version"]
        if version == FORMAT_VERSION:
            return tuple(_record(fields) for fields in document["keys"])
        if not isinstance(version, int) or not 0 < version < LARGEST_VERSION:
            raise ValueError("the version is none")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SelfhostError(
            f"the key file {path} is damaged", hint="restore it from a backup, or remove it and create the keys anew"
        ) from error
    raise SelfhostError(
        f"the key file {path} has format {version}, this version of selfhost reads format {FORMAT_VERSION}",
        hint="use the version of selfhost that wrote it, or a newer one",
    )


def _record(fields: dict[str, Any]) -> KeyRecord:
    record = KeyRecord(**fields)
    texts = (record.id, record.name, record.sha256, record.created)
    if not all(isinstance(text, str) for text in texts) or not isinstance(record.revoked, str | None):
        raise TypeError("a field of a key is not text")
    if not _SHA256.fullmatch(record.sha256):
        raise ValueError("the hash of a key is not a SHA-256")
    return record


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unreadable(path: Path, error: OSError) -> SelfhostError:
    return SelfhostError(f"cannot read the key file {path}: {error.strerror}", hint="check who owns it")


def _unwritable(path: Path, error: OSError) -> SelfhostError:
    return SelfhostError(f"cannot write the key file {path}: {error.strerror}", hint="check its directory")
