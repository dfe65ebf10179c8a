import os
from pathlib import Path

import pytest

from selfhost.engines import child
from selfhost.errors import ExitCode, TimedOutError


def run(script: str, cwd: Path, **more):
    return child.run(["/bin/sh", "-c", script], cwd=cwd, environ={"PATH": os.environ["PATH"]}, **more)


def test_lines_are_told_as_they_come_and_the_last_ones_kept(tmp_path: Path) -> None:
    heard: list[str] = []
    ended = run("echo out; echo one >&2; printf 'two\\377' >&2; exit 3", tmp_path, heard=heard.append)
    assert (ended.code, list(ended.lines)) == (3, heard) == (3, ["one", "two\ufffd"])


def test_written_bytes_are_told_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "TICK_SECONDS", 0.01)
    os.mkfifo(tmp_path / "gate")
    counts: list[int] = []

    def wrote(count: int) -> None:
        counts.append(count)
        if count >= 100_000:
            (tmp_path / "gate").write_text("on\n")

    # no program of its own writes: /bin/sh does, whose count is looked at
    run("printf %0100000d 1 > file; read on < gate", tmp_path, wrote=wrote)
    assert counts[-1] >= 100_000


def test_silence_has_an_end_and_the_child_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "TICK_SECONDS", 0.01)
    pids: list[str] = []
    os.mkfifo(tmp_path / "gate")

    def heard(pid: str) -> None:
        pids.append(pid)
        monkeypatch.setattr(child, "SILENCE_SECONDS", 0)

    with pytest.raises(TimedOutError, match=r"said and wrote nothing for 0\.0 s") as caught:
        run("echo $$ >&2; read on < gate", tmp_path, heard=heard)
    assert caught.value.exit_code is ExitCode.TIMED_OUT
    assert not Path("/proc", pids[0]).exists()
