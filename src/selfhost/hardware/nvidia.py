"""NVML without NVML in this process: a child asks, its silence ends it, and its answers become values."""

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from selfhost import process_group
from selfhost.hardware import failures
from selfhost.hardware.nvml_answer import NvmlAnswer, parse

LIBRARY = "libnvidia-ml.so.1"
QUERY = (sys.executable, "-P", "-m", "selfhost.hardware.nvml_query")  # -P: no module of the current folder gets in

SILENCE_SECONDS = 2.0  # after which a driver that said something is taken to hang
START_SECONDS = 10.0  # until its first word: a busy machine starts a process slowly, and NVML has no part in it
MOST_BYTES = 16 * 1024 * 1024  # of an answer: a hundred GPUs and all their pairs are 2 MB
TOTAL_SECONDS = 30.0  # a driver without persistence mode wakes GPU after GPU, seconds each: that is no hang


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a child said until it ended or was ended."""

    stdout: str
    stderr: str
    exit_status: int | None  # None: it fell silent, or talked for too long


def library_installed(root: Path, environ: Mapping[str, str]) -> bool:
    """Whether the dynamic linker would find NVML: asked of its cache and search path, so that nothing is loaded."""
    folders = filter(None, environ.get("LD_LIBRARY_PATH", "").split(":"))
    if any(os.access(Path(folder, LIBRARY), os.R_OK) for folder in folders):
        return True
    try:
        return LIBRARY.encode() in (root / "etc/ld.so.cache").read_bytes()
    except OSError:
        return False


def ask(*, silence_seconds: float = SILENCE_SECONDS, environ: Mapping[str, str]) -> NvmlAnswer:
    """Ask NVML; never waits much longer than `silence_seconds` for a driver that hangs, never raises."""
    try:
        said = listen((*QUERY, str(os.getpid())), silence_seconds=silence_seconds, environ=environ)
    except OSError as error:  # no process to be had
        return NvmlAnswer(failure=failures.crash(str(error)))
    if said.exit_status:
        return NvmlAnswer(failure=failures.crash((said.stderr.strip().splitlines() or ["no answer"])[-1]))
    return parse(said.stdout, silence_seconds=silence_seconds)


def listen(
    argv: tuple[str, ...],
    *,
    silence_seconds: float,
    environ: Mapping[str, str],
    start_seconds: float = START_SECONDS,
    total_seconds: float = TOTAL_SECONDS,
) -> Conversation:
    """Run `argv` in a group of its own and take down its output and its error output, until it ends or falls silent.

    Then, and on Ctrl-C, its group gets SIGKILL, and nobody waits for it to be gone: a child that hangs inside the
    driver may be in uninterruptible sleep and stay. Raises `OSError` when it cannot be started.
    """
    process = subprocess.Popen(
        argv,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    said = {pipe.fileno(): b"" for pipe in (process.stdout, process.stderr) if pipe}
    output = next(iter(said))
    give_up = time.monotonic() + total_seconds
    try:
        with selectors.DefaultSelector() as open_pipes:
            for pipe in said:
                open_pipes.register(pipe, selectors.EVENT_READ)
            while open_pipes.get_map() and sum(map(len, said.values())) < MOST_BYTES:
                patience = silence_seconds if said[output] else start_seconds
                ready = open_pipes.select(min(patience, give_up - time.monotonic()))
                if not ready:
                    break
                for key, _ in ready:
                    chunk = os.read(key.fd, 65536)
                    said[key.fd] += chunk
                    if not chunk:
                        open_pipes.unregister(key.fd)
            exit_status = None if open_pipes.get_map() else _wait(process)
    finally:
        process_group.end(process)
        process_group.close_pipes(process)
    stdout, stderr = (text.decode(errors="replace") for text in said.values())
    return Conversation(stdout=stdout, stderr=stderr, exit_status=exit_status)


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    with suppress(subprocess.TimeoutExpired):
        return process.wait(timeout=process_group.REAP_SECONDS)
    return None
