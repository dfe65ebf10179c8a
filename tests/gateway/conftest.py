"""Every asynchronous test of the gateway runs on uvloop, as the gateway does."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.rig import Engine, Rig, running
from selfhost.gateway.limits import Limits


def pytest_asyncio_loop_factories(config, item):
    del config, item
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items):
    """Uvloop logs what a signal handler raises and goes on, so pytest-timeout's signal could not end a test here."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(60, method="thread"))


@pytest.fixture
async def start(isolated: Path) -> AsyncIterator[Callable[..., Awaitable[Rig]]]:
    """Start a gateway with limits and files to the test's liking, in front of one engine that serves `chat`."""
    async with AsyncExitStack() as stack:

        async def begin(prepare: Callable[[Rig], None] | None = None, **limits: Any) -> Rig:
            return await stack.enter_async_context(running(isolated, prepare, Limits(**limits)))

        yield begin


@pytest.fixture
async def rig(start) -> Rig:
    """A gateway as most tests want it: keyless on loopback, one engine, one model `chat` with the alias `default`."""
    return await start()


@pytest.fixture
async def second_engine(isolated: Path) -> AsyncIterator[Engine]:
    engine = Engine(isolated / "second.sock")
    await engine.start()
    yield engine
    await engine.stop()
