import json

import pytest

from gateway.rig import CHAT, raw_request, served

SPELLINGS = [
    "//v1/chat/completions",
    "/V1/chat/completions",
    "/v1/chat/completions/",
    "/v1//chat/completions",
    "/v1/../v1/chat/completions",
    "/v1/./chat/completions",
    "/v1/%63hat/completions",
    "/v1%2fchat/completions",
    "/%2e%2e/v1/chat/completions",
    "/v1/chat/completions;x",
    "/v1/chat/completions#x",
    "http://gateway/v1/chat/completions",
    "*",
    "/invocations",
    "/tokenize",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/chat/completions/batch",
    "/v1/load_lora_adapter",
    "/inference/v1/generate",
    "/scale_elastic_ep",
    "/docs",
    "/openapi.json",
    "/health",
    "/",
]


@pytest.mark.parametrize("path", SPELLINGS)
async def test_only_the_listed_paths_exist_in_exactly_one_spelling(rig, path: str) -> None:
    answer = await rig.ask("POST", path, {"model": "chat"})
    assert answer.status == 404
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["code"] == "not_found"
    assert rig.engine.requests == []


@pytest.mark.parametrize("path", ["/v1/../metrics", "//metrics", "/metrics/", "/METRICS", "/%6detrics"])
async def test_metrics_have_one_spelling_too(rig, path: str) -> None:
    assert (await rig.ask("GET", path)).status == 404


@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("GET", CHAT, "POST"),
        ("PUT", "/v1/completions", "POST"),
        ("DELETE", "/v1/models/chat", "GET"),
        ("POST", "/v1/models", "GET"),
        ("OPTIONS", CHAT, "POST"),
        ("POST", "/livez", "GET, HEAD"),
        ("HEAD", "/metrics", "GET"),
        ("TRACE", "/readyz", "GET, HEAD"),
    ],
)
async def test_another_method_is_refused_with_the_right_ones(rig, method: str, path: str, allowed: str) -> None:
    client = await rig.connect()
    client.request(method, path)
    answer = await client.answer(method)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)


async def test_a_body_where_none_belongs_is_not_read(rig) -> None:
    client = await rig.connect()
    answer = await client.ask("GET", "/livez", b"x" * 10)
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert await client.closed()


@pytest.mark.parametrize("probe", ["/livez", "/readyz", "/startupz"])
async def test_head_gets_the_head_alone_and_the_connection_goes_on(rig, probe: str) -> None:
    client = await rig.connect()
    got = await client.ask("GET", probe)
    client.request("HEAD", probe)
    head = await client.answer("HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert (await client.ask("GET", probe)).body == got.body


async def test_readiness_tells_which_replica_is_in_which_state_and_why(rig) -> None:
    rig.publish(
        served("chat", rig.engine, aliases=("default",)),
        served("embed", rig.engine, state="loading", cause="2 of 5 shards"),
        started=False,
    )
    everything = await rig.ask("GET", "/readyz")
    assert (everything.status, everything.fields["status"]) == (503, "not ready")
    assert everything.fields["models"][1] == {
        "name": "embed",
        "aliases": [],
        "ready": False,
        "replicas": [{"replica": "embed/0", "state": "loading", "cause": "2 of 5 shards", "since": 1700000000.0}],
    }
    assert (await rig.ask("GET", "/readyz?model=chat")).fields["status"] == "ready"
    assert (await rig.ask("GET", "/readyz?model=default")).status == 200
    assert (await rig.ask("GET", "/readyz?model=embed")).status == 503
    assert (await rig.ask("GET", "/readyz?model=chat&model=embed")).status == 503
    assert (await rig.ask("GET", "/readyz?model=nope")).status == 404
    assert (await rig.ask("GET", "/startupz")).status == 503
    assert (await rig.ask("GET", "/livez")).status == 200


async def test_a_gateway_without_models_is_not_ready(rig) -> None:
    rig.publish()
    assert (await rig.ask("GET", "/readyz")).status == 503


async def test_probes_tell_a_stranger_one_word_and_a_friend_everything(rig) -> None:
    _, key = rig.keys.create("ci")
    for probe in ("/readyz", "/startupz"):
        assert (await rig.ask("GET", probe)).fields == {"status": "ready"}
        assert (await rig.ask("GET", probe, Authorization="Bearer sk-selfhost-wrong")).fields == {"status": "ready"}
        assert "models" in (await rig.ask("GET", probe, Authorization=f"Bearer {key}")).fields
    stranger = await rig.ask("GET", "/readyz?model=nope")
    friend = await rig.ask("GET", "/readyz?model=nope", Authorization=f"Bearer {key}")
    assert (stranger.status, friend.status) == (404, 404)
    assert (b"chat" in stranger.body, b"chat" in friend.body) == (False, True)


async def test_models_are_listed_with_their_aliases_and_found_by_both(rig) -> None:
    listed = (await rig.ask("GET", "/v1/models")).fields
    assert [(model["id"], model["root"], model["object"]) for model in listed["data"]] == [
        ("chat", "chat", "model"),
        ("default", "chat", "model"),
    ]
    assert (await rig.ask("GET", "/v1/models/default")).fields == listed["data"][1]
    for path in ("/v1/models/nope", "/v1/models/", "/v1/models/cha%74", "/v1/models/../chat"):
        assert (await rig.ask("GET", path)).status == 404


async def test_metrics_count_requests_tokens_time_and_failures_by_model(rig) -> None:
    await rig.chat("default")
    await rig.chat(stream=True)
    await rig.chat("nope")
    await rig.ask("GET", "/nothing")

    async def die(exchange) -> None:
        exchange.die()

    rig.engine.script = die
    await rig.chat()
    text = (await rig.ask("GET", "/metrics")).body.decode()
    for line in (
        'selfhost_gateway_requests_total{model="chat",route="/v1/chat/completions",status="200"} 2.0',
        'selfhost_gateway_requests_total{model="chat",route="/v1/chat/completions",status="502"} 1.0',
        'selfhost_gateway_requests_total{model="",route="/v1/chat/completions",status="404"} 1.0',
        'selfhost_gateway_requests_total{model="",route="other",status="404"} 1.0',
        'selfhost_gateway_prompt_tokens_total{model="chat"} 6.0',
        'selfhost_gateway_completion_tokens_total{model="chat"} 4.0',
        'selfhost_gateway_upstream_errors_total{model="chat",reason="engine_died"} 1.0',
        'selfhost_gateway_time_to_first_byte_seconds_count{model="chat"} 2.0',
        'selfhost_gateway_requests_in_flight{model="chat"} 0.0',
        "selfhost_gateway_connections 6.0",
    ):
        assert line in text.splitlines(), text


async def test_every_answer_has_an_id_of_ours(rig) -> None:
    answers = [await rig.ask("GET", path, X_Request_Id="evil") for path in ("/livez", "/nothing", "/v1/models")]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 3
    assert "evil" not in ids


async def test_errors_are_json_in_openai_s_shape(rig) -> None:
    client = await rig.connect()
    client.send(raw_request("POST", CHAT, b"{"))
    answer = await client.answer()
    assert answer.headers["content-type"] == "application/json"
    assert set(json.loads(answer.body)["error"]) == {"message", "type", "param", "code"}
