"""Clients that leave, stall, trickle, push or come in crowds."""

import asyncio
import contextlib
import json
import socket
import time

import pytest

from gateway.corpus import REFUSED
from gateway.rig import CHAT, Exchange, delta, event, raw_request, served, silence

WORD = event(delta("x" * 1000))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
async def test_when_the_client_leaves_the_engine_may_stop(rig, stream, how: str) -> None:
    rig.engine.script = silence
    client = await rig.connect()
    client.request("POST", CHAT, {"model": "chat", "stream": stream})
    exchange = await rig.engine.request()
    if stream:
        exchange.open_stream()
        exchange.event(delta("one"))
        await client.reader.readuntil(b"one")
    if how == "half-close":
        client.writer.write_eof()
    else:
        if how == "reset":
            client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    async with asyncio.timeout(1):
        await exchange.gone.wait()
    metrics = (await rig.ask("GET", "/metrics")).body
    assert b'selfhost_gateway_requests_in_flight{model="chat"} 0.0' in metrics
    assert b'selfhost_gateway_requests_total{model="chat",route="/v1/chat/completions",status="499"} 1.0' in metrics


async def test_two_hundred_clients_that_leave_in_the_middle_leave_nothing_behind(rig) -> None:
    async def talk(exchange: Exchange) -> None:
        exchange.open_stream()
        exchange.event(delta("one"))

    rig.engine.script = talk
    clients = [await rig.connect() for _ in range(200)]
    for client in clients:
        client.request("POST", CHAT, {"model": "chat", "stream": True})
    for client in clients:
        await client.reader.readuntil(b"one")
        client.close()
    async with asyncio.timeout(2):
        for exchange in rig.engine.exchanges:
            await exchange.gone.wait()
    assert len(rig.engine.exchanges) == 200
    assert b'in_flight{model="chat"} 0.0' in (await rig.ask("GET", "/metrics")).body


async def test_a_half_closing_client_gets_the_answers_that_are_given_at_once(rig) -> None:
    client = await rig.connect()
    client.request("GET", "/livez")
    client.request("GET", "/v1/models")
    client.writer.write_eof()
    assert (await client.answer()).status == 200
    assert (await client.answer()).status == 200
    assert await client.closed()


async def test_a_client_that_leaves_while_its_engine_is_dialled_leaves_nothing(rig) -> None:
    client = await rig.connect()
    client.send(raw_request("POST", CHAT, {"model": "chat"}))
    client.writer.write_eof()
    assert await client.closed()
    assert b'in_flight{model="chat"} 0.0' in (await rig.ask("GET", "/metrics")).body


async def test_a_client_that_does_not_read_makes_its_engine_wait_and_nobody_else(rig) -> None:
    sent = 0

    async def talk(exchange: Exchange) -> None:
        nonlocal sent
        exchange.open_stream()
        if exchange.seen.fields["model"] == "chat" and exchange.seen.fields.get("slow"):
            while not exchange.gone.is_set() and sent < 50_000_000:
                exchange.chunk(WORD * 100)
                sent += len(WORD) * 100
                await exchange.drained()
        else:
            exchange.event(delta("one"))
            exchange.event("[DONE]")
            exchange.end_stream()

    rig.engine.script = talk
    slow = await rig.connect(limit=1024)
    slow.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.request("POST", CHAT, {"model": "chat", "stream": True, "slow": True})
    await rig.engine.request()
    before = -1
    while before != sent:  # until nothing moves any more; meanwhile others are served
        before = sent
        for _ in range(20):
            assert (await rig.chat(stream=True)).whole
    assert sent < 20_000_000
    slow.close()
    await rig.engine.exchanges[0].gone.wait()


async def test_a_client_that_reads_slowly_gets_every_byte(rig) -> None:
    words = WORD * 3000

    async def talk(exchange: Exchange) -> None:
        exchange.open_stream()
        for place in range(0, len(words), 50_000):
            exchange.chunk(words[place : place + 50_000])
        exchange.event("[DONE]")
        exchange.end_stream()

    rig.engine.script = talk
    client = await rig.connect(limit=2048)
    client.request("POST", CHAT, {"model": "chat", "stream": True})
    answer = await client.answer()
    assert answer.whole
    assert answer.body == words + event("[DONE]")


