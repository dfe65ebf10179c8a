import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from selfhost.manifest.json_schema import json_schema
from selfhost.manifest.load import load_manifest
from selfhost.manifest.schema import Manifest, Model

EXAMPLE = Path(__file__).parents[2] / "models.yaml"
TEXT = EXAMPLE.read_text()
WITH_EVERY_FIELD = re.sub(r"(?m)^( *)#(?! |$)", r"\1", TEXT)
SCHEMA = json_schema()
DEFAULTS_IN_WORDS = {
    "name": "the name of the folder that this file lies in",
    "max_model_len": "as many as the model can",
    "tensor_parallel_size": "auto",
}
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_example_is_one_model_that_suits_any_machine() -> None:
    expected = Manifest(version=1, name="box", models=(Model(name="chat", source="auto", aliases=("default",)),))
    assert load_manifest(EXAMPLE) == expected


@pytest.mark.parametrize("text", [TEXT, WITH_EVERY_FIELD], ids=["as it is", "with every field"])
def test_the_example_loads_and_fits_the_schema(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    load_manifest(path)
    VALIDATOR.validate(yaml.safe_load(text))


def test_the_example_shows_and_comments_every_field_in_the_order_of_the_schema() -> None:
    shown = re.findall(r"(?m)^ *# .*\n *# (- .*)\n(?: *# .*\n)* *#?(?:- )?(\w+):", TEXT)
    assert [(name, need) for need, name in shown] == list(_fields(SCHEMA))


def _fields(section: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, field in section["properties"].items():
        if name in section.get("required", ()):
            yield name, "- required"
        elif "$ref" in field:
            yield name, "- optional"
        else:
            yield name, f"- optional, default: {DEFAULTS_IN_WORDS.get(name) or field['default'] or 'none'}"
        inner = field.get("items", field).get("$ref", "").rpartition("/")[2]
        if inner:
            yield from _fields(SCHEMA["$defs"][inner])


def test_the_example_tells_editors_where_the_schema_is() -> None:
    path = TEXT.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert json.loads((EXAMPLE.parent / path).read_text()) == SCHEMA


def test_the_schema_that_is_shipped_is_that_of_the_types() -> None:
    shipped = json.loads((resources.files("selfhost.manifest") / "schema.json").read_text())
    assert shipped == SCHEMA, "to update it: selfhost schema > src/selfhost/manifest/schema.json"


def test_the_schema_is_one_and_describes_every_field() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    sections = (SCHEMA, *SCHEMA["$defs"].values())
    silent = [
        name
        for section in sections
        for name, field in section["properties"].items()
        if "description" not in field and "$ref" not in field
    ]
    assert silent == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": [{"name": "a"}]},
        {"version": 2, "models": [{"name": "a"}]},
        {"version": 1, "models": []},
        {"version": 1, "models": [{"name": "A"}]},
        {"version": 1, "models": [{"name": "a", "sourse": "auto"}]},
        {"version": 1, "models": [{"name": "a", "concurrency": 0}]},
        {"version": 1, "models": [{"name": "a", "tensor_parallel_size": "two"}]},
        {"version": 1, "models": [{"name": "a", "engine_args": {"a": {}}}]},
        {"version": 1, "models": [{"name": "a"}], "gateway": {"listen": "box"}},
        {"version": 1, "models": [{"name": "a"}], "gateway": {"keys": [{"name": "a", "sha256": "1"}]}},
        {"version": 1, "models": [{"name": "a"}], "engine": {"vllm": 0.32}},
    ],
    ids=str,
)
def test_editors_see_the_common_mistakes(wrong: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(wrong)


def test_editors_accept_references_to_the_environment() -> None:
    VALIDATOR.validate(
        {
            "version": 1,
            "name": "${env:NAME}",
            "gateway": {"listen": "${env:LISTEN}", "keys": [{"name": "ci", "sha256": "${env:HASH}"}]},
            "models": [{"name": "a", "aliases": ["x-${env:NAME}"], "revision": "${env:REVISION}"}],
        }
    )
