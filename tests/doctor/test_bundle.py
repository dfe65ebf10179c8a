"""What leaves a machine in a bundle: everything that helps, and no secret."""

import os
import re
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from selfhost.doctor.redact import redaction

CANARIES = {
    "hub token": "hf_CanaryCanaryCanary12345",
    "stored hub token": "hf_StoredCanaryCanary67890",
    "api key": "sk-selfhost-0123456789abcdef0123456789abcdef0123456789abcdef",
    "upstream key": "plain-words-as-a-key",
    "proxy password": "pr0xyPassw0rd",
    "index password": "ind3xPassw0rd",
    "netrc password": "netrcPassw0rd",
    "key hash": "ba0e5f9b5452ebd924c09a0607d11015330500706be3250ebad64cddd94d7d4b",
    "bearer": "eyJhbGciOi.J9canary",
    "signature": "sigCanary0123",
    "user": "canaryuser",
}


@pytest.fixture
def canaries(tmp_path: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine whose files, logs and variables are full of secrets."""
    home = tmp_path / CANARIES["user"]
    home.mkdir()
    (home / ".netrc").write_text(f"machine hub login me password {CANARIES['netrc password']}\n")
    token = isolated / "hf_home/token"
    token.parent.mkdir(parents=True)
    token.write_text(CANARIES["stored hub token"] + "\n")
    for name, value in {
        "HOME": str(home),
        "USER": CANARIES["user"],
        "LOGNAME": CANARIES["user"],
        "HF_TOKEN": CANARIES["hub token"],
        "MY_UPSTREAM": CANARIES["upstream key"],
        "UV_INDEX_URL": f"https://me:{CANARIES['index password']}@index.example/simple",
        "UV_INDEX_OWN_PASSWORD": CANARIES["index password"],
        "NO_PROXY": f"{home}/x,localhost",
        "HTTPS_PROXY": f"http://me:{CANARIES['proxy password']}@127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    logs = isolated / "state/box/logs/chat-0"
    logs.mkdir(parents=True)
    (logs / "1.log").write_text(
        "\n".join(f"INFO {what}={secret}" for what, secret in CANARIES.items()) + "\nlast word\n"
    )
    (logs.parent / "gateway.log").write_text(
        f"Authorization: Bearer {CANARIES['bearer']}\nGET https://cdn/x?X-Amz-Signature={CANARIES['signature']}&y=1\n"
        f"open {home}/models: no such file\n"
    )
    return CANARIES


MANIFEST = """
version: 1
name: box
gateway:
  keys: [{{name: ci, sha256: {hash}}}]
# {token} and ${{env:MY_UPSTREAM:-}}
models: [{{name: chat, source: demo-a}}]
"""


@pytest.mark.parametrize("file", ["report.tar.gz", "report.zip"])
def test_a_bundle_holds_what_helps_and_no_secret(program, canaries, tmp_path: Path, file: str) -> None:
    program.manifest(MANIFEST.format(hash=canaries["key hash"], token=canaries["hub token"]).replace(":-", ""))
    ran = program("doctor", "--timeout", "60", "--bundle", file)
    path = tmp_path / file
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    inside = read(path)
    assert set(inside) >= {
        "findings.json",
        "inventory.json",
        "versions.txt",
        "environment.txt",
        "models.yaml",
        "plan.json",
        "logs/box/chat-0/1.log",
        "logs/box/gateway.log",
    }
    assert all(f"  {name}\n" in ran.stderr for name in inside)
    everything = "\n".join([*inside, *inside.values()])
    assert {what for what, secret in canaries.items() if secret in everything} == set()
    assert "last word" in inside["logs/box/chat-0/1.log"]
    assert "${env:MY_UPSTREAM" in inside["models.yaml"]
    assert "open ~/models" in inside["logs/box/gateway.log"]
    assert "HTTPS_PROXY=http://[redacted]@127.0.0.1:9" in inside["environment.txt"]
    assert "MY_UPSTREAM" not in inside["environment.txt"]
    assert "UV_INDEX_OWN_PASSWORD" not in inside["environment.txt"]
    again = program("doctor", "--timeout", "60", "--bundle", file)
    assert again.code == 1
    assert f"{file} is there already" in again.stderr
    assert read(path) == inside


def test_a_bundle_has_a_name_that_says_what_it_is(program) -> None:
    ran = program("doctor", "--bundle", "report.txt")
    assert ran.code == 1
    assert "end it with .tar.gz or .zip" in ran.stderr


@pytest.mark.parametrize(
    "text",
    [
        '{"cause": "pa\\"ss/w\\\\ord é1 was refused"}',
        "GET /x?q=pa%22ss%2Fw%5Cord%20%C3%A91",
        "python -m vllm serve m --api-key short1 --port 1",
        "['serve', '--api-key', 'short1', '--port', '1']",
        "proxy http://me:pw@short1@proxy.example:8080/",
    ],
)
def test_a_secret_is_known_however_it_is_written(text: str) -> None:
    how = redaction({"MY_PASSWORD": 'pa"ss/w\\ord é1'}, more_secrets=[], home="/root", user="root", machine="g")
    redacted = how.apply(text)
    assert "[redacted]" in redacted
    assert not {"ord", "%C3%A91", "short1"} & set(re.split(r"[^\w%]|%20|%5C", redacted)), redacted


def test_files_that_are_pipes_keep_no_bundle_waiting(program, isolated: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (
        "hf_home/token",
        "home/engines/vllm-0.32.0-cpu/packages.txt",
        "home/engines/vllm-0.32.0-cpu/engine.json",
    ):
        (isolated / path).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(isolated / path)
    os.mkfifo(tmp_path / ".netrc")
    ran = program("doctor", "--bundle", "report.zip")
    assert (ran.code, "findings.json" in read(tmp_path / "report.zip")) == (0, True), ran.stderr


def test_what_is_no_secret_stays_readable() -> None:
    how = redaction(
        {"MAX_TOKENS": "32768", "SSH_AUTH_SOCK": "short"},
        more_secrets=["", "no"],
        home="/root",
        user="root",
        machine="g",
    )
    text = 'root: "max_model_len": 32768, num_tokens=512, no key, a task-force of 3 risk-takers\n'
    text += "  key: ${env:MY_UPSTREAM}\nGET https://hub/acme/tiny@main --max-num-batched-tokens 8192\n"
    assert how.apply(text) == text
    assert how.apply("/root/x and api_key: abc, token=${env:T}") == "~/x and api_key: [redacted], token=${env:T}"


@pytest.mark.parametrize(
    "text",
    [
        "non-default args: {'api_key': ['CANARY-0123'], 'model': 'x'}",  # as vLLM logs what it was started with
        "vllm serve x --api-key CANARY-0123 --port 1",
        "['vllm', 'serve', '--api-key', 'CANARY-0123']",
        "    upstream: {base_url: https://api.example/v1, key: CANARY-0123}",
        "  key: CANARY-0123",
        "http://ann:CANARY@CANARY@proxy:80/",
        "X-Api-Key: CANARY-0123",
        "cloned with ghp_CANARYCANARYCANARY",
        "pulled with nvapi-CANARY-0123",
        "AWS gave AKIACANARYCANARY0123",
        "token of a pod eyJCANARY.eyJCANARY.CANARY",
    ],
)
def test_a_key_is_known_by_where_it_stands_and_by_its_shape(text: str) -> None:
    told = redaction({}, more_secrets=[], home="/root", user="root", machine="g").apply(text)
    assert "CANARY" not in told
    assert "[redacted]" in told


def read(path: Path) -> dict[str, str]:
    """The files of a bundle, by name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            found = {name: archive.read(name) for name in archive.namelist()}
    else:
        with tarfile.open(path) as archive:
            found = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}
    return {name.removeprefix("selfhost-bundle/"): content.decode() for name, content in found.items()}
