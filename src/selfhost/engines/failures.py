"""Why an engine ended: from its log and exit code to a cause, a hint, and whether another start can help. Pure.

vLLM's exit code says almost nothing (1 for nearly everything, 0 when its core dies), and the cause stands 50 to 150
lines above the end: so the log is searched for known texts, root causes first, wrappers last. The texts of CPU failures
were seen on real runs of vLLM 0.32; those only a GPU can produce come from vLLM's, torch's and NVIDIA's sources.
"""

import re
from dataclasses import dataclass
from signal import SIGKILL

from selfhost.engines.failure_rule import Retry
from selfhost.engines.failure_rules import RULES
from selfhost.errors import ExitCode

PREFIX = re.compile(r"^\((?:APIServer|EngineCore|Worker|VllmWorker)\S* pid=\d+\)\s(?:[A-Z]+ [\d-]+ [\d:]+ \[\S+\] ?)?")
TAIL_LINES = 12
CONTEXT_LINES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What to tell about an engine that ended."""

    code: str  # "kv_too_small": stable, for programs
    retry: Retry
    cause: str
    hint: str
    exit_code: ExitCode
    lines: tuple[str, ...]  # the engine's own words that matter


def explain(log: str, exit_code: int | None) -> Failure:
    """Explain the end of an engine whose one start wrote `log`; nobody had asked it to stop.

    `exit_code` is negative for a signal and None when the engine is still there (it may linger after a fatal error).
    """
    for rule in RULES:
        match = rule.search(log)
        if match:
            groups = {name: value.strip() for name, value in match.groupdict().items() if value}
            return Failure(
                code=rule.code,
                retry=rule.retry,
                cause=rule.say(groups),
                hint=rule.advise(groups),
                exit_code=ExitCode.BLOCKED if rule.gate else ExitCode.FAILED,
                lines=_around(log, match.start(), match.end()),
            )
    return _unexplained(log, exit_code)


def fatal_line(line: str) -> bool:
    """Whether `line` alone already proves that this start cannot succeed, however long the processes linger.

    vLLM's API server was seen running half a minute after its core had given up.
    """
    return any(rule.ends_start and rule.search(line) for rule in RULES)


def _unexplained(log: str, exit_code: int | None) -> Failure:
    lines = tuple(_plain(line) for line in log.splitlines() if line.strip())[-TAIL_LINES:]
    if exit_code is not None and exit_code < 0:
        signal = -exit_code
        killed = signal == SIGKILL
        return Failure(
            code=f"signal_{signal}",
            retry=Retry.BACKOFF,
            cause=f"the engine was killed by signal {signal}"
            + ("; the kernel's OOM killer is the usual sender" if killed else ""),
            hint="look for oom-kill in dmesg and in memory.events of the control group" if killed else "",
            exit_code=ExitCode.FAILED,
            lines=lines,
        )
    if exit_code == 0:
        return Failure(
            code="exit_unasked",
            retry=Retry.BACKOFF,
            cause="the engine ended although nobody asked it to",
            hint="",
            exit_code=ExitCode.FAILED,
            lines=lines,
        )
    return Failure(
        code="unknown",
        retry=Retry.BACKOFF,
        cause=f"the engine ended with exit code {exit_code}" if exit_code is not None else "the engine stopped working",
        hint="the end of its log is all that is known",
        exit_code=ExitCode.FAILED,
        lines=lines,
    )


def _around(log: str, start: int, end: int) -> tuple[str, ...]:
    """The matched lines with a little of what stands before them, without vLLM's prefixes."""
    first = log.rfind("\n", 0, start) + 1
    last = log.find("\n", end)
    before = [line for line in log[:first].splitlines()[-CONTEXT_LINES:] if line.strip()]
    matched = log[first : last if last >= 0 else len(log)].splitlines()
    return tuple(_plain(line) for line in [*before, *matched])


def _plain(line: str) -> str:
    return PREFIX.sub("", line).rstrip()
