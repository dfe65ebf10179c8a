"""Models on a Hub through the real client: what they are, and how they get here."""

import json

import pytest

from selfhost import demo

FILES = {file.name: file.read_bytes() for file in demo.path("demo-a").iterdir() if file.is_file()}
MANIFEST = """\
    version: 1
    name: box
    models:
      - {name: chat, source: acme/tiny, max_model_len: 512}
    """


def test_a_plan_reads_metadata_only_and_pins_the_commit(hub, program) -> None:
    commit = hub.add("acme/tiny", FILES).commit
    program.manifest(MANIFEST)
    ran = program("plan", "--json")
    assert ran.code == 0, ran.stderr
    document = json.loads(ran.stdout)
    checkpoint = document["plan"]["deployments"][0]["checkpoint"]
    assert (checkpoint["location"], checkpoint["revision"]) == ("acme/tiny", commit)
    assert [step["action"]["kind"] for step in document["steps"]] == ["install", "fetch", "start", "serve"]
    large = [path for method, path in hub.requests if method == "GET" and path.startswith("/storage/")]
    assert len(large) == 1  # the header of the one safetensors file


def test_a_second_plan_of_a_pinned_commit_asks_nobody(hub, program) -> None:
    commit = hub.add("acme/tiny", FILES).commit
    program.manifest(MANIFEST.replace("max_model_len", f"revision: {commit}, max_model_len"))
    assert program("plan").code == 0
    hub.requests.clear()
    assert program("plan").code == 0
    assert hub.requests == []


def test_pull_fetches_the_serving_files_once(hub, program, isolated) -> None:
    hub.add(
        "acme/tiny", {**FILES, "pytorch_model.bin": b"pickle", "original/consolidated.00.pth": b"x", "README.md": b""}
    )
    program.manifest(MANIFEST)
    first = program("pull")
    assert first.code == 0, first.stderr
    assert "acme/tiny@" in first.stderr
    fetched = {path.name for path in (isolated / "hf_home").rglob("snapshots/*/*")}
    assert fetched >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert not fetched & {"pytorch_model.bin", "README.md"}
    hub.requests.clear()
    assert "already here" in program("pull").stderr
    assert not [path for _, path in hub.requests if path.startswith("/storage/")]
    plan = json.loads(program("plan", "--json").stdout)
    assert "fetch" not in [step["action"]["kind"] for step in plan["steps"]]


def test_offline_everything_that_was_fetched_still_works(hub, program) -> None:
    hub.add("acme/tiny", FILES)
    program.manifest(MANIFEST)
    assert program("pull").code == 0
    hub.requests.clear()
    assert program("plan", HF_HUB_OFFLINE="1").code == 0
    assert "already here" in program("pull", HF_HUB_OFFLINE="1").stderr
    assert hub.requests == []


REFUSED = {
    "gated, no token": ({"gated": True, "allowed": ("good",)}, {}, 4, "acme/tiny is gated"),
    "gated, wrong token": ({"gated": True, "allowed": ("good",)}, {"HF_TOKEN": "bad"}, 4, "acme/tiny is gated"),
    "private": ({"private": True, "allowed": ("good",)}, {}, 4, "does not exist, or is private"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_access_is_checked_before_anything_is_fetched(hub, program, case: str) -> None:
    properties, env, code, words = REFUSED[case]
    hub.add("acme/tiny", FILES, **properties)
    program.manifest(MANIFEST)
    ran = program("plan", **env)
    assert (ran.code, ran.stdout) == (code, "")
    assert words in ran.stderr
    assert "hint:" in ran.stderr


def test_with_the_right_token_a_gated_model_is_like_any_other(hub, program) -> None:
    hub.add("acme/tiny", FILES, gated=True, allowed=("good",))
    program.manifest(MANIFEST)
    assert program("plan", HF_TOKEN="good").code == 0


@pytest.mark.parametrize(
    "fault, code, words",
    [
        ({"path": "/api/models", "status": 503}, 1, "the Hub answered HTTP 503 for acme/tiny"),
        ({"path": "/api/models", "status": 403}, 4, "the Hub refuses access to acme/tiny (HTTP 403)"),
    ],
)
def test_what_the_hub_answers_becomes_a_sentence(hub, program, fault: dict, code: int, words: str) -> None:
    hub.add("acme/tiny", FILES)
    hub.fault(**fault)
    program.manifest(MANIFEST)
    ran = program("plan")
    assert ran.code == code
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"source: acme/tiny": "source: acme/nope"}, "acme/nope does not exist, or is private"),
        ({"max_model_len": "revision: v9, max_model_len"}, "acme/tiny has no revision 'v9'"),
    ],
)
def test_wrong_names_are_told_from_wrong_revisions(hub, program, changes: dict[str, str], words: str) -> None:
    hub.add("acme/tiny", FILES)
    text = MANIFEST
    for old, new in changes.items():
        text = text.replace(old, new)
    program.manifest(text)
    ran = program("plan")
    assert ran.code == 4
    assert words in ran.stderr


def test_without_a_network_the_sentence_says_so(program) -> None:
    program.manifest(MANIFEST)
    ran = program("plan", HF_ENDPOINT="http://127.0.0.1:9")
    assert ran.code == 1
    assert "cannot reach the Hub for acme/tiny" in ran.stderr


def test_a_repository_without_a_config_is_no_model(hub, program) -> None:
    hub.add("acme/tiny", {"model.safetensors": FILES["model.safetensors"]})
    program.manifest(MANIFEST)
    ran = program("plan")
    assert ran.code == 4
    assert "acme/tiny lacks a file that serving needs" in ran.stderr


def test_pickle_weights_are_refused(hub, program) -> None:
    hub.add("acme/tiny", {"config.json": FILES["config.json"], "pytorch_model.bin": b"x"})
    program.manifest(MANIFEST)
    ran = program("plan")
    assert ran.code == 4
    assert "acme/tiny has no safetensors weights" in ran.stderr


def test_a_download_that_breaks_off_says_why_and_a_second_one_finishes(hub, program) -> None:
    hub.add("acme/tiny", FILES)
    program.manifest(MANIFEST)
    assert program("plan").code == 0
    hub.fault(path="/storage/", method="GET", status=500)
    broken = program("pull")
    assert broken.code != 0
    assert "error: " in broken.stderr
    assert "Traceback" not in broken.stderr
    hub.faults.clear()
    assert program("pull").code == 0


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("HF_HUB_DOWNLOAD_TIMEOUT", "abc", "does not understand one of its HF_* variables: invalid literal"),
        ("HF_ENDPOINT", "::::x", "cannot reach the Hub for acme/tiny: InvalidURL"),
    ],
)
def test_variables_that_the_client_does_not_understand_are_a_sentence(
    program, name: str, value: str, words: str
) -> None:
    program.manifest("version: 1\nmodels: [{name: a, source: acme/tiny}]\n")
    ran = program("plan", **{name: value})
    assert (ran.code, "internal error" in ran.stderr) == (1, False), ran.stderr
    assert words in ran.stderr
