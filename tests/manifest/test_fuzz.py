"""Whatever stands in a manifest: it loads, or every problem is a sentence of ours. Never a traceback, never slow."""

import string
import tempfile
from datetime import timedelta
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from selfhost.manifest.json_schema import json_schema
from selfhost.manifest.load import load_manifest
from selfhost.manifest.problems import ManifestError

EXAMPLE = (Path(__file__).parents[2] / "models.yaml").read_text()
SECTIONS = (json_schema(), *json_schema()["$defs"].values())
WORDS = sorted({name for section in SECTIONS for name in section["properties"]})

fuzz = settings(deadline=timedelta(seconds=1), max_examples=200)


def said_about(content: bytes) -> str:
    """Everything that is said about `content`; empty when it is a manifest."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            load_manifest(Path(file.name), environ={"A": "b"})
        except ManifestError as error:
            return error.message
    return ""


@fuzz
@given(st.binary(max_size=2000))
def test_any_bytes(content: bytes) -> None:
    said_about(content)


@fuzz
@given(st.text("abc012 .,:-[]{}&*!|>'\"%@`#?<=~$\n\t\\é\u2028\x85\ufeff", max_size=500))
def test_any_text_of_the_signs_that_yaml_knows(text: str) -> None:
    said_about(text.encode())


@fuzz
@given(st.lists(st.tuples(st.integers(0, len(EXAMPLE)), st.integers(0, 30), st.text(string.printable, max_size=10))))
def test_the_example_with_parts_replaced(changes: list[tuple[int, int, str]]) -> None:
    text = EXAMPLE.replace("#", "")
    for start, length, new in changes:
        text = text[:start] + new + text[start + length :]
    said_about(text.encode())


texts = st.sampled_from(["auto", "", "1", "no", "0.32", "0.32.0", "./x", "[::1]:80", "-x", "a b", "${env:A}", "${x}"])
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), st.binary(max_size=3), texts)
data = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(), inner, max_size=6),
    max_leaves=40,
)


@fuzz
@given(st.dictionaries(st.sampled_from(WORDS), data))
def test_every_sentence_is_ours(manifest: dict[str, object]) -> None:
    said = said_about(yaml.safe_dump(manifest, allow_unicode=True).encode())
    for jargon in (
        "should be something else",
        "Input should",
        "pydantic",
        "Traceback (",
        "instance of",
        "validation error",
    ):
        assert jargon not in said
