"""A folder with a manifest in it, as functions: `load(text)` and `problems(text)`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from selfhost.manifest.load import load_manifest
from selfhost.manifest.problems import ManifestError
from selfhost.manifest.schema import Manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "My Box"
    folder.mkdir()
    return folder


@pytest.fixture
def load(folder: Path) -> Callable[..., Manifest]:
    """Load a manifest with this text, in an environment with these variables."""

    def load(text: str | bytes, **environ: str) -> Manifest:
        path = folder / "models.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_manifest(path, environ=environ)

    return load


@pytest.fixture
def problems(load: Callable[..., Manifest]) -> Callable[..., list[str]]:
    """What is wrong with a manifest: its lines, as they are shown, but for the folder in front."""

    def problems(text: str | bytes, **environ: str) -> list[str]:
        with pytest.raises(ManifestError) as raised:
            load(text, **environ)
        return [problem.in_file("models.yaml") for problem in raised.value.problems]

    return problems
