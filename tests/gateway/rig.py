"""A scripted engine, a real gateway in the test's own loop, and clients that speak bytes."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h11

from selfhost.gateway.keys import KeyStore
from selfhost.gateway.limits import Limits
from selfhost.gateway.process import Gateway, Options
from selfhost.planner.routing import HashedKey, ReplicaState, RoutingTable, ServedModel, Upstream

ENGINE_KEY = "0123456789abcdef0123456789abcdef"
CHAT = "/v1/chat/completions"


# --- the engine


class Exchange(asyncio.Protocol):
    """One connection of the gateway to the engine, and the request on it."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.gone = asyncio.Event()  # the gateway has closed the connection
        self._data = b""
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.engine.connections.append(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (seen := self._next_request()) is not None:
            self.engine.requests.append(seen)
            self.engine.exchanges.append(self)
            self.engine.arrived.set()
            self.seen = seen
            self._task = asyncio.get_running_loop().create_task(self.engine.script(self))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.gone.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def drained(self) -> None:
        """Wait until the gateway has taken most of what was said, as uvicorn does after each piece."""
        await self._writable.wait()
        await asyncio.sleep(0)  # a turn for the others, also when there is room

    def _next_request(self) -> "Seen | None":
        head, blank, rest = self._data.partition(b"\r\n\r\n")
        if not blank:
            return None
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers["content-length"])
        if len(rest) < length:
            return None
        self._data = rest[length:]
        method, path, _ = first.split(" ")
        return Seen(method=method, path=path, headers=headers, body=rest[:length])

    # what scripts say

    def raw(self, data: bytes) -> None:
        self.transport.write(data)

    def json(self, fields: Any, status: int = 200, content_type: str = "application/json") -> None:
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        head = f"HTTP/1.1 {status} X\r\nserver: uvicorn\r\ncontent-type: {content_type}\r\n"
        self.raw(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    def open_stream(self) -> None:
        self.raw(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )

    def chunk(self, data: bytes) -> None:
        self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    def event(self, fields: Any) -> None:
        self.chunk(event(fields))

    def end_stream(self) -> None:
        self.raw(b"0\r\n\r\n")

    def die(self) -> None:
        self.transport.abort()


@dataclass(frozen=True)
class Seen:
    """A request as the engine got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        return json.loads(self.body)


Script = Callable[[Exchange], Awaitable[None]]


class Engine:
    """Listens on a unix socket and answers every request as its script says."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.script: Script = answer
        self.requests: list[Seen] = []
        self.exchanges: list[Exchange] = []
        self.connections: list[Exchange] = []
        self.arrived = asyncio.Event()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Exchange(self), str(self.socket))

    async def stop(self) -> None:
        self._server.close()
        for exchange in self.connections:
            exchange.transport.abort()
        self.socket.unlink(missing_ok=True)

    async def request(self) -> Exchange:
        """Wait for a request; the exchange in which it came."""
        async with asyncio.timeout(5):
            await self.arrived.wait()
        self.arrived.clear()
        return self.exchanges[-1]


async def answer(exchange: Exchange) -> None:
    """What an engine in good health does."""
    if exchange.seen.fields.get("stream"):
        exchange.open_stream()
        for word in ("one", "two"):
            exchange.event(delta(word))
        exchange.event(delta("", finish_reason="stop"))
        if (exchange.seen.fields.get("stream_options") or {}).get("include_usage"):
            exchange.event(usage_event(3, 2))
        exchange.event("[DONE]")
        exchange.end_stream()
    else:
        exchange.json(completion("one two"))


async def silence(exchange: Exchange) -> None:
    """An engine that works, and works."""
    del exchange


def completion(text: str, finish_reason: str = "stop") -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "chat",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def delta(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "chat",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}],
    }


def usage_event(prompt: int, completion_tokens: int) -> dict[str, Any]:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt + completion_tokens,
    }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "chat",
        "choices": [],
        "usage": usage,
    }


