import json

import pytest

from gateway.rig import CHAT, Exchange, completion, delta, event, raw_request, served, silence, usage_event

DIED = {
    "error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "param": None, "code": 500}
}
ASKED = {"stream_options": {"include_usage": True}}


async def test_a_stream_passes_byte_by_byte(rig) -> None:
    answer = await rig.chat(stream=True, **ASKED)
    assert answer.whole
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    words = b"".join(event(fields) for fields in (delta("one"), delta("two"), delta("", finish_reason="stop")))
    assert answer.body == words + event(usage_event(3, 2)) + event("[DONE]")


async def test_usage_that_nobody_asked_for_is_counted_but_not_seen(rig) -> None:
    answer = await rig.chat(stream=True)
    assert [one if one == "[DONE]" else one["choices"] != [] for one in answer.events] == [True, True, True, "[DONE]"]
    assert rig.engine.requests[0].fields["stream_options"] == {"include_usage": True}
    assert b'selfhost_gateway_completion_tokens_total{model="chat"} 2.0' in (await rig.ask("GET", "/metrics")).body


async def test_each_event_goes_out_when_it_comes(rig) -> None:
    rig.engine.script = silence
    client = await rig.connect()
    client.request("POST", CHAT, {"model": "chat", "stream": True})
    exchange = await rig.engine.request()
    exchange.open_stream()
    for word in ("one", "two", "three"):
        exchange.event(delta(word))
        assert word.encode() in await client.reader.readuntil(event(delta(word)) + b"\r\n")


async def test_two_streams_on_one_connection_follow_each_other(rig) -> None:
    client = await rig.connect()
    for _ in range(2):
        assert (await client.ask("POST", CHAT, {"model": "chat", "stream": True})).whole
    assert (await client.ask("POST", CHAT, {"model": "chat"})).fields == completion("one two")


