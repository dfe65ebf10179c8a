"""What goes into a bug report: one archive with everything that helps, redacted, for its owner's eyes first."""

import getpass
import io
import json
import os
import platform
import re
import socket
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from selfhost import __version__, paths, regular_file
from selfhost.doctor.facts import Facts, Planned
from selfhost.doctor.finding import Finding
from selfhost.doctor.redact import Redaction, allowed, redaction
from selfhost.engines import environment
from selfhost.errors import SelfhostError
from selfhost.runtime.control import plan_codec
from selfhost.units import KIB, MIB

TAIL_BYTES = 64 * KIB  # of each log
LARGEST_BYTES = 4 * MIB  # of a file that goes in, or is searched for secrets, whole
LOGS = 40  # the latest
REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)")

Files = dict[str, str]  # name in the archive → text


def write(path: Path, findings: Sequence[Finding], facts: Facts, manifest_text: str | None) -> Files:
    """Write the archive and return what is in it; raises `SelfhostError` for one that is there already."""
    if not path.name.endswith((".tar.gz", ".tgz", ".zip")):
        raise SelfhostError(f"{path} is no name of a bundle", hint="end it with .tar.gz or .zip")
    files = collect(findings, facts, manifest_text)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise SelfhostError(f"{path} is there already", hint="name another file, or remove it") from error
    except OSError as error:
        raise SelfhostError(f"cannot write {path}: {error.strerror}", hint="name a file in another folder") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_zipped(files) if path.suffix == ".zip" else _tarred(files))
    except BaseException as error:
        path.unlink(missing_ok=True)
        if not isinstance(error, OSError):  # Ctrl-C
            raise
        raise SelfhostError(f"cannot write {path}: {error.strerror}", hint="name a file on another disk") from error
    return files


def collect(findings: Sequence[Finding], facts: Facts, manifest_text: str | None) -> Files:
    """Everything that goes in, redacted."""
    how = _redaction(facts.environ, manifest_text)
    files = {
        "findings.json": _json([asdict(finding) for finding in findings]),
        "inventory.json": _json(asdict(facts.inventory)),
        "versions.txt": _versions(),
        "environment.txt": "".join(f"{name}={value}\n" for name, value in allowed(facts.environ).items()),
        **dict(_logs()),
    }
    if manifest_text is not None:
        files["models.yaml"] = manifest_text
    if isinstance(facts.planned, Planned) and facts.planned.plan:
        files["plan.json"] = _json(plan_codec.dump_python(facts.planned.plan, mode="json"))
    # Of packages.txt hashes are the point, and index addresses may hold passwords.
    packages = {name: _hashes_kept(how, text) for name, text in _packages()}
    return {how.apply(name): how.apply(text) for name, text in files.items()} | packages


def _redaction(environ: Mapping[str, str], manifest_text: str | None) -> Redaction:
    referred = REFERENCE.findall(manifest_text or "")
    secrets = {environ.get(name, "") for name in referred}
    for file in (paths.hub_token_file(), paths.hub_token_file().with_name("stored_tokens")):
        with suppress(OSError):
            secrets |= set(_text(file).split())
    with suppress(OSError):
        secrets |= set(_text(paths.user_home() / ".netrc").split()) - _NETRC_WORDS
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        user = ""
    return redaction(
        environ, more_secrets=secrets, home=str(paths.user_home()), user=user, machine=socket.gethostname()
    )


_NETRC_WORDS = {"machine", "login", "password", "account", "default", "macdef"}


def _logs() -> Iterator[tuple[str, str]]:
    """The ends of the latest logs of engines, gateways and managers."""
    found = []
    for name in paths.manifests():
        folder = paths.state_dir(name) / "logs"
        for path in folder.rglob("*"):
            with suppress(OSError):
                if path.is_file():
                    found.append((path.stat().st_mtime, f"logs/{name}/{path.relative_to(folder)}", path))
    for _, label, path in sorted(found, reverse=True)[:LOGS]:
        with suppress(OSError), regular_file.opened(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            # Half a line could be half a secret, which nothing recognises.
            whole = file.tell() == 0
            text = file.read().decode(errors="replace")
            yield label, text if whole else text.partition("\n")[2]


def _packages() -> Iterator[tuple[str, str]]:
    for directory in environment.directories():
        with suppress(OSError):
            yield f"engines/{directory.name}/packages.txt", _text(directory / "packages.txt")


def _text(path: Path) -> str:
    return regular_file.read(path, limit=LARGEST_BYTES).decode(errors="replace")


def _hashes_kept(how: Redaction, text: str) -> str:
    """`text` redacted but for its `--hash=sha256:...`."""
    parts = re.split(r"(--hash=sha256:[0-9a-f]{64})", text)
    return "".join(part if part.startswith("--hash=") else how.apply(part) for part in parts)


def _versions() -> str:
    lines = [f"selfhost {__version__}", f"Python {platform.python_version()}", f"{platform.platform()}"]
    for name in ("aiohttp", "huggingface-hub", "nvidia-ml-py", "pydantic", "psutil", "uv", "uvloop"):
        with suppress(metadata.PackageNotFoundError):
            lines.append(f"{name} {metadata.version(name)}")
    lines += [f"vLLM {each.vllm_version} ({each.variant}), {each.origin}" for each in environment.installed()]
    return "\n".join(lines) + "\n"


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _tarred(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            content = text.encode(errors="replace")
            entry = tarfile.TarInfo(f"selfhost-bundle/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _zipped(files: Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(f"selfhost-bundle/{name}", text.encode(errors="replace"))
    return buffer.getvalue()
