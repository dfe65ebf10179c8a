"""Carries out the steps of a reconciliation; it decides nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from selfhost.errors import SelfhostError
from selfhost.planner.actions import Action, Step

Perform = Callable[[Action], Awaitable[None]]
Skipped = Callable[[Action, SelfhostError], None]


async def carry_out(steps: Sequence[Step], perform: Perform, skipped: Skipped) -> None:
    """Perform every step once the steps it comes after have succeeded, and at the same time what can be.

    A step that fails ends what comes after it: `skipped` is told each such action and the failure that stopped it.
    """
    tasks: dict[int, asyncio.Task[None]] = {}
    for step in steps:
        tasks[step.number] = asyncio.create_task(_one(step, tasks, perform, skipped), name=step.action.resource)
    try:
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    finally:
        for task in tasks.values():
            task.cancel()


async def _one(step: Step, tasks: Mapping[int, asyncio.Task[None]], perform: Perform, skipped: Skipped) -> None:
    for number in step.after:
        await asyncio.wait({tasks[number]})
        problem = tasks[number].exception()
        if isinstance(problem, SelfhostError):
            skipped(step.action, problem)
            raise problem
        if problem is not None:
            raise problem
    await perform(step.action)
