"""`selfhost doctor --deep` through the command line: a scripted NVML, and an engine whose torch is scripted too."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfhost.engines import environment, gpu_proof, link_tests

ARGUMENTS = Path(__file__).parents[1] / "data/vllm-0.32.0-arguments.json"
MODEL = "{name: chat, source: demo-a, tensor_parallel_size: 2}"


@pytest.fixture
def engine(nvml, torch_python, monkeypatch) -> Callable[..., None]:
    """`engine(nccl_needs=...)`: a box with two GPUs, and on it an engine whose torch behaves like that."""
    nvml("rtx4090x2")
    monkeypatch.setattr(gpu_proof, "ALL_REDUCE_SECONDS", 0.5)

    def install(**script: Any) -> None:
        path = environment.directory("0.32.0", "cu129")
        shutil.rmtree(path, ignore_errors=True)
        binaries = path / "venv/bin"
        binaries.mkdir(parents=True)
        (binaries / "python").symlink_to(torch_python(**script))
        (binaries / "vllm").touch()
        (path / "arguments.json").write_bytes(ARGUMENTS.read_bytes())
        environment.finish(path, vllm_version="0.32.0", variant="cu129", origin="a test", built=0.0)

    return install


def examined(selfhost, *args: str) -> tuple[int, dict[str, dict]]:
    ran = selfhost("doctor", "--deep", "--json", "--timeout", "60", *args)
    return ran.code, {finding["check"]: finding for finding in json.loads(ran.stdout)["findings"]}


def plan_text(selfhost, folder: Path) -> str:
    manifest = folder / "models.yaml"
    manifest.write_text(f"version: 1\nname: box\nmodels: [{MODEL}]\n")
    return selfhost("plan", "-f", manifest).stdout


def test_a_healthy_box_is_told_and_changes_nothing(selfhost, engine, tmp_path: Path) -> None:
    engine()
    code, found = examined(selfhost)
    assert code == 0
    assert {found[check]["severity"] for check in ("cuda-engine", "peer-copies", "all-reduce")} == {"ok"}
    assert "between GPU 0 and GPU 1 works, at" in found["all-reduce"]["sentence"]
    tested = link_tests.read()
    assert tested
    assert tested.settings == {}
    assert "NCCL" not in plan_text(selfhost, tmp_path)


def test_where_nccl_hangs_engines_are_started_with_what_it_needs(selfhost, engine, tmp_path: Path) -> None:
    engine(nccl_needs={"NCCL_P2P_DISABLE": "1"})
    assert "NCCL" not in plan_text(selfhost, tmp_path)
    code, found = examined(selfhost)
    assert (code, found["all-reduce"]["severity"]) == (0, "warning")
    assert "hangs" in found["all-reduce"]["sentence"]
    text = plan_text(selfhost, tmp_path)
    assert "NCCL_P2P_DISABLE=1: only so did an all-reduce between two GPUs work (selfhost doctor --deep, " in text
    assert "disable-custom-all-reduce" in text


def test_what_was_found_is_forgotten_when_nothing_works_any_more(selfhost, engine, tmp_path: Path) -> None:
    engine(nccl_needs={"NCCL_P2P_DISABLE": "1"})
    examined(selfhost)
    assert link_tests.read()
    engine(nccl_needs={"NO_SUCH": "1"})
    code, found = examined(selfhost)
    assert (code, found["all-reduce"]["severity"]) == (0, "warning")
    assert "tensor_parallel_size: 1 will" in found["all-reduce"]["sentence"]
    assert link_tests.read() is None
    plan_text(selfhost, tmp_path)  # with a model that is split
    code, found = examined(selfhost, "-f", str(tmp_path / "models.yaml"))
    assert (code, found["all-reduce"]["severity"]) == (4, "blocking")


def test_without_an_engine_it_says_what_is_missing(selfhost, nvml) -> None:
    nvml("rtx4090x2")
    code, found = examined(selfhost)
    assert code == 0
    assert found["cuda-engine"]["severity"] == "info"
    assert "no engine for GPUs is installed yet (selfhost engine install)" in found["cuda-engine"]["sentence"]


def test_without_a_gpu_there_is_nothing_deep_to_look_at(selfhost) -> None:
    code, found = examined(selfhost)
    assert code == 0
    assert not found.keys() & {"cuda-engine", "peer-copies", "all-reduce"}
