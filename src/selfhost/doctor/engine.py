"""Checks of engine environments and of the plan. Pure."""

from collections.abc import Iterator
from shlex import quote
from typing import NamedTuple

from selfhost import versions
from selfhost.doctor.facts import Facts, InstalledEngine, Planned, Problem
from selfhost.doctor.finding import Verdict, blocking, fine, note, warning
from selfhost.errors import BlockedError
from selfhost.hardware.inventory import Inventory
from selfhost.planner.engine_build import choose_build


class Wanted(NamedTuple):
    """The engine that is to run, and where."""

    vllm_version: str
    inventory: Inventory


def wanted_of(facts: Facts) -> Wanted | None:
    """What `build` is about; None without a GPU, and where the manifest names an engine of its own."""
    if not facts.inventory.gpus or (facts.manifest and facts.manifest.engine.python):
        return None
    return Wanted(facts.manifest.engine.vllm if facts.manifest else versions.DEFAULT, facts.inventory)


def build(wanted: Wanted) -> Iterator[Verdict]:
    """Whether the driver and the GPUs can run a build of the engine."""
    try:
        chosen = choose_build(*wanted)
    except BlockedError as error:
        yield blocking(error.message, fix=error.hint)
    else:
        yield fine(f"{chosen.label} runs here: {chosen.cause}")


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
