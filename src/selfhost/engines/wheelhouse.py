"""Wheelhouses: folders with every wheel of an engine environment, for machines that reach no package index.

`wheelhouse.json` says what the folder is for, `packages.txt` lists its packages with their hashes.
"""

import hashlib
import json
import platform
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from selfhost import atomic, regular_file, versions
from selfhost.engines import network, sources
from selfhost.engines.build_steps import FULL, Steps, environ_for_uv
from selfhost.engines.resolve import resolve
from selfhost.errors import BlockedError, SelfhostError
from selfhost.planner.plan import Variant
from selfhost.progress import Progress, Report
from selfhost.units import format_bytes

FORMAT_VERSION = 1  # of wheelhouse.json
LARGEST_BYTES = 1024**2  # of wheelhouse.json
READ_SECONDS = 60  # for the next bytes of a download
_CHUNK_BYTES = 1 << 20

_AGAIN = (
    "fill it again where there is a network: selfhost engine download {folder} --vllm {version} --variant {variant}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One file to download."""

    name: str
    url: str
    sha256: str
    size_bytes: int | None  # None: its index does not tell


def download(folder: Path, version: str, variant: Variant, report: Report) -> int:
    """Fill `folder` with what that build of vLLM needs on machines like this one; tell the bytes of its wheels.

    What is there already and whole is kept, so an interrupted download goes on. Raises `SelfhostError`.
    """
    versions.require_supported(version)
    try:
        return _fill(folder, version, variant, report)
    except OSError as error:
        raise SelfhostError(
            f"cannot fill {folder}: {error.strerror or error}",
            hint="name a folder that you can write, on a disk with room (see also UV_CACHE_DIR)",
        ) from error


def _fill(folder: Path, version: str, variant: Variant, report: Report) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    environ, told = environ_for_uv()
    with tempfile.TemporaryDirectory(prefix=".resolving-", dir=folder) as scratch:
        steps = Steps(Path(scratch), variant, environ, report)
        steps.start("checking", "which package indexes answer")
        answering = network.ask(version, variant, environ, equal_indexes=told.equal_indexes, no_index=told.no_index)
        source = resolve(steps, version, answering)
        steps.must_uv(sources.locate_command(source, variant, answering), "uv cannot locate the packages")
        wheels = choose_wheels((Path(scratch) / "pylock.toml").read_text(), tuple(sys_tags()))
        packages = (Path(scratch) / "packages.txt").read_bytes()
    _fetch(wheels, folder, environ, report)
    atomic.write_bytes(folder / "packages.txt", packages, mode=0o644)
    document = {"format_version": FORMAT_VERSION, "vllm_version": version, "variant": variant, **_here()}
    document["wheels"] = [wheel.name for wheel in wheels]
    atomic.write_bytes(folder / "wheelhouse.json", json.dumps(document, indent=1).encode(), mode=0o644)
    return sum((folder / wheel.name).stat().st_size for wheel in wheels)


def require(folder: Path, version: str, variant: Variant) -> Path:
    """The list of a wheelhouse that has that build of vLLM for this machine, with every wheel there.

    The hashes are compared when the wheels are installed. Raises `SelfhostError` when it is none, and `BlockedError`
    when it is for another build or machine.
    """
    again = _AGAIN.format(folder=folder, version=version, variant=variant)
    try:
        document = json.loads(regular_file.read(folder / "wheelhouse.json", limit=LARGEST_BYTES))
        wanted = {"vllm_version": version, "variant": variant, **_here()}
        found = {name: document[name] for name in wanted}
        missing = [name for name in document["wheels"] if not (folder / name).is_file()]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise SelfhostError(f"{folder} is no wheelhouse: {error}", hint=again) from error
    if found != wanted:
        raise BlockedError(
            f"{folder} holds vLLM {found['vllm_version']} ({found['variant']}) for Python {found['python']} on"
            f" {found['architecture']}, and this machine needs vLLM {version} ({variant}) for Python"
            f" {wanted['python']} on {wanted['architecture']}",
            hint=again,
        )
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise SelfhostError(f"{folder} lacks {missing[0]}{more}", hint=again)
    return folder / "packages.txt"


def choose_wheels(pylock: str, tags: Sequence[Tag]) -> tuple[Wheel, ...]:
    """The wheel of each package of a `pylock.toml` (PEP 751) that suits best; `tags` are a machine's, best first.

    Raises `SelfhostError` when a package has none.
    """
    rank = {tag: number for number, tag in enumerate(tags)}
    chosen = []
    for package in tomllib.loads(pylock).get("packages", ()):
        ranked = [(_rank(wheel, rank), wheel) for wheel in package.get("wheels", ())]
        fitting = [each for each in ranked if each[0] is not None]
        if not fitting:
            raise SelfhostError(f"{package['name']} has no wheel for this machine", hint="download on another machine")
        chosen.append(_parse(min(fitting, key=lambda each: each[0] or 0)[1]))
    return tuple(chosen)


def _rank(wheel: Mapping[str, Any], rank: Mapping[Tag, int]) -> int | None:
    try:
        tags: Iterable[Tag] = parse_wheel_filename(_name(wheel))[3]
    except InvalidWheelFilename:
        return None
    return min((rank[tag] for tag in tags if tag in rank), default=None)


def _parse(wheel: Mapping[str, Any]) -> Wheel:
    return Wheel(name=_name(wheel), url=wheel["url"], sha256=wheel["hashes"]["sha256"], size_bytes=wheel.get("size"))


def _name(wheel: Mapping[str, Any]) -> str:
    return str(wheel.get("name") or urllib.request.url2pathname(wheel["url"].rpartition("/")[2].partition("#")[0]))


def _here() -> dict[str, str]:
    """The kind of machine that the wheels of this one suit."""
    return {"python": ".".join(platform.python_version_tuple()[:2]), "architecture": platform.machine()}


def _fetch(wheels: Sequence[Wheel], folder: Path, environ: Mapping[str, str], report: Report) -> None:
    opener, total, done = network.opener(environ), sum(wheel.size_bytes or 0 for wheel in wheels), 0
    for number, wheel in enumerate(wheels, start=1):
        path = folder / wheel.name
        message = f"{wheel.name} ({number} of {len(wheels)})"
        report(Progress(phase="downloading", message=message, done_bytes=done, total_bytes=max(total, done)))
        if not (path.is_file() and _sha256(path) == wheel.sha256):
            _fetch_one(opener, wheel, path)
        done += path.stat().st_size


def _fetch_one(opener: urllib.request.OpenerDirector, wheel: Wheel, path: Path) -> None:
    """Download one wheel, whole or not at all."""
    part, digest = path.with_name(f"{path.name}.part"), hashlib.sha256()
    try:
        with opener.open(wheel.url, timeout=READ_SECONDS) as response, part.open("wb") as file:
            while chunk := response.read(_CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != wheel.sha256:
            raise SelfhostError(
                f"{wheel.name} was damaged on its way: its SHA-256 is not that of the list",
                hint="run the command again; what is whole is kept",
            )
        part.replace(path)
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise SelfhostError(
            f"{wheel.name} ({format_bytes(wheel.size_bytes or 0)}) cannot be downloaded: {error}",
            hint="run the command again; what is whole is kept",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
