"""From what a manifest calls a model to its checkpoint."""

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from selfhost import demo, regular_file
from selfhost.catalog import safetensors
from selfhost.catalog.config import LARGEST_FILE_BYTES, parse_config, read_config
from selfhost.catalog.files import serving_files
from selfhost.catalog.known import known_models
from selfhost.catalog.model import Checkpoint, CheckpointKind, CheckpointRef
from selfhost.errors import BlockedError, SelfhostError


def lookup(source: str, revision: str) -> Checkpoint:
    """The checkpoint behind `source`: a catalogue id, an absolute folder, or a Hub repository at `revision`.

    Reads metadata only. Raises `BlockedError` or `SelfhostError` with the reason why there is none.
    """
    if source.startswith("/"):
        return _folder(Path(source), CheckpointKind.LOCAL, source)
    if "/" not in source:
        known = known_models().get(source)
        if known is None:
            raise _unknown(source)
        if known.repo is None:
            checkpoint = _folder(demo.path(source), CheckpointKind.BUILT_IN, source)
        else:
            checkpoint = _repository(known.repo, revision)
        return replace(checkpoint, engine_args=known.engine_args)
    return _repository(source, revision)


def _repository(repo: str, revision: str) -> Checkpoint:
    try:
        from selfhost.catalog import huggingface  # noqa: PLC0415 (0.3 s that only Hub models pay)
    except ValueError as error:  # it reads its variables when it is imported
        raise SelfhostError(
            f"the Hub's client does not understand one of its HF_* variables: {error}", hint="env | grep ^HF_HUB"
        ) from error

    return huggingface.describe(repo, revision)


def _folder(folder: Path, kind: CheckpointKind, location: str) -> Checkpoint:
    config_file = folder / "config.json"
    try:
        names = serving_files(path.name for path in folder.iterdir() if path.is_file())
        content = regular_file.read(config_file, limit=LARGEST_FILE_BYTES)
        total_bytes = sum((folder / name).stat().st_size for name in names)
    except OSError as error:
        raise SelfhostError(
            f"cannot read the model folder {folder}: {error.strerror}: {error.filename}",
            hint="a model folder holds config.json, tokenizer files and *.safetensors",
        ) from error
    return Checkpoint(
        ref=CheckpointRef(kind=kind, location=location, total_bytes=total_bytes),
        spec=parse_config(read_config(content, name=str(config_file)), label=location),
        tensors=safetensors.read_folder(folder),
    )


def _unknown(source: str) -> BlockedError:
    near = get_close_matches(source, known_models(), n=1)
    return BlockedError(
        f"the catalogue has no model '{source}'" + (f"; did you mean '{near[0]}'?" if near else ""),
        hint=f"it knows {', '.join(known_models())}; a Hub repository is written owner/name, a folder ./folder",
    )
