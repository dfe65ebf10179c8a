import json
import os
from pathlib import Path

import pytest

from selfhost import demo
from selfhost.catalog.lookup import lookup
from selfhost.catalog.model import CheckpointKind
from selfhost.errors import BlockedError, SelfhostError


@pytest.mark.parametrize("variant", demo.VARIANTS)
def test_the_built_in_models_need_nothing_from_anywhere(variant: str) -> None:
    checkpoint = lookup(variant, "main")
    assert (checkpoint.ref.kind, checkpoint.ref.label) == (CheckpointKind.BUILT_IN, variant)
    assert checkpoint.engine_args == {"enforce-eager": True}
    assert sum(tensor.bytes for tensor in checkpoint.tensors) < checkpoint.ref.total_bytes


def test_a_folder_is_a_model(tmp_path: Path) -> None:
    for file in demo.path("demo-a").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    checkpoint = lookup(str(tmp_path), "main")
    assert (checkpoint.ref.kind, checkpoint.ref.location) == (CheckpointKind.LOCAL, str(tmp_path))
    assert checkpoint.spec == lookup("demo-a", "main").spec


def test_an_unknown_word_gets_the_nearest_one() -> None:
    with pytest.raises(BlockedError, match="no model 'qwen3-8'; did you mean 'qwen3-8b'") as caught:
        lookup("qwen3-8", "main")
    assert "owner/name" in caught.value.hint


@pytest.mark.parametrize(
    "files, words",
    [
        (None, "cannot read the model folder"),
        ({}, "cannot read the model folder .*config.json"),
        ({"config.json": "{"}, "config.json is damaged"),
        ({"config.json": "1" * 5000}, "config.json is damaged: a number in it has too many digits"),
        ({"config.json": "[" * 100_000}, "config.json is damaged: it is nested too deeply"),
        ({"config.json": "[]"}, "is not a JSON object"),
        ({"config.json": json.dumps({"architectures": ["BertModel"]})}, "BertModel is not known"),
    ],
)
def test_what_is_no_model_folder_is_named(tmp_path: Path, files: dict[str, str] | None, words: str) -> None:
    folder = tmp_path / "model"
    if files is not None:
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
    with pytest.raises(SelfhostError, match=words):
        lookup(str(folder), "main")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.safetensors.index.json"])
@pytest.mark.parametrize("kind", ["a named pipe", "a device"])
def test_what_is_no_file_is_neither_waited_for_nor_read_without_end(tmp_path: Path, name: str, kind: str) -> None:
    for file in demo.path("demo-a").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).unlink(missing_ok=True)
    if kind == "a device":
        (tmp_path / name).symlink_to("/dev/zero")
    else:
        os.mkfifo(tmp_path / name)
    with pytest.raises(SelfhostError, match=f"it is {kind}, not a file") as caught:
        lookup(str(tmp_path), "main")
    assert f"it is {kind}, not a file" in caught.value.message
    assert name in caught.value.message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path, name: str) -> None:
    for file in demo.path("demo-a").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 40)  # sparse, and more than fits into memory
    with pytest.raises(SelfhostError, match="it is larger than"):
        lookup(str(tmp_path), "main")
