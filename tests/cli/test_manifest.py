import json
import subprocess
import sys
from pathlib import Path

import pytest

from selfhost.manifest.json_schema import json_schema

HEAVY = {"aiohttp", "huggingface_hub", "psutil", "pynvml", "ray", "rich", "torch", "transformers", "vllm"}


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models.yaml"


def test_a_manifest_that_is_right_is_one_line_and_exit_0(selfhost, manifest: Path) -> None:
    manifest.write_text("version: 1\nmodels: [{name: chat}]")
    ran = selfhost("check")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "models.yaml: 1 model, all well\n")
    manifest.write_text("version: 1\nmodels: [{name: chat}, {name: code}]")
    ran = selfhost("check", "-f", "./models.yaml", "--json")
    assert (ran.code, ran.stderr) == (0, "models.yaml: 2 models, all well\n")
    assert json.loads(ran.stdout) == {"format_version": 1, "file": "models.yaml", "problems": []}


def test_problems_are_lines_that_editors_can_jump_to_and_exit_1(selfhost, manifest: Path) -> None:
    manifest.write_text("version: 1\nmodels:\n  - name: chat\n    sourse: auto\n    replicas: 0\n")
    ran = selfhost("check")
    assert (ran.code, ran.stdout) == (1, "")
    assert ran.stderr == (
        "error: models.yaml has 2 problems\n"
        "models.yaml:4: models.0.sourse: unknown key; did you mean `source`?\n"
        "models.yaml:5: models.0.replicas: should be at least 1, not the number 0\n"
    )


def test_problems_for_programs(selfhost, manifest: Path) -> None:
    manifest.write_text("version: 1\nmodels: [{name: chat, sourse: auto}]")
    ran = selfhost("check", "--json")
    assert ran.code == 1
    assert json.loads(ran.stdout) == {
        "format_version": 1,
        "file": "models.yaml",
        "problems": [
            {"line": 2, "path": "models.0.sourse", "message": "unknown key", "hint": "did you mean `source`?"}
        ],
    }
    assert ran.stderr == "error: models.yaml:2: models.0.sourse: unknown key; did you mean `source`?\n"


@pytest.mark.usefixtures("manifest")
def test_no_manifest_is_a_sentence(selfhost) -> None:
    ran = selfhost("check")
    assert (ran.code, ran.stderr) == (1, "error: models.yaml: there is no such file; name the manifest with --file\n")


def test_the_schema_is_printed_as_it_is_shipped(selfhost) -> None:
    ran = selfhost("schema")
    assert (ran.code, json.loads(ran.stdout), ran.stderr) == (0, json_schema(), "")


@pytest.mark.parametrize("verb", ["check", "schema"])
def test_nothing_heavy_is_imported(manifest: Path, verb: str) -> None:
    manifest.write_text("version: 1\nmodels: [{name: chat}]")
    code = f"import sys; from selfhost.cli.main import run; run(['{verb}']); print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=manifest.parent)
    assert not {module.partition(".")[0] for module in ran.stderr.split()} & HEAVY
