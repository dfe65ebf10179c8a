"""The real vLLM: that it was built whole, and that what selfhost says of its arguments is what its parser says."""

import json
import subprocess
from pathlib import Path

import pytest

from selfhost.engines import arguments, discover, dump_arguments, environment, proof

pytestmark = pytest.mark.engine

DUMP = Path(__file__).parents[1] / "data/vllm-0.32.0-arguments.json"

ACCEPTED = [
    "model --uds /run/e.sock --served-model-name chat a --max-model-len 2048 --enforce-eager",
    "model --max-model-len 32k --max-num-batched-tokens 2K",
    "model --max_model_len=auto -tp 2 --no-enforce-eager --seed -1 --seed=-1",
    "model --gpu-memory-utilization 1 --gpu-memory-utilization .5",
    "model --kv-cache-memory-bytes None --quantization None",
    "model --moe-backend Deep-Gemm",
    "model --middleware a --middleware b",
    "model --hf-token",
    "model --compilation-config.mode 3",
    'model --compilation-config {"mode":3} --hf-overrides {"a":1} --allowed-origins ["*"]',
    "model --cudagraph-capture-sizes 1 2 4 --disable-access-log-for-endpoints /health,/metrics",
    "model --max-lora-rank 16 --dtype bfloat16",
]
REFUSED = [
    "model --no-such-flag",
    "model --port eighty",
    "model --port",
    "model --port --headless",
    "model --max-model-len 1.5",
    "model --max-model-len 1.5K",
    "model --max-num-seqs 2k",
    "model --gpu-memory-utilization 90%",
    "model --kv-cache-memory-bytes big",
    "model --dtype bf16",
    "model --max-lora-rank 17",
    "model --enforce-eager=1",
    "model --served-model-name",
    "model --compilation-config 3",
    "model --compilation-config {mode:3}",
    "model --allowed-origins *",
    "model --cudagraph-capture-sizes 1 x",
]

PARSE = """
import json, runpy, sys
commands, script, output = sys.argv[1:]
parser = runpy.run_path(script)["capture"]()
refused = []
for command in json.loads(commands):
    try:
        parser.parse_args(command.split())
    except (SystemExit, ValueError):
        refused.append(command)
json.dump(refused, open(output, "w"))
"""


def test_the_environment_is_whole(engine_environment) -> None:
    assert engine_environment.vllm_version == "0.32.0"
    assert engine_environment.size_bytes > 1 << 30
    assert "wheel index" in engine_environment.origin or "pinned by its SHA-256" in engine_environment.origin
    assert (engine_environment.directory / "packages.txt").read_text().count("--hash=sha256:") > 100


def test_vllm_knows_that_it_is_built_for_cpus_without_being_told(engine_environment) -> None:
    code = "from vllm.platforms import current_platform as p; print(p.device_type)"
    environ = proof.environ("cpu")
    del environ["VLLM_TARGET_DEVICE"]
    ran = subprocess.run(
        [engine_environment.python, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "cpu"


def test_vllm_tells_its_version(engine_environment) -> None:
    ran = subprocess.run(
        [engine_environment.executable, "--version"],
        env=proof.environ("cpu"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines()[-1] == "0.32.0+cpu"


def test_a_second_install_finds_it(engine_environment, selfhost) -> None:
    ran = selfhost("engine", "install", "--json")
    assert json.loads(ran.stdout)["directory"] == str(engine_environment.directory)


def test_its_parser_is_the_one_that_the_fast_tests_know(engine_environment) -> None:
    assert _facts(engine_environment.arguments) == _facts(DUMP)


def test_its_parser_and_ours_agree(engine_environment, tmp_path: Path) -> None:
    output = tmp_path / "refused.json"
    subprocess.run(
        [
            *(engine_environment.python, "-c", PARSE, json.dumps(ACCEPTED + REFUSED)),
            *(dump_arguments.__file__, output),
        ],
        env=proof.environ("cpu"),
        capture_output=True,
        check=True,
    )
    theirs = json.loads(output.read_text())
    known = environment.load_arguments(engine_environment)
    ours = [command for command in ACCEPTED + REFUSED if arguments.validate_argv(known, command.split())]
    assert (theirs, ours) == (REFUSED, REFUSED)


def test_it_serves_as_a_given_interpreter_of_another_home(engine_environment, isolated: Path, monkeypatch) -> None:
    monkeypatch.setenv("SELFHOST_HOME", str(isolated / "home"))
    found = discover.find("0.32.0", "cpu", python=engine_environment.python)
    assert found.executable == engine_environment.executable
    assert _facts(found.arguments) == _facts(DUMP)


def _facts(dump: Path) -> dict[str, dict]:
    told = ("kind", "type", "accepts", "choices", "folds", "suggestions")
    options = json.loads(dump.read_bytes())["options"]
    return {option["names"][0]: {fact: option[fact] for fact in told} for option in options}
