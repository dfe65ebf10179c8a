"""dump_arguments.py on a parser that has every kind of option, in a process of its own as always."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from selfhost.engines import dump_arguments

COMMAND_LINE = """
import argparse, json, sys

class Level(int):
    pass

def optional(kind):
    def convert(text):
        return None if text == "None" else kind(text)
    return convert

class Flexible(argparse.ArgumentParser):
    def parse_args(self, args=None, namespace=None):
        return super().parse_args(args, namespace)

def main():
    argparse.ArgumentParser("unrelated").parse_args([])
    parser = Flexible("vllm")
    serve = parser.add_subparsers().add_parser("serve")
    serve.add_argument("model", nargs="?")
    serve.add_argument("--headless", action="store_true", help="No API server.\\nMore of it.")
    serve.add_argument("--eager", "-e", action=argparse.BooleanOptionalAction)
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--share", type=float, default=float("nan"))
    serve.add_argument("--limit", type=optional(int))
    serve.add_argument("--config", type=json.loads, default=Level)
    serve.add_argument("--backend", type=lambda text: text.lower().replace("-", "_"), choices=["deep_gemm", None])
    serve.add_argument("--parser", metavar="{a,b} or a name of a plugin")
    serve.add_argument("--name", nargs="+")
    serve.add_argument("--token", nargs="?")
    serve.add_argument("--middleware", action="append")
    parser.parse_args()
"""

EVERYTHING = list(dump_arguments.SAMPLES)


@pytest.fixture
def dumped(tmp_path: Path):
    return {option["names"][0]: option for option in dump(tmp_path, COMMAND_LINE)["options"]}


def dump(tmp_path: Path, command_line: str) -> dict:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm/cli.py").write_text(command_line)
    info = tmp_path / "vllm-0.32.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n")
    (info / "entry_points.txt").write_text("[console_scripts]\nvllm = vllm.cli:main\n")
    ran = subprocess.run(
        [sys.executable, "-P", dump_arguments.__file__, tmp_path / "out.json"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads((tmp_path / "out.json").read_text())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("--headless", {"kind": "flag", "accepts": [], "default": False, "help": "No API server."}),
        ("--eager", {"kind": "boolean", "names": ["--eager", "--no-eager", "-e"], "dest": "eager"}),
        ("--port", {"kind": "value", "type": "int", "accepts": ["7"], "default": 8000}),
        ("--share", {"kind": "value", "type": "float", "accepts": ["7", "0.5"], "default": None}),
        ("--limit", {"kind": "value", "type": "convert", "accepts": ["7", "None"]}),
        ("--config", {"kind": "value", "accepts": ["7", "0.5", "{}", "[]"], "default": None}),
        ("--backend", {"kind": "value", "choices": ["deep_gemm", "None"], "folds": True}),
        ("--parser", {"kind": "value", "accepts": EVERYTHING, "suggestions": ["a", "b"]}),
        ("--name", {"kind": "list"}),
        ("--token", {"kind": "optional"}),
        ("--middleware", {"kind": "append"}),
    ],
)
def test_every_kind_of_option(dumped, name: str, expected: dict) -> None:
    assert {field: dumped[name][field] for field in expected} == expected


def test_the_document_is_plain_json(dumped) -> None:
    assert set(dumped) == {
        *("-h", "--headless", "--eager", "--port", "--share", "--limit", "--config", "--backend", "--parser"),
        *("--name", "--token", "--middleware"),
    }


def test_a_vllm_without_serve_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="there is no `vllm serve`"):
        dump(tmp_path, "def main(): pass")
