import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from selfhost.hardware.nvidia import LIBRARY, Conversation, ask, library_installed, listen

PYTHON = sys.executable
LOUD = "import os, sys; print(os.environ['WORD']); print('talk', file=sys.stderr); raise SystemExit(3)"
# three words with pauses that are shorter than the silence, in a time that is longer
SLOW = "import time\nfor word in range(3): print(word, flush=True); time.sleep(0.4)"


def say(*argv: str, silence_seconds: float = 30, total_seconds: float = 60, **environ: str) -> Conversation:
    return listen(
        argv,
        silence_seconds=silence_seconds,
        total_seconds=total_seconds,
        environ={"PATH": os.environ["PATH"], **environ},
    )


def test_what_is_said_is_taken_down_and_the_environment_is_ours_to_choose() -> None:
    assert say(PYTHON, "-c", LOUD, WORD="data") == Conversation(stdout="data\n", stderr="talk\n", exit_status=3)


def test_who_talks_slowly_is_heard_to_the_end() -> None:
    assert say(PYTHON, "-c", SLOW, silence_seconds=1) == Conversation(stdout="0\n1\n2\n", stderr="", exit_status=0)


@pytest.mark.parametrize(
    ("script", "limits"),
    [
        # the shell's child keeps the pipes open: waiting for their end would take 1000 seconds
        ("echo first; sleep 1000 & sleep 1000", {"silence_seconds": 0.2}),
        ("echo first; while sleep 0.05; do echo more; done", {"total_seconds": 0.5}),
    ],
)
def test_who_falls_silent_or_never_ends_is_ended_with_its_whole_group(script: str, limits) -> None:
    started = time.monotonic()
    said = say("/bin/sh", "-c", script, **limits)
    assert time.monotonic() - started < 30
    assert (said.stdout.splitlines()[0], said.exit_status) == ("first", None)
    assert psutil.Process().children(recursive=True) == []


def test_a_query_that_cannot_start_is_a_failure_with_its_cause(monkeypatch) -> None:
    monkeypatch.setattr("selfhost.hardware.nvidia.QUERY", ("/no/such/program",))
    failure = ask(environ={}).failure
    assert failure
    assert "No such file or directory" in failure.cause


@pytest.mark.parametrize(
    ("files", "environ", "expected"),
    [
        ({}, {}, False),
        ({"etc/ld.so.cache": "libnuma.so.1\0"}, {}, False),
        ({"etc/ld.so.cache": f"{LIBRARY}\0/usr/lib/{LIBRARY}\0"}, {}, True),
        ({f"opt/{LIBRARY}": ""}, {}, False),
        ({f"opt/{LIBRARY}": ""}, {"LD_LIBRARY_PATH": "/nowhere::{root}/opt"}, True),
    ],
)
def test_the_library_is_where_the_linker_looks(tmp_path: Path, files, environ, expected) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(content)
    environ = {name: value.format(root=tmp_path) for name, value in environ.items()}
    assert library_installed(tmp_path, environ) is expected
