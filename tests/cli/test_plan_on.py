"""`selfhost plan --on`: plans for machines that one does not have."""

import json
from pathlib import Path

import pytest

from selfhost.hardware import detect as detection
from selfhost.runtime.control_client import ControlClient

GOLDEN = Path(__file__).parents[1] / "golden/plans"
MANIFEST = "version: 1\nname: box\nmodels: [{name: chat, source: demo-a, replicas: 2}]\n"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(MANIFEST)
    return path


@pytest.mark.parametrize("spec, file", [("2xRTX4090,64GiB", "on-2xRTX4090"), ("cpu,32GiB", "on-cpu")])
def test_whole_plans(selfhost, manifest: Path, golden, spec: str, file: str) -> None:
    ran = selfhost("plan", "-f", manifest, "--on", spec)
    assert ran.code == 0
    assert ran.stderr == "what if: nothing was asked of this machine, and nothing of this can be applied here\n"
    golden(GOLDEN / f"{file}.txt", ran.stdout)


def test_it_is_the_plan_that_such_a_machine_gets(selfhost, nvml, manifest: Path) -> None:
    nvml("h100x8")
    there = json.loads(selfhost("plan", "-f", manifest, "--json").stdout)["plan"]
    document = json.loads(selfhost("plan", "-f", manifest, "--on", "8xH100", "--json").stdout)
    assert (document["what_if"], document["plan"]["machine"]) == ("8xH100", "what if: 8 × NVIDIA H100 80GB HBM3")
    assert "steps" not in document
    for ours, theirs in zip(
        document["plan"]["deployments"][0]["replicas"], there["deployments"][0]["replicas"], strict=True
    ):
        assert ours["gpu_labels"] == theirs["gpu_labels"]
        assert ours["memory"]["budget"]["bytes"] == theirs["memory"]["budget"]["bytes"]
        assert ours["kv_cache"] == theirs["kv_cache"]
        assert ours["memory"]["total"]["basis"] == "estimated"


def test_this_machine_is_not_looked_at(selfhost, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        pytest.fail("asked")

    monkeypatch.setattr("selfhost.cli.pipeline.detect", forbidden)
    monkeypatch.setattr(detection, "read_host", forbidden)
    monkeypatch.setattr("selfhost.cli.pipeline.read_ledger", forbidden)
    monkeypatch.setattr(ControlClient, "status_if_running", forbidden)
    assert selfhost("plan", "-f", manifest, "--on", "l4").code == 0


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["--on", "8xH1000"], 2, "no GPU 'H1000' is known (near it: H100"),
        (["--on", "L4", "--exit-code"], 2, "--exit-code tells of changes on this machine"),
        (["--on", "cpu,1GiB"], 4, "hint: try another --on; nothing was downloaded or started"),
    ],
)
def test_refusals(selfhost, manifest: Path, arguments: list[str], code: int, words: str) -> None:
    ran = selfhost("plan", "-f", manifest, *arguments)
    assert (ran.code, ran.stdout) == (code, "")
    assert words in ran.stderr