async def test_an_http_1_0_client_gets_a_stream_that_ends_with_the_connection(rig) -> None:
    client = await rig.connect()
    body = json.dumps({"model": "chat", "stream": True}).encode()
    client.send(b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    answer = await client.reader.read()
    assert b"transfer-encoding" not in answer
    assert answer.endswith(event("[DONE]"))


async def died(exchange: Exchange) -> None:
    exchange.event(DIED)
    exchange.event("[DONE]")
    exchange.end_stream()


async def stopped(exchange: Exchange) -> None:
    exchange.event(delta("", finish_reason="abort"))
    exchange.event(usage_event(3, 1))
    exchange.event("[DONE]")
    exchange.end_stream()


async def killed(exchange: Exchange) -> None:
    exchange.die()


async def closed(exchange: Exchange) -> None:
    exchange.chunk(b'data: {"choi')
    exchange.transport.close()


async def ended(exchange: Exchange) -> None:
    exchange.end_stream()


async def babbled(exchange: Exchange) -> None:
    exchange.raw(b"not a chunk\r\n")


@pytest.mark.parametrize(
    "fate, status, code",
    [
        (died, 500, "engine_error"),
        (stopped, 503, "engine_stopped"),
        (killed, 502, "engine_died"),
        (closed, 502, "engine_died"),
        (ended, 502, "engine_died"),
        (babbled, 502, "engine_died"),
    ],
)
async def test_a_stream_that_fails_never_looks_finished(rig, fate, status: int, code: str) -> None:
    rig.engine.script = silence
    client = await rig.connect()
    client.request("POST", CHAT, {"model": "chat", "stream": True})
    exchange = await rig.engine.request()
    exchange.open_stream()
    exchange.event(delta("one"))
    await client.reader.readuntil(event(delta("one")) + b"\r\n")  # the client has seen it
    await fate(exchange)
    rest = await client.reader.read()  # up to the end of the connection
    assert rest.count(b'"error"') == 1
    assert b"[DONE]" not in rest
    assert b"0\r\n\r\n" not in rest
    payload = json.loads(rest.partition(b"data: ")[2].partition(b"\n\n")[0])
    assert payload == DIED if fate is died else payload["error"]["code"] == code
    reason = f'selfhost_gateway_upstream_errors_total{{model="chat",reason="{code}"}} 1.0'
    assert reason.encode() in (await rig.ask("GET", "/metrics")).body

    async def fail_early(exchange: Exchange) -> None:
        exchange.open_stream()
        await fate(exchange)

    rig.engine.script = fail_early  # nothing has reached the client yet: an honest status
    answer = await rig.chat(stream=True)
    assert (answer.status, answer.error["code"], answer.whole) == (status, code, True)


async def test_after_done_it_does_not_matter_how_the_engine_leaves(rig) -> None:
    async def leave(exchange: Exchange) -> None:
        exchange.open_stream()
        exchange.event(delta("one"))
        exchange.event("[DONE]")
        exchange.transport.close()

    rig.engine.script = leave
    answer = await rig.chat(stream=True)
    assert answer.whole
    assert answer.body == event(delta("one")) + event("[DONE]")


async def test_events_cut_anywhere_arrive_whole(rig) -> None:
    stream = (
        event(delta("one é 😀")) + event(delta("", finish_reason="stop")) + event(usage_event(1, 1)) + event("[DONE]")
    )

    async def dribble(exchange: Exchange) -> None:
        exchange.open_stream()
        for place in range(0, len(stream), 7):
            exchange.chunk(stream[place : place + 7])
        exchange.end_stream()

    rig.engine.script = dribble
    answer = await rig.chat(stream=True)
    assert answer.body == stream.replace(event(usage_event(1, 1)), b"")
    assert (await rig.chat(stream=True, **ASKED)).body == stream


async def test_a_stream_that_falls_silent_ends_with_an_error(start) -> None:
    rig = await start(stream_idle_seconds=0.2)
    rig.engine.script = silence
    client = await rig.connect()
    client.request("POST", CHAT, {"model": "chat", "stream": True})
    exchange = await rig.engine.request()
    exchange.open_stream()
    exchange.event(delta("one"))
    answer = await client.answer()
    assert not answer.whole
    assert answer.events[-1]["error"]["code"] == "engine_timeout"
    await exchange.gone.wait()


async def test_an_engine_that_never_begins_is_a_timeout(start) -> None:
    rig = await start(first_byte_seconds=0.2, stream_idle_seconds=60)
    rig.engine.script = silence
    client = await rig.connect()
    assert (await client.ask("POST", CHAT, {"model": "chat"})).status == 504
    assert (await client.ask("GET", "/livez")).status == 200  # the connection is good for more
    await rig.engine.exchanges[-1].gone.wait()


async def test_no_stream_lasts_for_ever(start) -> None:
    rig = await start(total_seconds=0.5)

    async def talk(exchange: Exchange) -> None:
        exchange.open_stream()
        while not exchange.gone.is_set():
            exchange.event(delta("and"))
            await rig.ask("GET", "/livez")

    rig.engine.script = talk
    answer = await rig.chat(stream=True)
    assert answer.events[-1]["error"]["code"] == "engine_timeout"


async def test_an_answer_without_end_is_not_collected_without_limit(start) -> None:
    rig = await start(answer_bytes=100_000)

    async def flood(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900000\r\n\r\n")
        exchange.raw(b"x" * 200_000)

    rig.engine.script = flood
    answer = await rig.chat()
    assert (answer.status, answer.error["code"]) == (502, "answer_too_large")
    await rig.engine.exchanges[-1].gone.wait()


async def test_streams_of_two_models_do_not_mix(rig, second_engine) -> None:
    async def say(word: str):
        async def script(exchange: Exchange) -> None:
            exchange.open_stream()
            for _ in range(50):
                exchange.event(delta(word))
            exchange.event("[DONE]")
            exchange.end_stream()

        return script

    rig.publish(served("a", rig.engine), served("b", second_engine))
    rig.engine.script, second_engine.script = await say("apple"), await say("banana")

    async def work(client) -> None:
        for number in range(10):
            name, word = [("a", "apple"), ("b", "banana")][number % 2]
            client.send(raw_request("POST", CHAT, {"model": name, "stream": True}))
            answer = await client.answer()
            assert {one["choices"][0]["delta"]["content"] for one in answer.events[:-1]} == {word}

    async with rig.busy(work, clients=10):
        pass
