"""The manager's side of the control socket."""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from pydantic import ValidationError

from selfhost import __version__
from selfhost.errors import ExitCode, SelfhostError
from selfhost.runtime.control import (
    HEARTBEAT_SECONDS,
    PROTOCOL,
    PROTOCOL_HEADER,
    VERSION_HEADER,
    control_socket,
    event_codec,
    plan_codec,
    status_codec,
    steps_codec,
)
from selfhost.runtime.manager import Manager

log = logging.getLogger(__name__)

LARGEST_REQUEST_BYTES = 16 * 1024**2
HEADERS = {PROTOCOL_HEADER: PROTOCOL, VERSION_HEADER: __version__}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def start_control_server(manager: Manager) -> web.AppRunner:
    """Serve the control socket of `manager` until the returned runner is cleaned up."""
    app = web.Application(middlewares=[_protocol], client_max_size=LARGEST_REQUEST_BYTES)
    routes = _Routes(manager)
    app.add_routes(
        [
            web.get("/v1/status", routes.status),
            web.get("/v1/events", routes.events),
            web.post("/v1/apply", routes.apply),
            web.post("/v1/down", routes.down),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    path = control_socket(manager.name)
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)
    return runner


@web.middleware
async def _protocol(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what another version says, and turn refusals into documents."""
    theirs = request.headers.get(PROTOCOL_HEADER)
    if theirs != PROTOCOL:
        version = request.headers.get(VERSION_HEADER, "unknown")
        problem = SelfhostError(
            f"this manager is selfhost {__version__} (control protocol {PROTOCOL}), the command is selfhost {version} "
            f"(control protocol {theirs})",
            hint="selfhost down, then selfhost up",
        )
        return _refusal(problem)
    try:
        return await handler(request)
    except SelfhostError as error:
        return _refusal(error)
    except web.HTTPException as error:
        return _refusal(SelfhostError(f"the manager cannot do that: {error.reason}"))
    except Exception as error:
        log.exception("%s %s ended by a defect", request.method, request.path)
        return _refusal(SelfhostError(f"internal error of the manager: {type(error).__name__}: {error}"))


def _refusal(problem: SelfhostError) -> web.Response:
    document = {"message": problem.message, "hint": problem.hint, "exit_code": ExitCode(problem.exit_code)}
    return web.json_response(document, status=400, headers=HEADERS)


class _Routes:
    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    async def status(self, request: web.Request) -> web.Response:
        del request
        return _json(status_codec.dump_json(self._manager.status()))

    async def apply(self, request: web.Request) -> web.Response:
        document = json.loads(await request.read())
        try:
            plan = plan_codec.validate_python(document["plan"])
        except (ValidationError, KeyError, TypeError) as error:
            raise SelfhostError("the manager cannot read this plan", hint="selfhost down, then selfhost up") from error
        return _json(steps_codec.dump_json(await self._manager.apply(plan, str(document["manifest"]))))

    async def down(self, request: web.Request) -> web.Response:
        document = json.loads(await request.read())
        self._manager.end(drain=bool(document["drain"]))
        return _json(b"{}")

    async def events(self, request: web.Request) -> web.StreamResponse:
        following = self._manager.events.follow()  # before the answer begins: what follows it is not missed
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "application/jsonl"})
        await response.prepare(request)
        try:
            async with _heartbeats(response):
                async for event in following:
                    await response.write(event_codec.dump_json(event) + b"\n")
        except ConnectionError:
            log.debug("a follower left")
        return response


@contextlib.asynccontextmanager
async def _heartbeats(response: web.StreamResponse) -> AsyncIterator[None]:
    """Write an empty line now and then, so that a follower can tell a manager that hangs from one that is idle."""

    async def beat() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await asyncio.sleep(HEARTBEAT_SECONDS)
                await response.write(b"\n")

    task = asyncio.create_task(beat(), name="heartbeats")
    try:
        yield
    finally:
        task.cancel()


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers=HEADERS)
