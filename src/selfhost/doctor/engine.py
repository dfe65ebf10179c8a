"""Checks of engine environments and of the plan. Pure."""

from collections.abc import Iterator
from shlex import quote

from selfhost import versions
from selfhost.doctor.facts import InstalledEngine, Planned, Problem
from selfhost.doctor.finding import Verdict, blocking, fine, note, warning


def installable(problems: tuple[Problem, ...]) -> Iterator[Verdict]:
    """What this machine lacks for an engine that is still to be installed."""
    for problem in problems:
        yield blocking(problem.message, fix=problem.hint)
    if not problems:
        yield fine("this machine has what the engine needs")


def known_holes(engines: tuple[InstalledEngine, ...]) -> Iterator[Verdict]:
    """Engine environments with holes that a request can reach."""
    old = [engine for engine in engines if not versions.is_supported(engine.vllm_version)]
    for engine in old:
        ids = ", ".join(versions.known_holes(engine.vllm_version))
        yield warning(
            f"vLLM {engine.vllm_version} in {quote(engine.path)} has security holes that a request can reach: {ids}",
            fix=f"selfhost engine remove {engine.vllm_version}",
        )
    if engines and not old:
        yield fine(f"no engine that is installed is older than vLLM {versions.OLDEST}")


def plan(planned: Planned) -> Iterator[Verdict]:
    """Whether everything that the manifest asks for fits this box."""
    if planned.problem is None:
        names = ", ".join(each.name for each in planned.deployments)
        yield fine(f"the plan fits: {names}")
    elif planned.problem.blocks:
        yield blocking(planned.problem.message, fix=planned.problem.hint)
    else:
        yield note(f"no plan could be made: {planned.problem.message}", fix=planned.problem.hint)


def manifest(problem: Problem) -> Iterator[Verdict]:
    """A manifest that cannot be read."""
    yield blocking(problem.message, fix=problem.hint)
