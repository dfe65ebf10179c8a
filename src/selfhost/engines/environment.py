"""Engine environments: the Python installations that hold a vLLM, found without importing it.

One per vLLM version and variant lives in `$SELFHOST_HOME/engines/vllm-VERSION-VARIANT/`. It counts from the moment
its `engine.json` is there, which the build writes last: without that file there is only an interrupted build's rubbish.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfhost import atomic, paths, regular_file
from selfhost.engines import arguments
from selfhost.errors import SelfhostError

LARGEST_BYTES = 1024**2  # of engine.json
FORMAT_VERSION = 2  # of engine.json; 1 knew only builds for CPUs, and said `platform` for variant


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEnvironment:
    """One Python installation that holds a vLLM."""

    vllm_version: str
    variant: str  # "cpu", "cu130"; "cuda" where it is not ours and does not say
    python: Path
    executable: Path  # the `vllm` command
    arguments: Path  # what `vllm serve` accepts, for `load_arguments`
    origin: str  # which build from where: the end of a sentence
    size_bytes: int | None = None  # None: not ours
    built: float | None = None  # seconds since the epoch; None: not ours
    python_version: str | None = None  # "3.11.7"; None: not known
    packages_sha256: str | None = None  # of packages.txt, which lists what is installed with hashes; None: not known

    @property
    def directory(self) -> Path | None:
        """Where the environment lives; None when it is not ours."""
        return None if self.built is None else self.python.parents[2]


def directory(version: str, variant: str) -> Path:
    """Where the environment of that build of vLLM lives, whether or not it is there."""
    return _engines() / f"vllm-{version}-{variant}"


def download_cache() -> Path:
    """Where uv keeps what it downloaded: on the disk of the environments, so that it can link instead of copy."""
    return paths.home_dir() / "cache" / "uv"


def find_built(version: str, variant: str) -> EngineEnvironment | None:
    """The environment that selfhost made of that build of vLLM, if it is there and whole."""
    return read(directory(version, variant))


def installed() -> tuple[EngineEnvironment, ...]:
    """All environments that selfhost built, by name."""
    found = (read(path) for path in directories())
    return tuple(environment for environment in found if environment)


def directories() -> tuple[Path, ...]:
    """Where environments are, whole or not; raises `SelfhostError`."""
    try:
        return tuple(sorted(_engines().glob("vllm-*")))
    except OSError as error:
        raise SelfhostError(
            f"cannot look into {_engines()}: {error.strerror}",
            hint="set SELFHOST_HOME to a directory that you can read",
        ) from error


def read(path: Path) -> EngineEnvironment | None:
    """The environment in the directory `path`; None when none was finished there, or it no longer works.

    Raises `SelfhostError` when a newer selfhost wrote it.
    """
    try:
        document = json.loads(regular_file.read(path / "engine.json", limit=LARGEST_BYTES))
        newer, home = document["format_version"] > FORMAT_VERSION, Path(document["directory"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if newer:
        raise SelfhostError(
            f"{path} was built by a newer selfhost", hint="update selfhost, or remove the directory to build it again"
        )
    # `vllm` names its interpreter by absolute path, and that is a link to the Python it was built on: an environment
    # that was moved, or whose Python was uninstalled, must be built again.
    works = home.resolve() == path.resolve() and python_in(path).exists() and executable_in(path).exists()
    return of_directory(path, document) if works else None


def of_directory(path: Path, document: Mapping[str, Any]) -> EngineEnvironment:
    """The environment in `path` that `document`, its engine.json, describes."""
    return EngineEnvironment(
        vllm_version=document["vllm_version"],
        variant=document.get("variant", "cpu"),
        python=python_in(path),
        executable=executable_in(path),
        arguments=path / "arguments.json",
        origin=document["origin"],
        size_bytes=document["size_bytes"],
        built=document["built"],
        python_version=document.get("python_version"),
        packages_sha256=document.get("packages_sha256"),
    )


def python_in(path: Path) -> Path:
    """The interpreter of the environment in `path`."""
    return path / "venv" / "bin" / "python"


def executable_in(path: Path) -> Path:
    """The `vllm` command of the environment in `path`."""
    return path / "venv" / "bin" / "vllm"


def finish(path: Path, *, vllm_version: str, variant: str, origin: str, built: float) -> EngineEnvironment:
    """Make the environment in `path` count: the last and atomic step of its build."""
    packages = path / "packages.txt"
    document = {
        "format_version": FORMAT_VERSION,
        "vllm_version": vllm_version,
        "variant": variant,
        "origin": origin,
        "size_bytes": disk_bytes(path),
        "built": built,
        "python_version": platform.python_version(),  # it is built on the Python that we run on
        "packages_sha256": hashlib.sha256(packages.read_bytes()).hexdigest() if packages.exists() else None,
        "directory": str(path),
    }
    atomic.write_json(path / "engine.json", document)
    return of_directory(path, document)


def load_arguments(environment: EngineEnvironment) -> arguments.EngineArguments:
    """What `vllm serve` of this environment accepts."""
    try:
        return arguments.parse(json.loads(environment.arguments.read_bytes()))
    except (OSError, ValueError, KeyError) as error:
        raise SelfhostError(
            f"cannot read what `vllm serve` accepts from {environment.arguments}: {error}",
            hint=f"`selfhost engine remove {environment.vllm_version}`, then `selfhost engine install`",
        ) from error


def disk_bytes(path: Path) -> int:
    """What the files under `path` occupy, files shared with uv's cache by hard links included."""
    return sum(entry.stat(follow_symlinks=False).st_blocks * 512 for entry in files(path))


def files(path: Path) -> Iterator[os.DirEntry[str]]:
    """Everything under `path` that is not a directory."""
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from files(Path(entry.path))
            else:
                yield entry


def _engines() -> Path:
    return paths.home_dir() / "engines"
