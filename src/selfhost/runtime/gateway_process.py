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
from selfhost.planner.plan import GatewayPlan
from selfhost.planner.routing import ReplicaState
from selfhost.runtime import process
from selfhost.runtime.events import Event, Level
from selfhost.runtime.waiting import wait

log = logging.getLogger(__name__)

BACKLOG = 1024
DRAIN_SECONDS = 30
RESTART_SECONDS = 1.0
READY_SECONDS = 10.0
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
        self._stop_asked = asyncio.Event()
        self._life = asyncio.create_task(self._live(), name="gateway")

    async def stop(self) -> None:
        """Refuse new connections, let running requests finish, end the process."""
        self._listener.close()
        self._stop_asked.set()
        await self._life

    async def _live(self) -> None:
        while not self._stop_asked.is_set():
            with self._files.log.open("ab") as output:
                child = process.spawn(self._command(), output=output, pass_fds=(self._listener.fileno(),))
            state.write_record(
                self._manifest,
                state.RunRecord(name="gateway", process=child.identity, started=time.time(), log=str(self._files.log)),
            )
            self._to(ReplicaState.READY, f"listening on {self.plan.address}")
            ended = asyncio.create_task(child.exited.wait())
            asked = asyncio.create_task(self._stop_asked.wait())
            await asyncio.wait((ended, asked), return_when=asyncio.FIRST_COMPLETED)
            for task in (ended, asked):
                task.cancel()
            if self._stop_asked.is_set():
                self._to(ReplicaState.DRAINING, "running requests finish")
            await child.end(grace_seconds=DRAIN_SECONDS + RESTART_SECONDS)
            state.remove_record(self._manifest, "gateway")
            if not self._stop_asked.is_set():
                self._to(
                    ReplicaState.BACKOFF,
                    f"it ended with exit code {child.exit_code}; its log is {self._files.log}",
                    level=Level.ERROR,
                )
                await wait(self._stop_asked, RESTART_SECONDS)

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
        self.log: Path = paths.make_private(paths.state_dir(manifest) / "logs") / "gateway.log"

    def remove_runtime(self) -> None:
        """Remove what only makes sense while something runs."""
        for path in (self.table, self.engine_key):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
