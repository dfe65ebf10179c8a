"""`selfhost health` knows two answers, because orchestrators do."""

import os
import socket
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "models.yaml"
    path.write_text("version: 1\nname: box\nmodels: [{name: chat, source: demo-a}]\n")
    return path


@pytest.mark.parametrize(
    "args, words",
    [
        (("-f", "nowhere.yaml"), "nowhere.yaml: there is no such file"),
        (("--name", "box"), "nothing runs for 'box'"),
        (("--url", "localhost:8000"), "localhost:8000 is not the address of a gateway"),
        (("--url", "ftp://box"), "ftp://box is not the address of a gateway"),
        (("--url", "http://[::1"), "does not answer"),
    ],
)
def test_whatever_is_wrong_it_is_not_ready(selfhost, args: tuple[str, ...], words: str) -> None:
    ran = selfhost("health", *args)
    assert (ran.code, ran.stdout) == (5, "")
    assert words in ran.stderr
    assert ran.stderr.startswith("error: ")


def test_a_runtime_folder_of_somebody_else_is_not_ready(selfhost) -> None:
    runtime = Path(os.environ["SELFHOST_RUNTIME"])
    runtime.mkdir()
    runtime.chmod(0o777)
    ran = selfhost("health", "--name", "box")
    assert (ran.code, "other users can write into" in ran.stderr) == (5, True)


def test_a_wrong_option_is_a_usage_error(selfhost) -> None:
    assert selfhost("health", "--timeout", "soon").code == 2


def test_https_is_not_asked_in_plain_http(selfhost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        assert selfhost("health", "--url", url, "--timeout", "0.5").code == 5
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1) == b"\x16"  # a TLS handshake
