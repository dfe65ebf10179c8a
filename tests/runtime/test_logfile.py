from pathlib import Path

import pytest

from selfhost.engines.command import Command
from selfhost.runtime import logfile
from selfhost.runtime.logfile import EngineLog, log_dir, log_files

COMMAND = Command(argv=("vllm", "serve", "/models/chat"), env={"VLLM_API_KEY": "secret"})


def begin() -> EngineLog:
    return EngineLog.begin("box", "chat/0", COMMAND)


def test_a_log_begins_with_the_command_and_is_for_this_user_alone() -> None:
    log = begin()
    assert log.path.read_text() == "$ vllm serve /models/chat\n"
    assert log.path.stat().st_mode & 0o777 == 0o600
    assert log.path.parent == log_dir("box", "chat/0")


def test_new_lines_come_whole_and_once() -> None:
    log = begin()
    assert log.new_lines() == ["$ vllm serve /models/chat"]
    with log.open() as file:
        file.write(b"one\ntw")
        file.flush()
        assert log.new_lines() == ["one"]
        file.write(b"o\n\xff\n")
        file.flush()
        assert log.new_lines() == ["two", "\ufffd"]
    assert log.new_lines() == []


def test_a_log_that_grows_too_large_is_cut_while_the_engine_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "LARGEST_BYTES", 1000)
    log = begin()
    with log.open() as engine:
        engine.write(b"x" * 2000 + b"\n")
        engine.flush()
        log.rotate()
        assert log.size() == 0
        engine.write(b"after\n")
        engine.flush()
    assert log.path.read_bytes() == b"after\n"  # appended at the new end, not at the old offset
    assert log.path.with_suffix(".log.1").read_bytes() == b"x" * 999 + b"\n"  # the end of what was there
    assert log.new_lines() == ["after"]
    log.rotate()
    assert log.path.read_bytes() == b"after\n"


def test_the_logs_of_failed_starts_outlive_those_of_good_ones() -> None:
    failed = begin()
    failed.finish(failed=True)
    for _ in range(20):
        begin().finish(failed=False)
    names = [path.name for path in log_files("box", "chat/0")]
    assert len(names) == logfile.KEPT_STARTS + 1
    assert names[0] == failed.path.name
    assert names[0].endswith(".failed.log")


def test_of_many_failed_starts_the_last_ones_are_kept() -> None:
    for _ in range(20):
        log = begin()
        log.finish(failed=True)
    kept: list[Path] = log_files("box", "chat/0")
    assert len(kept) == logfile.KEPT_STARTS
    assert kept[-1] == log.path


def test_a_log_that_grows_too_large_during_a_start_is_cut_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "LARGEST_BYTES", 1000)
    log = begin()
    with log.open() as engine:
        engine.write(b"x" * 2000 + b"\n")
    assert log.new_lines()[-1] == "x" * 2000
    assert log.size() == 0


def start(size: int, *, failed: bool) -> None:
    """A start that wrote two parts of a log."""
    log = begin()
    with log.open() as engine:
        for _ in range(2):
            engine.write(b"x" * size)
            engine.flush()
            log.rotate()
        engine.write(b"the end")
    log.finish(failed=failed)


@pytest.mark.parametrize("kind", ["failed", "ordinary"])
def test_the_part_that_was_moved_aside_goes_with_its_log(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "LARGEST_BYTES", 1000)
    for _ in range(8):
        start(1500, failed=kind == "failed")
    logs = log_files("box", "chat/0")
    files = sorted(log_dir("box", "chat/0").iterdir())
    assert files == sorted([*logs, *(path.with_suffix(".log.1") for path in logs)])
    assert len(logs) == logfile.KEPT_STARTS


def test_all_logs_of_a_replica_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "LARGEST_BYTES", 1000)
    monkeypatch.setattr(logfile, "KEPT_BYTES", 4000)
    for number in range(12):
        start(1500, failed=number % 2 == 0)
        folder = log_dir("box", "chat/0")
        total = sum(path.stat().st_size for path in folder.iterdir())
        assert total <= logfile.KEPT_BYTES + 2 * logfile.LARGEST_BYTES
    assert len(log_files("box", "chat/0")) > 1
