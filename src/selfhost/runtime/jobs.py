"""Long work that the manager hands to child processes: building an engine's environment, fetching weights.

A job prints one `Progress` per line on standard output; its last words on standard error are the reason of a failure.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence

from selfhost.catalog.model import CheckpointRef
from selfhost.errors import ExitCode, SelfhostError
from selfhost.parent_death import dying_with_us
from selfhost.planner.plan import EngineBuild
from selfhost.progress import Progress, Report
from selfhost.weights import fetch_command

END_SECONDS = 10.0
KEPT_WORDS_BYTES = 8192  # of what a job says on standard error


async def install(engine: EngineBuild, report: Report, *, needs_compiler: bool) -> None:
    """Build the environment of `engine`; raises `SelfhostError` with the job's reason."""
    argv = [sys.executable, "-P", "-m", "selfhost", "engine", "install", f"--vllm={engine.vllm_version}"]
    argv += [f"--variant={engine.variant}", "--json"]
    await _run("the build of the engine", dying_with_us(argv if needs_compiler else [*argv, "--no-compiler"]), report)


async def fetch(checkpoint: CheckpointRef, report: Report) -> None:
    """Fetch what is missing of `checkpoint`; raises `SelfhostError` with the job's reason."""
    await _run(f"the download of {checkpoint.label}", fetch_command(checkpoint), report)


async def _run(what: str, argv: Sequence[str], report: Report) -> None:
    job = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    if job.stdout is None or job.stderr is None:
        raise RuntimeError("a job was started without its pipes")
    last_words = asyncio.create_task(_last_words(job.stderr))
    try:
        async for line in job.stdout:
            with contextlib.suppress(ValueError):  # the last line is the job's result, not progress
                report(Progress.from_json(line))
        code = await job.wait()
    finally:
        if job.returncode is None:  # cancelled
            await _end(job)
    words = await last_words
    if code != 0:
        raise _failure(what, code, words)


async def _end(job: asyncio.subprocess.Process) -> None:
    """Ask the job to clean up and end; after a while nothing of it may go on."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(job.wait(), END_SECONDS)
            return


async def _last_words(stream: asyncio.StreamReader) -> str:
    kept = b""
    while chunk := await stream.read(KEPT_WORDS_BYTES):
        kept = (kept + chunk)[-KEPT_WORDS_BYTES:]
    return kept.decode(errors="replace").strip()


def _failure(what: str, code: int, words: str) -> SelfhostError:
    """The job's own error, which may have several lines, and its hint; or all that it said."""
    _, _, error = f"\n{words}".rpartition("\nerror: ")
    message, _, hint = error.partition("\nhint: ")
    failure = SelfhostError(message.strip() or f"{what} ended with exit code {code}", hint=hint.strip() or None)
    failure.exit_code = ExitCode(code) if code in set(ExitCode) else ExitCode.FAILED
    return failure
