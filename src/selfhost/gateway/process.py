"""The gateway as a process: what it reads, where it listens, how it ends."""

import asyncio
import gc
import logging
import re
import resource
import signal
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from selfhost.errors import BlockedError, SelfhostError
from selfhost.gateway.access_log import AccessLog
from selfhost.gateway.app import App
from selfhost.gateway.auth import Doorkeeper
from selfhost.gateway.http_client import Pools
from selfhost.gateway.http_connection import Connection
from selfhost.gateway.http_server import SURPLUS, Server
from selfhost.gateway.keys import KeyStore
from selfhost.gateway.limits import Limits
from selfhost.gateway.listen import Address, adopt
from selfhost.gateway.metrics import Metrics
from selfhost.gateway.relay import Engines
from selfhost.gateway.table import TableFile

_TICK_SECONDS = 0.25  # between two looks at the table and at deadlines
_BACKLOG = 2048
_SPARE_FILES = 64  # descriptors that are neither a client's connection nor an engine's
_MOST_FILES = 1 << 20
_FLUSH_SECONDS = 1.0  # for the last words to streams that are cut off

_PLAIN_KEY = re.compile(r"[A-Za-z0-9._~+/=-]+")  # what RFC 6750 lets follow "Bearer"

_log = logging.getLogger("selfhost.gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a gateway is started with."""

    listen: str  # HOST:PORT, or [HOST]:PORT for IPv6
    table: Path  # a RoutingTable as JSON
    keys: Path  # a KeyStore; need not exist
    engine_key: Path  # the internal key, as text
    fd: int | None = None  # a socket that already listens there, handed down by the manager
    drain_seconds: float = 30
    limits: Limits = field(default_factory=Limits)


class Gateway:
    """Everything that one gateway process owns."""

    def __init__(self, options: Options) -> None:
        """Read what there is to read; raises `SelfhostError` when the gateway must not, or cannot, start."""
        self._drain_seconds = options.drain_seconds
        self._address = Address.parse(options.listen)
        self._fd = options.fd
        limits = replace(options.limits, connections=min(options.limits.connections, _affordable_connections()))
        self._doorkeeper = Doorkeeper(KeyStore(options.keys), public=self._address.public, host=self._address.host)
        self._engines = Engines(
            key=_read_engine_key(options.engine_key),
            limits=limits,
            metrics=Metrics(),
            pools=Pools(head_limit=limits.answer_head_bytes),
        )
        self._access_log = AccessLog(sys.stderr if _log.isEnabledFor(logging.INFO) else None)
        self._app = App(doorkeeper=self._doorkeeper, engines=self._engines, access_log=self._access_log)
        self._server = Server(self._app, limits)
        self._table = TableFile(options.table)
        self._listeners: list[asyncio.Server] = []
        self._read_table()
        if self._address.public and not self._doorkeeper.has_keys:
            raise BlockedError(
                f"will not listen on {options.listen}, which other machines can reach, without any API key",
                hint="selfhost keys create NAME, or set `gateway.listen` to 127.0.0.1:PORT",
            )

    async def open(self) -> None:
        """Listen and serve; raises `SelfhostError` when the address cannot be had."""
        loop = asyncio.get_running_loop()
        for listening in [adopt(self._fd, self._address)] if self._fd is not None else self._address.listen(_BACKLOG):
            listener = await loop.create_server(lambda: Connection(self._server), sock=listening, backlog=_BACKLOG)
            self._listeners.append(listener)
        self._ticking = loop.call_later(_TICK_SECONDS, self._tick, loop)
        keys = "an API key is required" if self._doorkeeper.required else "no API key is required"
        for host, port in self.addresses:
            _log.info("listening on http://%s:%d; %s", f"[{host}]" if ":" in host else host, port, keys)

    async def close(self, hurry: asyncio.Event) -> None:
        """Take no new requests, finish those that are running, within the budget and until `hurry`."""
        for listener in self._listeners:
            listener.close()
        self._server.drain()
        empty, hurried = (asyncio.ensure_future(event.wait()) for event in (self._server.empty, hurry))
        await asyncio.wait({empty, hurried}, timeout=self._drain_seconds, return_when=asyncio.FIRST_COMPLETED)
        if not self._server.empty.is_set():
            _log.warning("%d connections are cut off", len(self._server))
            self._server.cut()
            await asyncio.wait({empty}, timeout=_FLUSH_SECONDS)
            self._server.abort()
        empty.cancel()
        hurried.cancel()
        self._ticking.cancel()
        self._engines.pools.keep_only(())
        self._access_log.flush()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens: the port that port 0 became."""
        return [listener.sockets[0].getsockname()[:2] for listener in self._listeners]

    def tick(self) -> None:
        """What is due a few times per second."""
        self._read_table()
        self._server.sweep()
        self._engines.pools.sweep()
        self._access_log.flush()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ticking = loop.call_later(_TICK_SECONDS, self._tick, loop)
        self.tick()

    def _read_table(self) -> None:
        table = self._table.changed()
        if table is not None:
            self._app.use(table)


async def serve(gateway: Gateway) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is running; a second signal cuts that short."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def asked_to_stop() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a lost terminal is no reason to stop serving
    await gateway.open()
    gc.freeze()  # what is alive now stays alive: full collections need not look at it again and again
    await stop.wait()
    _log.info("stopping")
    await gateway.close(hurry)


def _affordable_connections() -> int:
    """How many clients the limit of open files allows: each may need a second one, to its engine."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(1, (files - _SPARE_FILES - SURPLUS) // 2)


def _read_engine_key(path: Path) -> bytes:
    try:
        key = path.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise SelfhostError(
            f"cannot read the engines' key {path}", hint="start the gateway with `selfhost up`"
        ) from error
    if not _PLAIN_KEY.fullmatch(key):
        raise SelfhostError(f"the engines' key {path} is damaged", hint="start the gateway with `selfhost up`")
    return key.encode()
