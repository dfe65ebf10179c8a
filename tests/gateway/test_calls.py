import asyncio
import json

import orjson
import pytest

from gateway.corpus import FORBIDDEN
from gateway.rig import (
    CHAT,
    ENGINE_KEY,
    completion,
    delta,
    event,
    raw_request,
    served,
    silence,
    usage_event,
    write_table,
)
from selfhost.planner.routing import RoutingTable


async def test_an_answer_comes_back_as_the_engine_gave_it(rig) -> None:
    answer = await rig.chat()
    assert (answer.status, answer.fields) == (200, completion("one two"))
    assert answer.headers["content-type"] == "application/json"
    assert "server" not in answer.headers  # the engine's


async def test_completions_go_to_completions(rig) -> None:
    await rig.ask("POST", "/v1/completions", {"model": "chat", "prompt": "x"})
    assert [seen.path for seen in rig.engine.requests] == ["/v1/completions"]


async def test_the_engine_sees_our_headers_and_none_of_the_client_s(rig) -> None:
    answer = await rig.ask(
        "POST",
        CHAT + "?key=value",
        {"model": "chat"},
        Authorization="Bearer sk-client",
        Cookie="session=1",
        Forwarded="for=1.2.3.4",
        X_Forwarded_For="1.2.3.4",
        X_Request_Id="evil",
        Connection="keep-alive, X-Hop",
        X_Hop="1",
        TE="trailers",
        Proxy_Authorization="Basic x",
        Content_Type="text/plain",
        User_Agent="client",
    )
    (seen,) = rig.engine.requests
    assert seen.headers == {
        "host": "engine",
        "authorization": f"Bearer {ENGINE_KEY}",
        "content-type": "application/json",
        "x-request-id": answer.headers["x-request-id"],
        "content-length": str(len(seen.body)),
    }
    assert (seen.method, seen.path) == ("POST", CHAT)


async def test_an_alias_reaches_the_engine_as_the_model_s_own_name(rig) -> None:
    body = b'{"model": "default", "seed": 123456789012345678901234567890, "temperature": 1E-1}'
    await rig.ask("POST", CHAT, body)
    assert rig.engine.requests[0].body == body.replace(b"default", b"chat")


@pytest.mark.parametrize("number", range(len(FORBIDDEN)))
async def test_the_engine_never_sees_a_forbidden_field(rig, number: int) -> None:
    fields, param = FORBIDDEN[number]
    refused = await rig.ask("POST", CHAT, {"model": "chat", "messages": [], **fields})
    assert (refused.status, refused.error["param"]) == (400, param)
    assert rig.engine.requests == []


async def test_an_unknown_model_is_nobody_s(rig) -> None:
    answer = await rig.chat("gpt-4")
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
    assert "known models: chat, default" in answer.error["message"]
    assert rig.engine.requests == []


async def test_a_model_that_loads_says_so_and_when_to_come_back(rig) -> None:
    rig.publish(served("chat", rig.engine, state="loading", cause="2 of 5 shards"))
    answer = await rig.chat()
    assert (answer.status, answer.headers["retry-after"], answer.error["code"]) == (503, "10", "model_not_ready")
    assert answer.error["message"] == "model 'chat' is loading: 2 of 5 shards"


async def test_a_refusal_of_a_small_body_keeps_the_connection(rig) -> None:
    client = await rig.connect()
    assert (await client.ask("POST", CHAT, {"model": "nope"})).status == 404
    assert (await client.ask("POST", CHAT, {"model": "chat"})).status == 200


async def test_bodies_of_ten_megabytes_pass_and_larger_ones_are_not_read(rig) -> None:
    start = b'{"model":"chat","x":"'
    body = start + b"x" * (10_000_000 - len(start) - 2) + b'"}'
    assert (await rig.ask("POST", CHAT, body)).status == 200
    assert rig.engine.requests[0].body == body
    client = await rig.connect()
    client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000001\r\n\r\n")
    assert (await client.answer()).status == 413
    assert await client.closed()


async def test_a_client_that_sends_too_much_can_still_read_why(rig) -> None:
    client = await rig.connect()
    client.send(raw_request("POST", CHAT, b"x" * 12_000_000))
    assert (await client.answer()).status == 413


async def test_requests_go_to_the_replica_with_the_least_to_do(rig, second_engine) -> None:
    rig.publish(served("chat", rig.engine, second_engine))
    rig.engine.script = second_engine.script = silence
    clients = [await rig.connect() for _ in range(6)]
    for client in clients:
        client.request("POST", CHAT, {"model": "chat"})
        await client.writer.drain()
    while len(rig.engine.requests) + len(second_engine.requests) < 6:
        await rig.engine.request() if len(rig.engine.requests) < 3 else await second_engine.request()
    assert (len(rig.engine.requests), len(second_engine.requests)) == (3, 3)