def event(fields: Any) -> bytes:
    text = fields if isinstance(fields, str) else json.dumps(fields, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


# --- clients


@dataclass(frozen=True)
class Answer:
    """A response as h11, a second opinion on HTTP, reads it."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool  # it ended as its framing said
    interim: tuple[int, ...] = ()

    @property
    def fields(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.fields["error"]

    @property
    def events(self) -> list[Any]:
        return [part if part == "[DONE]" else json.loads(part) for part in self._payloads()]

    def _payloads(self) -> list[str]:
        *events, rest = self.body.decode().split("\n\n")
        assert rest == "", "half an event"
        return [text.removeprefix("data: ") for text in events]


class Client:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._h11 = h11.Connection(h11.CLIENT)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def request(self, method: str, target: str, body: Any = None, **headers: str) -> None:
        self.send(raw_request(method, target, body, **headers))

    async def answer(self, method: str = "POST") -> Answer:
        """Read one response."""
        if self._h11.our_state is not h11.IDLE:
            self._h11.start_next_cycle()
        # h11 wants to know what was asked, to know whether a body follows
        self._h11.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        self._h11.send(h11.EndOfMessage())
        body, interim, response = b"", [], None
        while True:
            try:
                got = self._h11.next_event()
            except h11.RemoteProtocolError:
                if response is None:
                    raise ConnectionResetError("closed without an answer") from None
                return _answer(response, body, interim, whole=False)
            if got is h11.NEED_DATA:
                self._h11.receive_data(await self._read())
            elif isinstance(got, h11.InformationalResponse):
                interim.append(got.status_code)
            elif isinstance(got, h11.Response):
                response = got
            elif isinstance(got, h11.Data):
                body += bytes(got.data)
            elif isinstance(got, h11.EndOfMessage):
                return _answer(response, body, interim, whole=True)
            else:
                raise ConnectionResetError("closed without an answer")

    async def _read(self) -> bytes:
        async with asyncio.timeout(10):
            try:
                return await self.reader.read(65536)
            except ConnectionResetError:
                return b""

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        self.request(method, target, body, **headers)
        return await self.answer(method)

    async def closed(self) -> bool:
        """Whether the gateway closes this connection (after what it still has to say)."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    def close(self) -> None:
        self.writer.close()


def _answer(response: h11.Response, body: bytes, interim: Iterable[int], *, whole: bool) -> Answer:
    headers = {name.decode(): value.decode() for name, value in response.headers}
    return Answer(status=response.status_code, headers=headers, body=body, whole=whole, interim=tuple(interim))


def raw_request(method: str, target: str, body: Any = None, **headers: str) -> bytes:
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/1.1", f"Host: {headers.pop('Host', 'localhost')}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


# --- the gateway


def served(
    name: str, *engines: Engine, aliases: tuple[str, ...] = (), state: str = "ready", cause: str = ""
) -> ServedModel:
    upstreams = tuple(
        Upstream(
            replica=f"{name}/{index}",
            socket=str(engine.socket),
            state=ReplicaState(state),
            cause=cause,
            since=1700000000.0,
        )
        for index, engine in enumerate(engines)
    )
    return ServedModel(name=name, aliases=aliases, max_model_len=4096, upstreams=upstreams)


def declared(key: str, name: str = "ci") -> tuple[HashedKey, ...]:
    return (HashedKey(name=name, sha256=hashlib.sha256(key.encode()).hexdigest()),)


@dataclass
class Rig:
    """A gateway with its files, its engines and its clients."""

    root: Path
    engine: Engine
    gateway: Gateway = field(init=False)
    clients: list[Client] = field(default_factory=list)

    @property
    def keys(self) -> KeyStore:
        return KeyStore(self.root / "keys.json")

    @property
    def port(self) -> int:
        return self.gateway.addresses[0][1]

    def publish(self, *models: ServedModel, keys: tuple[HashedKey, ...] = (), started: bool = True) -> None:
        """Replace the table, as the manager does, and let the gateway see it."""
        write_table(self.root / "table.json", RoutingTable(models=models, keys=keys, started=started))
        if hasattr(self, "gateway"):
            self.gateway.tick()

    async def connect(self, **options: Any) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, **options))
        self.clients.append(client)
        return client

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own."""
        client = await self.connect()
        return await client.ask(method, target, body, **headers)

    @asynccontextmanager
    async def busy(
        self, work: Callable[[Client], Awaitable[None]], *, clients: int
    ) -> AsyncIterator[asyncio.Future[Any]]:
        """`work` on so many connections at once, while the block runs; both must finish."""
        running = asyncio.gather(*[work(await self.connect()) for _ in range(clients)])
        yield running
        await running

    async def chat(self, model: str = "chat", **fields: Any) -> Answer:
        return await self.ask("POST", CHAT, {"model": model, "messages": [], **fields})


def write_table(path: Path, table: RoutingTable) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(table)))
    os.replace(temporary, path)  # noqa: PTH105 (both are paths of this test)


@asynccontextmanager
async def running(root: Path, prepare: Callable[[Rig], None] | None, limits: Limits) -> AsyncIterator[Rig]:
    engine = Engine(root / "chat-0.sock")
    await engine.start()
    rig = Rig(root=root, engine=engine)
    rig.publish(served("chat", engine, aliases=("default",)))
    (root / "engine-key").write_text(ENGINE_KEY)
    if prepare is not None:
        prepare(rig)
    rig.gateway = Gateway(
        Options(
            listen="127.0.0.1:0",
            table=root / "table.json",
            keys=root / "keys.json",
            engine_key=root / "engine-key",
            limits=limits,
        )
    )
    await rig.gateway.open()
    yield rig
    for client in rig.clients:
        client.writer.transport.abort()
    hurry = asyncio.Event()
    hurry.set()
    await rig.gateway.close(hurry)
    await engine.stop()
