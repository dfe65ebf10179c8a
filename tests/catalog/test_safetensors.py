import json
import re
import struct
from pathlib import Path

import pytest

from selfhost.catalog.model import Tensor
from selfhost.catalog.safetensors import read_file, read_folder
from selfhost.errors import SelfhostError

HEADER = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
    "b": {"dtype": "F32", "shape": [], "data_offsets": [12, 16]},
}


def content(header: object = HEADER, data: bytes = bytes(16)) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_a_header_lists_its_tensors(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content())
    a, b = read_folder(tmp_path)
    assert (a, a.bytes, b.bytes) == (Tensor(name="a", dtype="BF16", shape=(2, 3)), 12, 4)


@pytest.mark.parametrize(
    "broken, words",
    [
        (b"", "is damaged: it has no header"),
        (b"\0" * 64, "is damaged: it is not JSON"),
        (content()[:-1], "should be .* bytes long"),
        (content() + b"x", "should be .* bytes long"),
        (struct.pack("<Q", 1 << 60) + b"{}", "header is longer than the file"),
        (content({"a": {"dtype": "Q4", "shape": [1], "data_offsets": [0, 1]}}, b"x"), "unknown dtype 'Q4'"),
        (content({"a": 1}), "is damaged"),
        (content({"a": {"dtype": ["BF16"], "shape": [1], "data_offsets": [0, 2]}}, b"xx"), "has the unknown dtype"),
        (content({"a": {"dtype": "U8", "shape": "1", "data_offsets": [0, 1]}}, b"x"), "no usable shape"),
        (content({"a": {"dtype": "U8", "shape": [-1], "data_offsets": [0, 1]}}, b"x"), "no usable shape"),
        (content({"a": {"dtype": "U8", "shape": [10**300], "data_offsets": [0, 1]}}, b"x"), "no usable shape"),
        (content({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1]}}, b"x"), "no usable data_offsets"),
        (content({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 1]}}, b"x"), "not as large as its shape"),
        (content([1, 2]), "is damaged"),
        (content({}, b""), "lists no tensor"),
        (content({"__metadata__": {"format": "pt"}}, b""), "lists no tensor"),
        (content({"a": {"dtype": "U8", "shape": [1.5], "data_offsets": [0, 1]}}, b"x"), "no usable shape"),
        (content({"a": {"dtype": "U8", "shape": [float("nan")], "data_offsets": [0, 1]}}, b"x"), "no usable shape"),
        (content({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"xx"), "do not begin where"),
        (content({name: {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]} for name in "ab"}, b"xx"), "'b' do not"),
        (struct.pack("<Q", 60000) + b"[" * 60000, "is damaged: it is nested too deeply"),
    ],
)
def test_damage_is_found_before_an_engine_is_started_on_it(tmp_path: Path, broken: bytes, words: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(broken)
    with pytest.raises(SelfhostError, match=words) as caught:
        read_file(path)
    assert str(path) in caught.value.message


def test_only_the_files_of_the_index_count(tmp_path: Path) -> None:
    for name in ("model-1.safetensors", "model-2.safetensors", "other.safetensors"):
        header = {name: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
        (tmp_path / name).write_bytes(content(header, b"x"))
    index = {"weight_map": {"x": "model-2.safetensors", "y": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [tensor.name for tensor in read_folder(tmp_path)] == ["model-1.safetensors", "model-2.safetensors"]


def test_tensors_without_elements_stand_anywhere(tmp_path: Path) -> None:
    nothing = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    header = {"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "y": nothing, "z": nothing}
    (tmp_path / "model.safetensors").write_bytes(content(header, b"x"))
    assert [tensor.bytes for tensor in read_folder(tmp_path)] == [1, 0, 0]


@pytest.mark.parametrize(
    "name",
    [
        *("../model.safetensors", "/etc/passwd", "/etc/x.safetensors", "a/b.safetensors", "model.bin", ""),
        *("a\0.safetensors", "\x1b[2J.safetensors", "\ud800.safetensors", 5, None, ["model.safetensors"]),
    ],
)
def test_an_index_names_files_of_its_folder_and_no_others(tmp_path: Path, name: object) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in (tmp_path / "model.safetensors", folder / "model.safetensors"):
        path.write_bytes(content())
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": name}}))
    with pytest.raises(
        SelfhostError, match=r"is damaged: it names .*, which is no \*.safetensors file in this"
    ) as caught:
        read_folder(folder)
    assert caught.value.message.isprintable()


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "gone.safetensors"}}')
    with pytest.raises(SelfhostError, match=r"gone\.safetensors"):
        read_folder(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 1}', '{"weight_map": {"x": {}}}', "[" * 60000])
def test_a_strange_index_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(SelfhostError, match=re.escape(str(tmp_path))):
        read_folder(tmp_path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(SelfhostError, match="pickle"):
        read_folder(tmp_path)


def test_consolidated_copies_do_not_count_twice(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content())
    (tmp_path / "consolidated.safetensors").write_bytes(content())
    assert len(read_folder(tmp_path)) == 2