async def test_a_connection_to_an_engine_is_used_again(rig) -> None:
    for _ in range(5):
        assert (await rig.chat(stream=True)).status == 200
        assert (await rig.chat()).status == 200
    assert len(rig.engine.connections) == 1


async def test_where_nobody_listens_another_replica_is_asked(rig, second_engine) -> None:
    rig.publish(served("chat", rig.engine, second_engine))
    await rig.engine.stop()
    for _ in range(4):
        assert (await rig.chat()).status == 200
    assert len(second_engine.requests) == 4


async def test_where_nobody_listens_at_all_the_client_may_come_back(rig) -> None:
    await rig.engine.stop()
    answer = await rig.chat()
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "model_not_reachable", "5")


async def test_an_idle_connection_that_the_engine_has_closed_costs_nothing(rig) -> None:
    assert (await rig.chat()).status == 200
    rig.engine.connections[0].transport.close()
    assert (await rig.chat()).status == 200
    assert len(rig.engine.connections) == 2


async def test_a_request_that_no_engine_has_read_is_sent_again(rig) -> None:
    assert (await rig.chat()).status == 200
    # the engine closes without having looked: as uvicorn does with a connection that has been idle for 5 s
    rig.engine.connections[0].transport.pause_reading()
    client = await rig.connect()
    client.request("POST", CHAT, {"model": "chat"})
    await client.writer.drain()
    assert (await rig.ask("GET", "/livez")).status == 200  # the gateway has had its turn
    rig.engine.connections[0].transport.abort()
    assert (await client.answer()).status == 200
    assert len(rig.engine.requests) == 2


async def test_a_request_that_was_in_flight_when_an_engine_died_is_not_sent_again(rig, second_engine) -> None:
    async def die(exchange) -> None:
        exchange.die()

    rig.publish(served("chat", rig.engine, second_engine))
    rig.engine.script = second_engine.script = die
    for _ in range(2):  # on a new connection, and on one that was used before
        answer = await rig.chat()
        assert (answer.status, answer.error["code"]) == (502, "engine_died")
    assert len(rig.engine.requests) + len(second_engine.requests) == 2
    rig.engine.script = second_engine.script = completes_once
    for _ in range(2):
        await rig.chat()
    rig.engine.script = second_engine.script = die
    assert (await rig.chat()).status == 502
    assert len(rig.engine.requests) + len(second_engine.requests) == 5


async def completes_once(exchange) -> None:
    exchange.json(completion("x"))


async def test_an_answer_cut_in_the_middle_is_an_error(rig) -> None:
    async def cut(exchange) -> None:
        exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        exchange.transport.close()

    rig.engine.script = cut
    assert (await rig.chat()).status == 502


@pytest.mark.parametrize(
    "garbage", [b"hello\r\n\r\n", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"]
)
async def test_an_engine_that_speaks_something_else_is_an_error(rig, garbage: bytes) -> None:
    async def speak(exchange) -> None:
        exchange.raw(garbage)

    rig.engine.script = speak
    assert (await rig.chat()).status == 502


async def test_interim_answers_of_an_engine_are_not_answers(rig) -> None:
    async def hesitate(exchange) -> None:
        exchange.raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        exchange.json(completion("at last"))

    rig.engine.script = hesitate
    assert (await rig.chat()).fields == completion("at last")


@pytest.mark.parametrize(
    "surplus", [b"HTTP/1.1 500 X\r\ncontent-type: a/b\r\ncontent-length: 2\r\n\r\n{}", b"hello\r\n"]
)
async def test_what_an_engine_says_after_its_answer_reaches_nobody(rig, surplus: bytes) -> None:
    async def go_on(exchange) -> None:
        exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}" + surplus)

    rig.engine.script = go_on
    for _ in range(2):
        answer = await rig.chat()
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"{}", "application/json")
    assert len(rig.engine.connections) == 2  # which of its answers would the next one be?


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n" + b"x: %b\r\n" % (b"y" * 1000) * 70 + b"content-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 2_000_000,
        b"HTTP/1.1 200 " + b"y" * 2_000_000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nx: " + b"y" * 2_000_000,
    ],
    ids=["many headers", "one header", "status line", "interim answers", "trailer"],
)
async def test_the_headers_of_an_engine_are_bounded(rig, head: bytes) -> None:
    async def speak(exchange) -> None:
        exchange.raw(head)

    rig.engine.script = speak
    answer = await rig.chat()
    assert (answer.status, answer.error["code"]) == (502, "answer_too_large")
    assert answer.error["message"] == "the headers of the engine's answer are too large"
    async with asyncio.timeout(2):
        await rig.engine.exchanges[0].gone.wait()