async def test_a_client_that_takes_nothing_is_given_up(start) -> None:
    rig = await start(stall_seconds=0.2)

    async def talk(exchange: Exchange) -> None:
        exchange.open_stream()
        exchange.chunk(WORD * 20_000)

    rig.engine.script = talk
    client = await rig.connect(limit=1024)
    client.request("POST", CHAT, {"model": "chat", "stream": True})
    exchange = await rig.engine.request()
    async with asyncio.timeout(5):
        await exchange.gone.wait()


async def test_a_client_that_asks_and_asks_and_never_reads_is_not_answered_without_limit(rig) -> None:
    client = await rig.connect(limit=1024)
    question = raw_request("GET", "/v1/models")
    asked = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while asked < 200_000_000:
                client.send(question * 1000)
                asked += len(question) * 1000
                await client.writer.drain()
    assert asked < 100_000_000
    assert (await rig.ask("GET", "/livez")).status == 200
    held = max(each._transport.get_write_buffer_size() for each in rig.gateway._server._connections)
    assert held < 1_000_000


async def test_pipelined_requests_are_answered_in_order(rig) -> None:
    async def slow_first(exchange: Exchange) -> None:
        if exchange.seen.fields["n"] == 1:
            first.set()
            await release.wait()
        exchange.json({"n": exchange.seen.fields["n"]})

    first, release = asyncio.Event(), asyncio.Event()
    rig.engine.script = slow_first
    client = await rig.connect()
    requests = [raw_request("POST", CHAT, {"model": "chat", "n": number}) for number in (1, 2)]
    client.send(requests[0] + raw_request("GET", "/livez") + requests[1] + raw_request("GET", "/nothing"))
    await first.wait()
    assert len(rig.engine.requests) == 1  # the second one waits for its turn
    release.set()
    answers = [await client.answer() for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 404]
    assert [answers[0].fields, answers[2].fields] == [{"n": 1}, {"n": 2}]


async def test_thousands_of_pipelined_requests_in_one_go_are_all_answered(rig) -> None:
    client = await rig.connect()
    client.send(raw_request("HEAD", "/livez") * 5000)
    for _ in range(5000):
        assert b"200 OK" in await client.reader.readuntil(b"\r\n\r\n")


async def test_a_large_pipeline_behind_a_slow_answer_waits_outside(rig) -> None:
    rig.engine.script = silence
    client = await rig.connect()
    client.send(
        raw_request("POST", CHAT, {"model": "chat"}) + raw_request("POST", CHAT, {"model": "chat", "x": "y" * 300_000})
    )
    exchange = await rig.engine.request()
    exchange.json({"n": 1})
    assert (await client.answer()).fields == {"n": 1}
    exchange = await rig.engine.request()
    assert len(exchange.seen.body) > 300_000
    exchange.json({"n": 2})
    assert (await client.answer()).fields == {"n": 2}


async def test_what_follows_a_broken_request_is_not_read(rig) -> None:
    client = await rig.connect()
    client.send(raw_request("GET", "/livez") + b"GET / HTTP/1.1\r\nBad Header\r\n\r\n" + raw_request("GET", "/livez"))
    assert (await client.answer()).status == 200
    bad = await client.answer()
    assert (bad.status, bad.headers["connection"], bad.error["code"]) == (400, "close", "bad_http")
    assert await client.closed()


async def test_no_broken_request_reaches_an_engine_and_each_ends_its_connection(rig) -> None:
    for case, request in REFUSED.items():
        client = await rig.connect()
        real = request.replace(b" /x ", b" /v1/chat/completions ").replace(b"Host: a", b"Host: localhost")
        client.send(real + raw_request("POST", CHAT, {"model": "chat"}))
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close"), case
        client.writer.write_eof()
        assert await client.closed(), case
    assert rig.engine.requests == []


async def test_a_client_that_asks_first_is_told_to_go_on(rig) -> None:
    client = await rig.connect()
    body = json.dumps({"model": "chat"}).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        % len(body)
    )
    for _ in range(2):
        client.send(head)
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(body)
        assert (await client.answer()).status == 200
    client.send(head.replace(b"/v1/chat/completions", b"/v1/nothing"))
    answer = await client.answer()
    assert (answer.status, answer.interim) == (404, ())


