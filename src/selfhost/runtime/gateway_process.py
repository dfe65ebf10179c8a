"""The gateway as a child: the manager owns its listening socket, so a restart of it refuses no connection."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from selfhost import paths, state
from selfhost.engines.command import Command
from selfhost.errors import SelfhostError
from selfhost.observe.health import gateway_answers
from selfhost.planner.plan import GatewayPlan
from selfhost.planner.routing import ReplicaState
from selfhost.runtime import process
from selfhost.runtime.events import Event, Level
from selfhost.runtime.own_logs import own_log
from selfhost.runtime.waiting import unless, wait, wait_any
from selfhost.units import format_duration

log = logging.getLogger(__name__)

BACKLOG = 1024
DRAIN_SECONDS = 30
TEARDOWN_SECONDS = 2  # for its own end, after its last request
FIRST_DELAY_SECONDS = 1.0  # before it is started again
LONGEST_DELAY_SECONDS = 30.0
LIVED_SECONDS = 60.0  # after so long the delay is the first one again
READY_SECONDS = 60.0  # a process that has not answered by then is started again
POLL_SECONDS = 0.05
INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "SSL_CERT_FILE", "TZ", "VIRTUAL_ENV")


def listen(host: str, port: int) -> socket.socket:
    """Bind the front door; raises `SelfhostError` when somebody else has the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SelfhostError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="set gateway.listen in the manifest to another port, or stop whoever has this one (ss -ltnp)",
        ) from error
    return listener


class GatewaySupervisor:
    """One gateway process behind one listening socket, started again whenever it ends."""

    def __init__(
        self,
        manifest: str,
        plan: GatewayPlan,
        listener: socket.socket,
        files: "GatewayFiles",
        *,
        tell: Callable[[Event], None],
    ) -> None:
        self.plan = plan
        self.state = ReplicaState.STARTING
        self.cause = "starting its process"
        self.since = time.time()
        self._manifest = manifest
        self._files = files
        self._tell = tell
        self._listener = listener
        self._drain = True
        self._child: process.Child | None = None
        self._stop_asked = asyncio.Event()
        self._life = asyncio.create_task(self._live(), name="gateway")

    def close(self, *, drain: bool = True) -> None:
        """Begin to end it: new connections are refused, running requests may finish unless `drain` is false."""
        self._listener.close()
        self._drain = self._drain and drain
        self._stop_asked.set()
        if self._child and not self._drain:
            self._child.kill_group()

    async def closed(self) -> None:
        """Wait until it is gone, which whoever waits cannot stop by being cancelled."""
        await asyncio.shield(self._life)

    async def _live(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while not self._stop_asked.is_set():
            started = time.monotonic()
            try:
                problem = await self._one_run()
            except (OSError, SelfhostError) as error:  # a full disk must not cost the front door for good
                problem = f"its process cannot be started or ended: {error}"
            if self._stop_asked.is_set():
                return
            lived = time.monotonic() - started > LIVED_SECONDS
            delay = FIRST_DELAY_SECONDS if lived else min(delay, LONGEST_DELAY_SECONDS)
            cause = f"{problem}; starting again in {format_duration(delay)}"
            self._to(ReplicaState.BACKOFF, cause, level=Level.ERROR)
            await wait(self._stop_asked, delay)
            delay *= 2

    async def _one_run(self) -> str:
        """Start a gateway and watch it until it has ended; returns what it ended with."""
        with self._files.log.open("ab") as output:
            child = self._child = process.spawn(self._command(), output=output, pass_fds=(self._listener.fileno(),))
        name = f"gateway-{child.pid}"  # while the address changes there are two
        grace = 0.0
        try:
            state.write_record(
                self._manifest,
                state.RunRecord(name=name, process=child.identity, started=time.time(), log=str(self._files.log)),
            )
            if await self._answers(child):
                self._to(ReplicaState.READY, f"listening on {self.plan.address}")
                await wait_any((child.exited, self._stop_asked))
            if self._stop_asked.is_set() and self._drain:
                self._to(ReplicaState.DRAINING, f"no new requests at {self.plan.address}; running ones finish")
                grace = DRAIN_SECONDS + TEARDOWN_SECONDS
            ended_itself = child.exited.is_set()
        finally:
            await child.end(grace_seconds=grace)
        state.remove_record(self._manifest, name)
        ended = f"it ended with exit code {child.exit_code}"
        return f"{ended if ended_itself else 'it does not answer'}; its log is {self._files.log}"

    async def _answers(self, child: process.Child) -> bool:
        """Wait until it answers; False when it ended, a stop was asked for, or it takes too long."""
        deadline = time.monotonic() + READY_SECONDS
        over = (child.exited, self._stop_asked)
        while time.monotonic() < deadline and not any(event.is_set() for event in over):
            if await unless(over, gateway_answers(self.plan.host, self.plan.port)):
                return True
            await wait_any(over, POLL_SECONDS)
        return False

    def _to(self, new: ReplicaState, cause: str, *, level: Level = Level.INFO) -> None:
        self.state, self.cause, self.since = new, cause, time.time()
        self._tell(Event(subject="gateway", state=new, cause=cause, level=level))

    def _command(self) -> Command:
        return Command(
            argv=(
                sys.executable,
                "-P",
                "-m",
                "selfhost.gateway",
                f"--listen={self.plan.address}",
                f"--fd={self._listener.fileno()}",
                f"--table={self._files.table}",
                f"--keys={self._files.keys}",
                f"--engine-key={self._files.engine_key}",
                f"--drain-seconds={DRAIN_SECONDS}",
            ),
            env={name: os.environ[name] for name in INHERITED if name in os.environ},
        )


class GatewayFiles:
    """The files through which manager, keys and gateway meet."""

    def __init__(self, manifest: str) -> None:
        runtime = paths.make_private(paths.runtime_dir(manifest))
        self.table: Path = runtime / "routes.json"
        self.engine_key: Path = runtime / "engine.key"
        self.keys: Path = paths.state_dir(manifest) / "keys.json"
        self.log: Path = own_log(manifest, "gateway")
        paths.make_private(self.log.parent)

    def remove_runtime(self) -> None:
        """Remove what only makes sense while something runs."""
        for path in (self.table, self.engine_key):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
