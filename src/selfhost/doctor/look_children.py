"""What only other processes can find out in bounded time: CUDA, the Hub, the plan."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from selfhost.doctor import child
from selfhost.doctor.facts import CudaAnswer, HubAnswer, NotLooked, Planned, Problem
from selfhost.errors import ExitCode
from selfhost.runtime.control import plan_codec
from selfhost.units import format_duration
from selfhost.weights import missing_bytes

PLAN_GRACE_SECONDS = 0.4  # to end its own question to NVML: `communicate` waits 0.25 s after SIGINT

_NO_ANSWER = "a child process ended without an answer"

_MODULE = (sys.executable, "-P", "-m")


def cuda(seconds: float, environ: Mapping[str, str]) -> CudaAnswer | NotLooked:
    """What libcuda says, counting GPUs as engines do."""
    argv = [*_MODULE, "selfhost.doctor.cuda_query"]
    try:
        ended = child.run(argv, seconds=seconds, environ={**environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    except subprocess.TimeoutExpired:
        return CudaAnswer(code=None, seconds=seconds)
    if ended.code:
        return NotLooked(cause=_last_words(ended))
    document = _document(ended)
    return CudaAnswer(**document) if document else NotLooked(cause=_NO_ANSWER)


def hub(repositories: Sequence[str], seconds: float, environ: Mapping[str, str]) -> HubAnswer | NotLooked:
    """What the Hub says about `repositories`, each `REPO@REVISION`."""
    argv = [*_MODULE, "selfhost.doctor.hub_query", str(seconds), *repositories]
    try:
        ended = child.run(argv, seconds=seconds, environ=environ)
    except subprocess.TimeoutExpired:
        return NotLooked(cause=f"the Hub did not answer within {format_duration(seconds)}")
    if ended.code:
        return NotLooked(cause=_last_words(ended))
    document = _document(ended)
    if not document:
        return NotLooked(cause=_NO_ANSWER)
    asked = document.get("repositories") or dict.fromkeys(repositories)
    return HubAnswer(
        endpoint=document["endpoint"],
        offline=document["offline"],
        repositories={repo: Problem(**problem) if problem else None for repo, problem in asked.items()},
        unreachable=document.get("unreachable"),
        clock_ahead_seconds=document.get("clock_ahead_seconds"),
    )


def plan(argv: Sequence[str], seconds: float, environ: Mapping[str, str]) -> Planned | NotLooked:
    """The plan that `argv`, a `selfhost plan --json`, makes."""
    try:
        ended = child.run(argv, seconds=seconds, environ=environ, grace_seconds=PLAN_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return NotLooked(cause=f"there was no plan within {format_duration(seconds)}; try again with --timeout 20")
    if ended.code:
        _, _, words = f"\n{ended.stderr.strip()}".rpartition("\nerror: ")
        message, _, hint = words.partition("\nhint: ")
        problem = Problem(
            message=message or _last_words(ended), hint=hint or None, blocks=ended.code == ExitCode.BLOCKED
        )
        return Planned(problem=problem)
    made = plan_codec.validate_python(json.loads(ended.stdout)["plan"])
    checkpoints = {each.checkpoint.label: each.checkpoint for each in made.deployments}
    return Planned(
        plan=made, missing_weights={label: missing_bytes(checkpoint) for label, checkpoint in checkpoints.items()}
    )


def _document(ended: child.Ended) -> dict[str, Any] | None:
    """The last line of JSON: what is loaded into the child may talk, and may end it, too."""
    for line in reversed(ended.stdout.splitlines()):
        with suppress(ValueError, RecursionError):
            document = json.loads(line)
            if isinstance(document, dict):
                return document
    return None


def _last_words(ended: child.Ended) -> str:
    return (ended.stderr.strip().splitlines() or [f"a child process ended with {ended.code}"])[-1]
