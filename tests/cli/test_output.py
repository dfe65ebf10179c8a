"""What strangers wrote never steers the terminal of whoever reads it."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from selfhost import demo
from selfhost.cli.follow import LiveShow
from selfhost.runtime.events import Event, Level

TITLE = "\x1b]0;pwn\x07"  # gives the window another title
SHOWN = r"\u001b]0;pwn\u0007"


@pytest.fixture(autouse=True)
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "models.yaml"
    path.write_text("version: 1\nname: box\nmodels: [{name: chat, source: ./model}]\n")
    return path


def test_the_name_of_a_file(selfhost) -> None:
    ran = selfhost("check", "-f", f"{TITLE}.yaml")
    assert (ran.code, ran.stderr.splitlines()[0].partition(":")[2]) == (
        1,
        f" {SHOWN}.yaml: there is no such file; name the manifest with --file",
    )
    ran = selfhost("check", "-f", f"\udcff\x9b{TITLE}.yaml", "--json")
    assert json.loads(ran.stdout)["file"] == f"\udcff\x9b{TITLE}.yaml"
    assert ran.stdout.replace("\n", "").isprintable()


def test_words_of_the_command_line(selfhost) -> None:
    ran = selfhost("check", f"x{TITLE}")
    assert (ran.code, "\x1b" in ran.stderr, SHOWN in ran.stderr) == (2, False, True)


def test_a_defect_with_its_traceback(selfhost, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(TITLE)

    monkeypatch.setattr("selfhost.manifest.load.load_manifest", fail)
    ran = selfhost("--debug", "check")
    assert ("\x1b" in ran.stderr, ran.stderr.count(SHOWN)) == (False, 2)


@pytest.mark.parametrize("name", ["Llama\u202eForCausalLM", TITLE])
def test_the_architecture_of_a_model(selfhost, manifest: Path, name: str) -> None:
    folder = manifest.parent / "model"
    folder.mkdir()
    for file in demo.path("demo-a").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [name]}))
    ran = selfhost("plan")
    assert ran.code == 4
    assert ran.stderr.replace("\n", "").isprintable()


def test_the_log_of_an_engine(selfhost, isolated: Path) -> None:
    folder = isolated / "state/box/logs/chat-0"
    folder.mkdir(parents=True)
    (folder / "1.log").write_bytes(f"a{TITLE}\n\tb\n0%\r50%\r100%\n\nerror: \u202e\n".encode() + b"\xff\n")
    ran = selfhost("logs")
    assert ran.stdout.splitlines() == [f"a{SHOWN}", "\tb", "0%", "50%", "100%", "", r"error: \u202e", "\ufffd"]


def test_the_live_display(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveShow() as show:
        for level in (Level.ERROR, Level.INFO):
            show.event(Event(time=0, subject="chat/0", state="failed", cause=TITLE, level=level, lines=(f"!{TITLE}",)))
    shown = capsys.readouterr().err
    assert ("\x1b" in shown, f"failed: {SHOWN}" in shown, f"  | !{SHOWN}" in shown) == (False, True, True)


def test_a_real_terminal_gets_our_colours_and_no_others(tmp_path: Path) -> None:
    reader, terminal = pty.openpty()
    argv = [sys.executable, "-m", "selfhost", "check", "-f", f"\x1b[2J{TITLE}.yaml"]
    with open(terminal, "wb") as stderr:  # noqa: PTH123 (a descriptor)
        subprocess.run(argv, stderr=stderr, env={**os.environ, "TERM": "xterm"}, cwd=tmp_path, check=False)
    said = os.read(reader, 4096).decode()
    os.close(reader)
    sentence = rf"\u001b[2J{SHOWN}.yaml: there is no such file; name the manifest with --file"
    assert said == f"\x1b[31merror:\x1b[0m {sentence}\r\n"
