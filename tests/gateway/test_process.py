"""The gateway as a process of its own: start, signals, limits of the system, what it writes."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.rig import (
    CHAT,
    ENGINE_KEY,
    Client,
    Engine,
    declared,
    delta,
    event,
    raw_request,
    served,
    silence,
    write_table,
)
from selfhost.errors import BlockedError
from selfhost.gateway.keys import KeyStore
from selfhost.gateway.process import Gateway, Options
from selfhost.planner.routing import RoutingTable


@dataclass
class Process:
    """`python -m selfhost.gateway ...` and what it has said so far."""

    child: asyncio.subprocess.Process
    port: int = 0
    said: str = ""
    clients: list[Client] = field(default_factory=list)

    async def until(self, pattern: str) -> re.Match[str]:
        """Read what it says until it says that."""
        assert self.child.stderr is not None
        async with asyncio.timeout(15):
            while (found := re.search(pattern, self.said)) is None:
                line = await self.child.stderr.readline()
                assert line, self.said
                self.said += line.decode()
        return found

    async def end(self) -> int:
        """Wait until it has ended; its exit code."""
        async with asyncio.timeout(15):
            _, stderr = await self.child.communicate()
        self.said += stderr.decode()
        assert self.child.returncode is not None
        return self.child.returncode

    async def connect(self, host: str = "127.0.0.1") -> Client:
        client = Client(*await asyncio.open_connection(host, self.port))
        self.clients.append(client)
        return client


@dataclass
class Files:
    """What a gateway process is started with."""

    root: Path
    engine: Engine

    def arguments(self, listen: str = "127.0.0.1:0", *more: str) -> list[str]:
        paths = {"table": "table.json", "keys": "keys.json", "engine-key": "engine-key"}
        return [f"--listen={listen}", *(f"--{name}={self.root / path}" for name, path in paths.items()), *more]


Run = Callable[..., Awaitable[Process]]


@pytest.fixture
async def files(isolated: Path) -> AsyncIterator[Files]:
    engine = Engine(isolated / "chat-0.sock")
    await engine.start()
    write_table(isolated / "table.json", RoutingTable(models=(served("chat", engine),), started=True))
    (isolated / "engine-key").write_text(ENGINE_KEY + "\n")
    yield Files(isolated, engine)
    await engine.stop()


@pytest.fixture
async def run(files: Files) -> AsyncIterator[Run]:
    """Start a gateway process; by default wait until it listens."""
    started: list[Process] = []

    async def begin(*arguments: str, listening: bool = True, wrapper: tuple[str, ...] = (), **options: Any) -> Process:
        argv = [*wrapper, sys.executable, "-m", "selfhost.gateway", *(arguments or files.arguments())]
        child = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.PIPE, **options)
        process = Process(child)
        started.append(process)
        if listening:
            process.port = int((await process.until(r"listening on http://\S+:(\d+);"))[1])
        return process

    async with AsyncExitStack():
        yield begin
    for process in started:
        for client in process.clients:
            client.writer.transport.abort()
        if process.child.returncode is None:
            process.child.kill()
            await process.end()


async def test_it_serves_logs_and_ends(files, run) -> None:
    record, key = KeyStore(files.root / "keys.json").create("ci")
    process = await run()
    client = await process.connect()
    secret = {"model": "chat", "messages": [{"role": "user", "content": "CANARY-PROMPT"}]}
    headers = {"Authorization": f"Bearer {key}", "X-Request-Id": "CANARY-ID"}
    answer = await client.ask("POST", CHAT + "?q=CANARY-QUERY", secret, **headers)
    assert answer.status == 200
    assert (await client.ask("POST", CHAT, {**secret, "model": "CANARY-MODEL"}, **headers)).status == 404
    assert (await client.ask("POST", CHAT, {**secret, "n": 99}, **headers)).status == 400
    for path in ("/CANARY-PATH", f"/v1/models/CANARY-{key}", f"/v1/models?api_key={key}#CANARY"):
        assert (await client.ask("GET", path, **headers)).status in {200, 404}
    stranger = await process.connect()
    assert (await stranger.ask("POST", CHAT, secret, Authorization="Bearer CANARY-KEY")).status == 401
    broken = await process.connect()
    broken.send(b"CANARY-GARBAGE\r\n\r\n")
    assert (await broken.answer()).status == 400
    for each in (client, stranger, broken):
        each.close()
    process.child.send_signal(signal.SIGTERM)
    assert await process.end() == 0
    request_id = answer.headers["x-request-id"]
    line = (
        rf"^\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO selfhost\.gateway\.access: {request_id} POST {CHAT} 200 [\d.]+s"
        r" key=ci model=chat replica=chat/0 first_byte=[\d.]+s tokens=3\+2$"
    )
    assert re.search(line, process.said, re.MULTILINE), process.said
    assert len(re.findall(r"gateway\.access", process.said)) == 8
    assert re.search(r" GET - 404 [\d.]+s refused=not_found$", process.said, re.MULTILINE)
    assert re.search(r" GET /v1/models/{model} 404 ", process.said)
    assert re.search(r" GET /v1/models 200 ", process.said)
    assert "CANARY" not in process.said
    assert key not in process.said
    assert record.sha256 not in process.said
    assert ENGINE_KEY not in process.said


async def test_it_is_small_and_imports_little(run) -> None:
    process = await run()
    client = await process.connect()
    assert (await client.ask("POST", CHAT, {"model": "chat"})).status == 200
    assert pss_kib(process) < 60_000
    code = "import sys, selfhost.gateway.__main__; print(*sys.modules)"
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    loaded = set((await child.communicate())[0].decode().split())
    assert not loaded & {"aiohttp", "click", "httpx", "huggingface_hub", "rich", "torch", "uvicorn", "vllm", "yaml"}


async def test_an_address_in_use_is_a_sentence(files, run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await run(*files.arguments(address), listening=False)
        assert await process.end() == 1
    assert process.said.startswith(f"error: {address} is already in use by another process\nhint: ")
    assert "gateway.listen" in process.said
    assert "Traceback" not in process.said


@pytest.mark.parametrize(
    "listen, sentence",
    [
        ("8000", "'8000' is not an address to listen on"),
        ("127.0.0.1:http", "is not an address to listen on"),
        ("127.0.0.1:99999", "is not an address to listen on"),
        (":8000", "is not an address to listen on"),
        ("192.0.2.1:8000", "cannot listen on 192.0.2.1:8000"),
    ],
)
async def test_an_address_that_cannot_be_had_is_a_sentence(files, run, listen: str, sentence: str) -> None:
    KeyStore(files.root / "keys.json").create("ci")
    process = await run(*files.arguments(listen), listening=False)
    assert await process.end() == 1
    assert sentence in process.said
    assert "Traceback" not in process.said


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:8000"])
async def test_a_public_address_without_keys_is_refused(files, run, listen: str) -> None:
    process = await run(*files.arguments(listen), listening=False)
    assert await process.end() == 4
    assert process.said.startswith(f"error: will not listen on {listen}, which other machines can reach")
    assert "hint: selfhost keys create" in process.said


async def test_a_public_address_with_a_key_of_any_kind_is_fine(files) -> None:
    def gateway() -> Gateway:  # reads everything, and does not listen yet
        paths = {name: files.root / f"{name}.json" for name in ("table", "keys")}
        return Gateway(Options(listen="0.0.0.0:0", engine_key=files.root / "engine-key", **paths))

    with pytest.raises(BlockedError):
        gateway()
    table = RoutingTable(models=(served("chat", files.engine),), keys=declared("secret"))
    write_table(files.root / "table.json", table)
    gateway()
    (files.root / "table.json").unlink()
    store = KeyStore(files.root / "keys.json")
    store.create("ci")
    gateway()
    store.revoke("ci")
    with pytest.raises(BlockedError):
        gateway()


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", b"\xff"])
async def test_an_engine_key_that_is_none_is_a_sentence(files, run, content: bytes | None) -> None:
    path = files.root / "engine-key"
    path.unlink() if content is None else path.write_bytes(content)
    process = await run(listening=False)
    assert await process.end() == 1
    assert process.said.startswith("error: ")
    assert "engines' key" in process.said


async def test_ipv6_works(files, run) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    process = await run(*files.arguments("[::1]:0"))
    assert "listening on http://[::1]:" in process.said
    client = await process.connect("::1")
    assert (await client.ask("POST", CHAT, {"model": "chat"})).status == 200


async def test_localhost_is_every_address_of_that_name(files, run) -> None:
    process = await run(*files.arguments("localhost:0"))
    assert (await (await process.connect()).ask("GET", "/livez")).status == 200


async def test_at_the_end_running_requests_finish_and_new_ones_are_refused(files, run) -> None:
    files.engine.script = silence
    process = await run(*files.arguments("127.0.0.1:0", "--drain-seconds=20"))
    idle, client = await process.connect(), await process.connect()
    assert (await idle.ask("GET", "/livez")).status == 200
    client.request("POST", CHAT, {"model": "chat", "stream": True})
    exchange = await files.engine.request()
    exchange.open_stream()
    exchange.event(delta("one"))
    await client.reader.readuntil(b"one")
    process.child.send_signal(signal.SIGTERM)
    assert await idle.closed()
    with pytest.raises(ConnectionRefusedError):
        await process.connect()
    exchange.event(delta("two"))
    exchange.event("[DONE]")
    exchange.end_stream()
    rest = await client.reader.read()
    assert rest.endswith(event("[DONE]") + b"\r\n0\r\n\r\n")
    assert await process.end() == 0


@pytest.mark.parametrize("by", ["budget", "second signal"])
async def test_what_does_not_finish_is_told_that_it_is_cut_off(files, run, by: str) -> None:
    files.engine.script = silence
    process = await run(*files.arguments("127.0.0.1:0", f"--drain-seconds={0.1 if by == 'budget' else 60}"))
    stream, waiting = await process.connect(), await process.connect()
    stream.request("POST", CHAT, {"model": "chat", "stream": True})
    exchange = await files.engine.request()
    exchange.open_stream()
    exchange.event(delta("one"))
    await stream.reader.readuntil(b"one")
    waiting.request("POST", CHAT, {"model": "chat"})
    await files.engine.request()
    process.child.send_signal(signal.SIGTERM)
    await process.until("stopping")
    if by == "second signal":
        process.child.send_signal(signal.SIGTERM)
    answer = await waiting.answer()
    assert (answer.status, answer.error["code"]) == (503, "shutting_down")
    rest = await stream.reader.read()
    assert b"shutting_down" in rest
    assert b"[DONE]" not in rest
    assert await process.end() == 0
    async with asyncio.timeout(2):
        await exchange.gone.wait()


async def test_a_request_on_its_way_is_still_answered(run) -> None:
    process = await run()
    client = await process.connect()
    question = raw_request("POST", CHAT, {"model": "chat"})
    client.send(question[:-5])
    assert (await (await process.connect()).ask("GET", "/livez")).status == 200
    process.child.send_signal(signal.SIGTERM)
    await process.until("stopping")
    client.send(question[-5:])
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await process.end() == 0


async def test_a_lost_terminal_does_not_matter(run) -> None:
    process = await run()
    process.child.send_signal(signal.SIGHUP)
    assert (await (await process.connect()).ask("GET", "/livez")).status == 200


async def test_the_manager_s_socket_outlives_the_process(files, run) -> None:
    files.engine.script = silence
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        arguments = files.arguments(f"127.0.0.1:{port}", f"--fd={listener.fileno()}")
        first = await run(*arguments, pass_fds=(listener.fileno(),))
        client = await first.connect()
        client.request("POST", CHAT, {"model": "chat"})
        await files.engine.request()
        first.child.kill()
        assert await client.closed()
        await first.end()
        waiting = await first.connect()  # nobody serves, and nobody is refused
        waiting.request("GET", "/livez")
        second = await run(*arguments, pass_fds=(listener.fileno(),))
        assert (await waiting.answer("GET")).status == 200
        assert second.port == port


async def test_a_descriptor_that_is_no_socket_is_a_sentence(files, run) -> None:
    process = await run(*files.arguments("127.0.0.1:0", "--fd=99"), listening=False)
    assert await process.end() == 1
    assert process.said.startswith("error: file descriptor 99 is not a listening socket")


async def test_a_socket_that_others_can_reach_is_not_taken_for_a_private_one(files, run) -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))  # never listens
        process = await run(
            *files.arguments("127.0.0.1:0", f"--fd={listener.fileno()}"), listening=False, pass_fds=(listener.fileno(),)
        )
        assert await process.end() == 1
    assert "does not listen on 127.0.0.1:0" in process.said


async def test_few_file_descriptors_mean_few_clients_and_no_end(files, run) -> None:
    wrapper = ("/bin/sh", "-c", 'ulimit -n 160 && exec "$@"', "sh")
    process = await run(*files.arguments(), wrapper=wrapper)

    async def status(client: Client) -> int | None:
        try:
            return (await client.ask("POST", CHAT, {"model": "chat"})).status
        except ConnectionError:
            return None  # beyond politeness

    crowd = [await process.connect() for _ in range(400)]
    assert {200, 503} <= {await status(client) for client in crowd}
    for client in crowd:
        client.writer.transport.abort()
    while await status(client := await process.connect()) != 200:
        client.close()


async def test_when_whoever_reads_the_log_leaves_it_goes_on(files) -> None:
    reader, writer = os.pipe()
    argv = [sys.executable, "-m", "selfhost.gateway", *files.arguments(f"127.0.0.1:{(port := free_port())}")]
    child = await asyncio.create_subprocess_exec(*argv, stderr=writer)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as said:
            assert b"listening" in await asyncio.to_thread(said.readline)
        process = Process(child, port=port)
        for _ in range(3):
            client = await process.connect()
            assert (await client.ask("GET", "/livez")).status == 200
            client.close()
            (files.root / "table.json").write_text("{")  # which it would like to complain about
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


def pss_kib(process: Process) -> int:
    rollup = Path(f"/proc/{process.child.pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)[1])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
