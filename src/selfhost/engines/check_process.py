"""A check that runs in an engine's Python as a child process, answers in lines of JSON, and never outstays its time."""

import json
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

from selfhost import process_group
from selfhost.parent_death import dying_with_us

IMPORT_SECONDS = 30.0  # for torch: it is read from a disk that may be slow
KEPT_WORDS = 12


@dataclass(slots=True)
class Check:
    """A running check: its answers, and what else was said on the way."""

    argv: InitVar[Sequence[str | Path]]
    environ: InitVar[Mapping[str, str]]
    answers: list[dict[str, Any]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] = field(init=False)
    _rest: bytes = b""

    def __post_init__(self, argv: Sequence[str | Path], environ: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            dying_with_us(argv),
            cwd="/",
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pipe(self) -> int:
        """Where its answers come from."""
        assert self.process.stdout is not None  # noqa: S101 (it is a pipe)
        return self.process.stdout.fileno()

    def hear(self) -> bool:
        """Take in what can be read now; False at the end."""
        chunk = os.read(self.pipe, 65536)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._take(line.decode(errors="replace").strip())
        return bool(chunk)

    def _take(self, line: str) -> None:
        with suppress(ValueError):
            answer = json.loads(line)
            if isinstance(answer, dict):
                self.answers.append(answer)
                return
        if line:
            self.words = [*self.words[1 - KEPT_WORDS :], line]

    @property
    def failed(self) -> bool:
        """Whether it said or showed that it cannot go on."""
        return bool(self.process.returncode) or any("error" in answer for answer in self.answers)

    def died(self) -> str | None:
        """How it ended, when it did not end well."""
        if not self.process.returncode:
            return None
        return self.words[-1] if self.words else f"it ended with exit code {self.process.returncode}"

    def end(self) -> None:
        """Leave nothing of it."""
        process_group.end(self.process, seconds=1)
        process_group.close_pipes(self.process)


class Ending(Enum):
    """How checks came to their end."""

    DONE = auto()  # by themselves
    HANG = auto()  # they had all the time they may take
    CUT = auto()  # they had less: the import took too long, or the deadline came


def listen(checks: Sequence[Check], seconds: float, deadline: float) -> Ending:
    """Hear `checks` to their end and leave nothing of them.

    From when all have given their first answer (that torch is imported) they have `seconds` for each next one, since
    eight GPUs take longer than two; and not beyond `deadline` on the monotonic clock. When one fails or dies, all end:
    the others would wait in vain.
    """
    heard = 0
    import_end = min(deadline, time.monotonic() + IMPORT_SECONDS)
    full_end: float | None = None
    try:
        with selectors.DefaultSelector() as selector:
            for check in checks:
                selector.register(check.pipe, selectors.EVENT_READ, check)
            while selector.get_map():
                answers = sum(len(check.answers) for check in checks)
                if answers > heard and all(check.answers for check in checks):
                    heard, full_end = answers, time.monotonic() + seconds
                left = (import_end if full_end is None else min(deadline, full_end)) - time.monotonic()
                if left <= 0:
                    return Ending.HANG if full_end and full_end <= deadline else Ending.CUT
                for key, _ in selector.select(left):
                    if not key.data.hear():
                        selector.unregister(key.fileobj)
                        with suppress(subprocess.TimeoutExpired):  # it has closed its output and goes on
                            key.data.process.wait(timeout=1)
                if any(check.failed for check in checks):
                    return Ending.DONE
        return Ending.DONE
    finally:
        for check in checks:
            check.end()
