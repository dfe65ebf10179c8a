"""The `openai` package's calls and exceptions, unchanged, against the gateway."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from gateway.rig import Exchange, Rig, delta, served

MESSAGES: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{rig.port}/v1", api_key="unused", max_retries=0) as made:
        yield made


async def test_a_chat_completion(client) -> None:
    got = await client.chat.completions.create(model="default", messages=MESSAGES)
    assert got.choices[0].message.content == "one two"
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (3, 2)
    assert got._request_id


async def test_a_stream(client) -> None:
    stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == "onetwo"
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_stream_with_usage(client) -> None:
    options: Any = {"include_usage": True}
    stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True, stream_options=options)
    chunks = [chunk async for chunk in stream]
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 2)


async def test_a_completion(client, rig) -> None:
    async def answer(exchange: Exchange) -> None:
        choice = {"index": 0, "text": "said", "finish_reason": "stop"}
        exchange.json({"id": "c", "object": "text_completion", "created": 1, "model": "chat", "choices": [choice]})

    rig.engine.script = answer
    assert (await client.completions.create(model="chat", prompt="x")).choices[0].text == "said"


async def test_models(client) -> None:
    assert [model.id async for model in client.models.list()] == ["chat", "default"]
    assert (await client.models.retrieve("default")).id == "default"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-4")


async def test_refusals_are_its_own_exceptions(client, rig) -> None:
    with pytest.raises(openai.NotFoundError, match="known models: chat, default") as raised:
        await client.chat.completions.create(model="gpt-4", messages=MESSAGES)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="'n' must be"):
        await client.chat.completions.create(model="chat", messages=MESSAGES, n=9)
    rig.publish(served("chat", rig.engine, state="loading"))
    with pytest.raises(openai.InternalServerError, match="model 'chat' is loading"):
        await client.chat.completions.create(model="chat", messages=MESSAGES)
    _, key = rig.keys.create("ci")
    with pytest.raises(openai.AuthenticationError, match="not valid"):
        await client.models.list()
    assert await client.with_options(api_key=key).models.list()


async def test_a_stream_that_fails_raises(client, rig) -> None:
    async def stop(exchange: Exchange) -> None:
        exchange.open_stream()
        exchange.event(delta("half"))
        exchange.event(delta("", finish_reason="abort"))
        exchange.event("[DONE]")
        exchange.end_stream()

    rig.engine.script = stop
    with pytest.raises(openai.APIError, match="the engine was stopped"):
        async for _ in await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True):
            pass


async def test_leaving_a_stream_stops_the_engine(client, rig) -> None:
    async def talk(exchange: Exchange) -> None:
        exchange.open_stream()
        exchange.event(delta("one"))

    rig.engine.script = talk
    stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
    async for _ in stream:
        break
    await stream.close()
    await rig.engine.exchanges[-1].gone.wait()


async def test_its_own_retries_meet_a_model_that_is_ready_by_then(client, rig) -> None:
    refused = 0

    async def answer_later(exchange: Exchange) -> None:
        nonlocal refused
        refused += 1
        if refused == 1:
            exchange.json({"error": {"message": "not now", "code": 503}}, status=503)
        else:
            exchange.json({"id": "x", "object": "chat.completion", "created": 1, "model": "chat", "choices": []})

    rig.engine.script = answer_later
    patient = client.with_options(max_retries=1)
    assert (await patient.chat.completions.create(model="chat", messages=MESSAGES)).id == "x"
