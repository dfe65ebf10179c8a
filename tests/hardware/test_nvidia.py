import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from selfhost.hardware.nvidia import LIBRARY, NvmlAnswer, library_installed, parse, run_bounded

PYTHON = sys.executable


@pytest.mark.parametrize(
    ("stdout", "stderr", "cause"),
    [
        ("", "", "the NVIDIA driver's library failed: no answer"),
        ("", "Traceback\nImportError: no\n", "the NVIDIA driver's library failed: ImportError: no"),
        ("chat\n", "", "the NVIDIA driver's library failed: no answer"),
        (
            '{"errors": {"init": {"code": 77, "text": "Odd"}}}',
            "",
            "the NVIDIA driver does not answer: Odd (NVML error 77)",
        ),
        (
            '{"errors": {"gpu_count": {"code": 999, "text": "Unknown Error"}}, "gpus": []}',
            "",
            "the NVIDIA driver answers with an unknown error",
        ),
    ],
)
def test_what_is_no_answer_is_a_failure_with_its_last_words(stdout: str, stderr: str, cause: str) -> None:
    answer = parse(stdout, stderr)
    assert answer == NvmlAnswer(failure=answer.failure, error_code=answer.error_code)
    assert answer.failure
    assert (answer.failure.cause, bool(answer.failure.hint)) == (cause, True)


def test_chatter_of_libraries_before_the_answer_is_skipped() -> None:
    answer = parse(
        'hello from LD_PRELOAD\n{"errors": {}, "driver_version": "1.2", "cuda_version": 12080, "gpus": []}\n'
    )
    assert (answer.driver_version, answer.cuda_version) == ("1.2", (12, 8))


def test_output_is_returned_and_the_environment_is_ours_to_choose() -> None:
    code = "import os, sys; print(os.environ['WORD']); print('talk', file=sys.stderr)"
    ran = run_bounded((PYTHON, "-c", code), deadline_seconds=30, environ={"WORD": "data"})
    assert ran == ("data\n", "talk\n")


def test_at_the_deadline_the_whole_group_is_killed_and_nobody_waits_for_its_pipes() -> None:
    # the shell's child keeps the pipes open: waiting for their end would take 1000 seconds
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        run_bounded(
            ("/bin/sh", "-c", "sleep 1000 & sleep 1000"), deadline_seconds=0.2, environ={"PATH": "/usr/bin:/bin"}
        )
    assert time.monotonic() - started < 5
    assert psutil.Process().children(recursive=True) == []


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