async def test_a_go_on_does_not_overtake_an_answer(rig) -> None:
    rig.engine.script = silence
    client = await rig.connect()
    body = json.dumps({"model": "chat"}).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        % len(body)
    )
    client.send(raw_request("POST", CHAT, {"model": "chat"}) + head)
    (await rig.engine.request()).json({"n": 1})
    assert (await client.answer()).interim == ()
    client.send(body)
    (await rig.engine.request()).json({"n": 2})
    second = await client.answer()
    assert (second.interim, second.fields) == ((100,), {"n": 2})


async def test_an_offer_of_http_2_is_declined_and_the_request_is_answered(rig) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABk"}
    answer = await rig.ask("POST", CHAT, {"model": "chat"}, **offer)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert rig.engine.requests[0].fields == {"model": "chat"}


@pytest.mark.parametrize(
    "begin, status",
    [
        (b"", None),
        (b"GET /livez HTTP/1.1\r\nHost:", 408),
        (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{", 408),
    ],
    ids=["silence", "half a head", "half a body"],
)
async def test_who_does_not_say_what_he_wants_in_time_is_shown_out(start, begin: bytes, status: int | None) -> None:
    rig = await start(head_seconds=0.3, body_seconds=0.3, linger_seconds=0.3)
    client = await rig.connect()
    client.send(begin)
    if status is not None:
        assert (await client.answer()).status == status
    assert await client.closed()


async def test_a_trickle_does_not_move_the_deadline(start) -> None:
    rig = await start(head_seconds=0.5, linger_seconds=0.2)
    client = await rig.connect()
    begun = time.monotonic()
    client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ")
    reading = asyncio.create_task(client.answer())
    while not reading.done():
        client.send(b"x")
        await rig.ask("GET", "/livez")
    assert (await reading).status == 408
    assert time.monotonic() - begun < 5


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(start) -> None:
    rig = await start(keep_alive_seconds=0.3)
    rig.engine.script = silence
    idle, busy = await rig.connect(), await rig.connect()
    assert (await idle.ask("GET", "/livez")).status == 200
    busy.request("POST", CHAT, {"model": "chat"})
    exchange = await rig.engine.request()
    assert await idle.closed()
    exchange.json({"n": 1})
    assert (await busy.answer()).fields == {"n": 1}


async def test_a_full_gateway_says_so_and_its_probes_tell_the_truth(start) -> None:
    rig = await start(connections=3)
    first = [await rig.connect() for _ in range(3)]
    for client in first:
        assert (await client.ask("POST", CHAT, {"model": "chat"})).status == 200
    full = await rig.chat()
    assert (full.status, full.error["code"], full.headers["retry-after"]) == (503, "too_many_connections", "2")
    assert (await rig.ask("GET", "/livez")).status == 200
    assert (await rig.ask("GET", "/readyz")).status == 200
    for client in rig.clients:
        client.close()
    while (await rig.chat()).status != 200:
        pass


async def test_small_writes_leave_at_once(rig) -> None:
    client = await rig.connect()
    assert (await client.ask("GET", "/livez")).status == 200
    (connection,) = rig.gateway._server._connections
    accepted = connection._transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_defect_of_ours_costs_one_request(rig, monkeypatch, caplog) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    client = await rig.connect()
    with monkeypatch.context() as patch:
        patch.setattr(rig.gateway._app, "handle", fail)
        broken = await client.ask("POST", CHAT, {"model": "chat", "messages": "a secret"})
    assert (broken.status, broken.error["code"]) == (500, "internal_error")
    assert "a secret" not in caplog.text
    assert (await client.ask("POST", CHAT, {"model": "chat"})).status == 200


async def test_one_slow_model_does_not_hold_up_another(rig, second_engine) -> None:
    rig.publish(served("chat", rig.engine), served("fast", second_engine))
    rig.engine.script = silence
    for _ in range(20):
        (await rig.connect()).request("POST", CHAT, {"model": "chat"})
    assert (await rig.chat("fast")).status == 200
