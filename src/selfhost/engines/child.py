"""One child process of a build: its talk passed on, its writing counted, killed when it falls silent or we stop."""

import os
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfhost.errors import TimedOutError
from selfhost.parent_death import dying_with_us
from selfhost.units import format_duration

TICK_SECONDS = 0.5
SILENCE_SECONDS = 300  # no line and no byte for so long: the network stalls of uv end by themselves much earlier
KEPT_LINES = 60


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended."""

    code: int
    lines: tuple[str, ...]  # the last ones of its standard error


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    hold: int | None = None,
    heard: Callable[[str], None] = lambda _: None,
    wrote: Callable[[int], None] = lambda _: None,
) -> Ended:
    """Run `argv` to its end, telling each line of its standard error and the bytes it has written to disk so far.

    The child keeps the file descriptor `hold` (the build's lock) open: should we be killed, nobody else starts to
    build before it is gone. Whatever ends this function early also kills the child's process group.

    Raises `TimedOutError` when nothing was heard or written for `SILENCE_SECONDS`.
    """
    process = subprocess.Popen(
        dying_with_us(argv),  # without it a killed build leaves uv downloading
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=() if hold is None else (hold,),
    )
    assert process.stderr is not None  # noqa: S101 (it is a pipe)
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    try:
        for line in _lines_of(process, process.stderr.fileno(), wrote):
            lines.append(line)
            heard(line)
        return Ended(process.wait(), tuple(lines))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stderr.close()


def _lines_of(process: subprocess.Popen[bytes], pipe: int, wrote: Callable[[int], None]) -> Iterator[str]:
    rest, written = b"", 0
    last_sign = last_look = time.monotonic()
    while True:
        chunk = os.read(pipe, 65536) if select.select([pipe], [], [], TICK_SECONDS)[0] else None
        if chunk == b"" or (chunk is None and process.poll() is not None):
            break
        *complete, rest = (rest + (chunk or b"")).split(b"\n")
        yield from (line.decode(errors="replace") for line in complete)
        now = time.monotonic()
        if chunk:
            last_sign = now
        if now - last_look < TICK_SECONDS:
            continue
        last_look = now
        if (total := _written(process.pid) or 0) > written:
            written, last_sign = total, now
            wrote(written)
        elif now - last_sign > SILENCE_SECONDS:
            raise TimedOutError(
                f"a step of the build said and wrote nothing for {format_duration(SILENCE_SECONDS)}",
                hint="check the network and the disk, then try again: what was downloaded is kept",
            )
    if rest:
        yield rest.decode(errors="replace")


def _written(pid: int) -> int | None:
    """The bytes that the process passed to write(2) and its kin (proc(5): wchar); None where /proc does not tell."""
    try:
        fields = Path(f"/proc/{pid}/io").read_text().split()
    except OSError:
        return None
    return int(fields[fields.index("wchar:") + 1])
