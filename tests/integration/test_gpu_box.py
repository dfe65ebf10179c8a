"""Boxes with GPUs, through the real pynvml on a scripted library: what plan, up and gpus make of them."""

import json

import pytest

from selfhost import demo

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 4096,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
}
MANIFEST = "version: 1\nname: box\nmodels: [{name: chat, source: auto}]\n"
DEMO = MANIFEST.replace("auto", "demo-a")


def weights(gib: int) -> bytes:
    """A safetensors file whose header claims tensors of this size; nobody reads further."""
    header = {"model.layers.0.mlp.up_proj.weight": {"dtype": "BF16", "shape": [gib * 512, 1024, 1024]}}
    header["model.layers.0.mlp.up_proj.weight"]["data_offsets"] = [0, gib * 1024**3]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize("scenario, gpus", [("h100x8", 8), ("rtx4090x2", 2), ("l4", 1)])
def test_auto_plans_the_catalogue_model_on_the_gpus_that_are_there(
    nvml, hub, program, scenario: str, gpus: int
) -> None:
    nvml(scenario)
    hub.add("Qwen/Qwen3-8B", {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": weights(15)})
    program.manifest(MANIFEST)
    ran = program("plan", "--json")
    assert ran.code == 0, ran.stderr
    plan = json.loads(ran.stdout)["plan"]
    (deployment,) = plan["deployments"]
    assert (deployment["checkpoint"]["location"], plan["engine"]["platform"]) == ("Qwen/Qwen3-8B", "cuda")
    assert "source: auto, an NVIDIA GPU" in deployment["causes"][0]
    assert set(deployment["replicas"][0]["gpu_labels"]) <= set(map(str, range(gpus)))


def test_each_mig_device_gets_an_engine_of_its_own(nvml, program) -> None:
    nvml("a100mig")
    program.manifest(DEMO.replace("demo-a}", "demo-a, replicas: 3}"))
    ran = program("plan", "--json")
    assert ran.code == 0, ran.stderr
    (deployment,) = json.loads(ran.stdout)["plan"]["deployments"]
    assert all(len(replica["gpu_uuids"]) == 1 for replica in deployment["replicas"])
    program.manifest(DEMO.replace("demo-a}", "demo-a, tensor_parallel_size: 2}"))
    ran = program("plan")
    assert ran.code == 4
    assert "tensor_parallel_size 2 is not possible" in ran.stderr


def test_a_gpu_that_hangs_is_planned_around(nvml, program) -> None:
    scenario = nvml("busy")
    scenario.error("nvmlDeviceGetEccMode", 0, gpu=0, delay_ms=600_000)
    program.manifest(DEMO)
    ran = program("plan", "--json")
    assert ran.code == 0, ran.stderr
    (deployment,) = json.loads(ran.stdout)["plan"]["deployments"]
    assert deployment["replicas"][0]["gpu_labels"] == ["1"]


@pytest.mark.parametrize("scenario", ["nodriver", "mismatch"])
@pytest.mark.parametrize("verb", ["plan", "up"])
def test_a_gpu_that_cannot_be_used_blocks_auto_with_its_cause(nvml, program, scenario: str, verb: str) -> None:
    nvml(scenario)
    program.manifest(MANIFEST)
    ran = program(verb)
    assert ran.code == 4
    assert "no GPU can be used: the NVIDIA driver" in ran.stderr
    assert "hint: " in ran.stderr


def test_an_amd_accelerator_is_no_reason_to_serve_a_toy(machine, program) -> None:
    machine.plug_in("0000:03:00.0", vendor=0x1002)
    program.manifest(MANIFEST)
    ran = program("up")
    assert ran.code == 4
    assert "AMD" in ran.stderr


def test_asked_for_by_name_the_built_in_model_is_planned_on_the_cpu_of_such_a_box(machine, program) -> None:
    machine.plug_in("0000:03:00.0", vendor=0x1002)
    program.manifest(DEMO)
    ran = program("plan")
    assert ran.code == 0, ran.stderr
    assert "chat/0 on the CPU" in ran.stdout


def test_what_does_not_fit_the_gpu_is_refused_before_any_download(nvml, hub, program) -> None:
    nvml("l4")
    hub.add("Qwen/Qwen3-8B", {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": weights(60)})
    program.manifest(MANIFEST)
    ran = program("up", "--wait")
    assert ran.code == 4
    assert "60.0 GiB weights" in ran.stderr
    assert "nothing was downloaded or started" in ran.stderr
    assert len([path for method, path in hub.requests if method == "GET" and path.startswith("/storage/")]) == 1


def test_an_engine_for_gpus_that_cannot_be_built_is_refused_at_once(nvml, program) -> None:
    nvml("l4")
    program.manifest(DEMO)
    assert program("plan").code == 0
    ran = program("up", "--wait")
    assert ran.code == 4
    assert "selfhost cannot build vLLM for cuda yet" in ran.stderr
    assert "engine.python" in ran.stderr
    assert "nothing runs" in program("ps").stderr or program("down").code == 0


def test_memory_that_others_hold_is_not_planned_on(nvml, program) -> None:
    nvml("busy")
    program.manifest(DEMO)
    plan = json.loads(program("plan", "--json").stdout)["plan"]
    (replica,) = plan["deployments"][0]["replicas"]
    memory = replica["memory"]
    assert memory["budget"]["bytes"] <= 9.1 * 1024**3 or replica["gpu_labels"] == ["1"]


def test_the_built_in_model_is_planned_with_its_own_sizes(program) -> None:
    program.manifest(DEMO)
    plan = json.loads(program("plan", "--json").stdout)["plan"]
    (replica,) = plan["deployments"][0]["replicas"]
    size = (demo.path("demo-a") / "model.safetensors").stat().st_size
    assert abs(replica["memory"]["weights"]["bytes"] - size) < 1 << 20
    assert replica["memory"]["weights"]["basis"] == "derived"