async def test_headers_below_the_bound_may_come_with_every_answer(rig) -> None:
    async def speak(exchange) -> None:
        exchange.raw(b"HTTP/1.1 200 OK\r\n" + b"x: %b\r\n" % (b"y" * 60_000) + b"content-length: 2\r\n\r\n{}")

    rig.engine.script = speak
    assert [(await rig.chat()).status for _ in range(3)] == [200] * 3
    assert len(rig.engine.connections) == 1


async def test_an_answer_that_was_broken_off_is_503_and_not_a_shorter_answer(rig) -> None:
    async def stop(exchange) -> None:
        exchange.json(completion("half of", finish_reason="abort"))

    rig.engine.script = stop
    answer = await rig.chat()
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "engine_stopped", "5")
    assert b"half of" not in answer.body


async def test_an_engine_s_refusal_comes_through_in_its_own_words(rig) -> None:
    words = {"error": {"message": "max_tokens is too large", "type": "BadRequestError", "param": None, "code": 400}}

    async def refuse(exchange) -> None:
        exchange.json(words, status=400)

    rig.engine.script = refuse
    answer = await rig.chat()
    assert (answer.status, answer.fields) == (400, words)


async def test_the_gateway_s_own_key_is_not_the_client_s_problem(rig) -> None:
    async def refuse(exchange) -> None:
        exchange.json({"error": "Unauthorized"}, status=401)

    rig.engine.script = refuse
    answer = await rig.chat()
    assert (answer.status, answer.error["code"]) == (502, "engine_refused")


async def test_a_table_that_is_damaged_or_gone_changes_nothing(rig, caplog) -> None:
    table = rig.root / "table.json"
    for damage in (b"", b"{", b'{"models": 1}', orjson.dumps({"models": [], "keys": [{"name": "x", "sha256": "zz"}]})):
        table.write_bytes(damage)
        for _ in range(3):
            rig.gateway.tick()
        assert (await rig.chat()).status == 200
    table.unlink()
    for _ in range(3):
        rig.gateway.tick()
    table.mkdir()
    for _ in range(3):
        rig.gateway.tick()
    assert (await rig.chat()).status == 200
    assert len(caplog.records) == 6, caplog.text
    assert "models: Input should be a valid " in caplog.text


async def test_a_table_is_found_by_itself_within_a_moment(rig) -> None:
    client = await rig.connect()
    table = rig.root / "table.json"
    before = json.loads(table.read_bytes())
    write_table(table, RoutingTable(models=(served("other", rig.engine),), started=True))
    assert before["models"][0]["name"] == "chat"
    while (await client.ask("GET", "/v1/models")).fields["data"][0]["id"] != "other":
        pass
    assert (await client.ask("POST", CHAT, {"model": "chat"})).status == 404
    assert (await client.ask("POST", CHAT, {"model": "other"})).status == 200


async def test_a_replica_that_leaves_the_table_finishes_what_it_has(rig, second_engine) -> None:
    rig.engine.script = silence
    client = await rig.connect()
    client.request("POST", CHAT, {"model": "chat", "stream": True})
    exchange = await rig.engine.request()
    exchange.open_stream()
    exchange.event(delta("one"))
    rig.publish(served("chat", second_engine))
    assert (await rig.chat()).status == 200
    assert len(second_engine.requests) == 1
    exchange.event(delta("two"))
    exchange.event(usage_event(1, 2))
    exchange.event("[DONE]")
    exchange.end_stream()
    assert (await client.answer()).body.endswith(event(delta("two")) + event("[DONE]"))
    await exchange.gone.wait()  # its pool has retired


async def test_replacing_the_table_under_load_fails_no_request(rig, second_engine) -> None:
    tables = [
        [served("chat", rig.engine)],
        [served("chat", rig.engine, second_engine), served("extra", second_engine)],
        [served("chat", second_engine)],
    ]
    statuses = []

    async def work(client) -> None:
        for number in range(40):
            answer = await client.ask("POST", CHAT, {"model": "chat", "stream": number % 2 == 0})
            statuses.append((answer.status, answer.whole))

    async with rig.busy(work, clients=8) as busy:
        number = 0
        while not busy.done():
            rig.publish(*tables[number % 3])
            number += 1
            await rig.ask("GET", "/livez")
    assert statuses == [(200, True)] * 320
    assert number > 3
    assert len(rig.engine.requests) + len(second_engine.requests) == 320
    assert rig.engine.requests
    assert second_engine.requests
