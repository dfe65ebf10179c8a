"""`models.yaml` → `Manifest`, or everything that is wrong with it as `models.yaml:LINE: path: sentence`."""

import os
import re
import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from selfhost import regular_file
from selfhost.manifest.document import Document, UnreadableError, read_document
from selfhost.manifest.explain import explain
from selfhost.manifest.problems import ManifestError, Problem
from selfhost.manifest.schema import Manifest
from selfhost.manifest.values import SourceKind

STDIN = Path("-")
MAX_BYTES = 1024 * 1024


def load_manifest(path: Path, *, environ: Mapping[str, str] | None = None) -> Manifest:
    """The manifest in the file `path` (`-` is standard input), its relative paths made absolute.

    `${env:NAME}` is looked up in `environ`, which is this process's by default. Raises `ManifestError`.
    """
    file = display_name(path)
    try:
        text = _decode(_read_stdin() if path == STDIN else _read_file(path))
        document = read_document(text, os.environ if environ is None else environ)
    except UnreadableError as error:
        raise ManifestError(file, [error.problem]) from None
    folder = Path.cwd() if path == STDIN else path.absolute().parent.resolve()
    manifest, problems = _validate(document, default_name=name_of_folder(folder))
    if manifest is None or problems:
        raise ManifestError(file, problems)
    return _with_absolute_paths(manifest, folder)


def display_name(path: Path) -> str:
    """What messages call the file `path`."""
    return "stdin" if path == STDIN else str(path)


def name_of_folder(folder: Path) -> str:
    """A valid manifest name made of the name of `folder`: what Compose does for its projects."""
    words = re.sub(r"[^a-z0-9.-]+", "-", folder.name.lower())
    return words.strip(".-")[:40].strip(".-") or "selfhost"


def _validate(document: Document, *, default_name: str) -> tuple[Manifest | None, list[Problem]]:
    data = {"name": default_name, **document.data} if isinstance(document.data, dict) else document.data
    try:
        return Manifest.model_validate(data), list(document.problems)
    except ValidationError as error:
        found = [explain(one, document) for one in error.errors(include_url=False, include_input=False)]
    # What was wrong as YAML already has no value of the right type; one sentence about it is enough.
    explained = {(problem.line, problem.path) for problem in document.problems}
    return None, [*document.problems, *(one for one in found if (one.line, one.path) not in explained)]


def _with_absolute_paths(manifest: Manifest, folder: Path) -> Manifest:
    engine = manifest.engine
    if engine.python is not None:
        engine = engine.model_copy(update={"python": _absolute(str(engine.python), folder)})
    models = tuple(
        model.model_copy(update={"source": str(_absolute(model.source, folder))})
        if model.source_kind is SourceKind.PATH
        else model
        for model in manifest.models
    )
    return manifest.model_copy(update={"engine": engine, "models": models})


def _absolute(path: str, folder: Path) -> Path:
    # Not `resolve()`: the interpreter of a virtual environment is a link that must stay one.
    return Path(os.path.normpath(folder / os.path.expanduser(path)))  # noqa: PTH111 (Path's raises where no home is)


def _read_file(path: Path) -> bytes:
    try:
        return regular_file.read(path, limit=MAX_BYTES)
    except regular_file.TooLargeError:
        raise _too_large() from None
    except regular_file.NotAFileError as error:
        hint = "name the file in it" if error.kind == "a directory" else "`--file -` reads standard input"
        raise _unreadable(f"is {error.kind}, not a file", hint) from None
    except FileNotFoundError:
        raise _unreadable("there is no such file", "name the manifest with --file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _unreadable(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise _unreadable("is closed")
    try:
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(f"cannot be read: {error.strerror}") from None


def _decode(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise _too_large()
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise _unreadable("is UTF-16", "save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"byte {error.start} (0x{content[error.start]:02x}) is not UTF-8"
        raise UnreadableError(Problem(line, "", message, "save it as UTF-8")) from None


def _too_large() -> UnreadableError:
    return _unreadable("is larger than 1 MiB", "is it a manifest?")


def _unreadable(message: str, hint: str | None = None) -> UnreadableError:
    return UnreadableError(Problem(None, "", message, hint))
