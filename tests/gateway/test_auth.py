import logging
import os
from pathlib import Path

import pytest

from gateway.rig import CHAT, declared, served
from selfhost.gateway.auth import Doorkeeper, is_local_page
from selfhost.gateway.keys import KeyStore
from selfhost.gateway.openai import ApiError


@pytest.fixture
def store(isolated: Path) -> KeyStore:
    return KeyStore(isolated / "keys.json")


def door(store: KeyStore, *, public: bool = False) -> Doorkeeper:
    return Doorkeeper(store, public=public)


async def test_a_key_works_from_the_next_request_on_and_not_after_it_is_revoked(rig) -> None:
    client = await rig.connect()
    body = {"model": "chat", "messages": []}
    assert (await client.ask("POST", CHAT, body)).status == 200
    record, key = rig.keys.create("ci")
    refused = await (await rig.connect()).ask("POST", CHAT, body)
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.error["code"] == "invalid_api_key"
    assert (await client.ask("POST", CHAT, body, Authorization=f"Bearer {key}")).status == 200
    rig.keys.revoke(record.id)
    assert (await client.ask("POST", CHAT, body, Authorization=f"Bearer {key}")).status == 401
    assert len(rig.engine.requests) == 2


async def test_what_needs_a_key_is_everything_but_the_probes(rig) -> None:
    rig.keys.create("ci")
    for method, path in (("GET", "/v1/models"), ("GET", "/v1/models/chat"), ("GET", "/metrics"), ("POST", CHAT)):
        assert (await rig.ask(method, path)).status == 401
    for path in ("/livez", "/readyz", "/startupz"):
        assert (await rig.ask("GET", path)).status == 200


async def test_keys_of_the_manifest_come_and_go_with_the_table(rig) -> None:
    rig.publish(served("chat", rig.engine), keys=declared("from-the-manifest"))
    assert (await rig.chat()).status == 401
    assert (await rig.ask("GET", "/v1/models", Authorization="Bearer from-the-manifest")).status == 200
    rig.publish(served("chat", rig.engine), keys=declared("another"))
    assert (await rig.ask("GET", "/v1/models", Authorization="Bearer from-the-manifest")).status == 401


async def test_a_stranger_s_body_is_not_read(rig) -> None:
    rig.keys.create("ci")
    client = await rig.connect()
    client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n")
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (401, "close")


@pytest.mark.parametrize(
    "authorization, name",
    [
        (b"Bearer secret", "ci"),
        (b"bearer secret", "ci"),
        (b"Bearer  secret ", "ci"),
        (b"Bearer Secret", None),
        (b"Bearer secret2", None),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"Basic secret", None),
        (b"secret", None),
        (b"", None),
        (None, None),
        (b"Bearer \xff\x00", None),
    ],
)
def test_the_header_is_read_as_rfc_6750_writes_it(store, authorization: bytes | None, name: str | None) -> None:
    keeper = door(store)
    keeper.declare(declared("secret"))
    assert keeper.identify(authorization) == name


def test_on_loopback_without_any_key_everybody_may_come_in(store) -> None:
    assert door(store).admit(None) is None
    assert door(store).admit(b"Bearer whatever") is None


def test_on_a_public_address_nobody_comes_in_without_a_key(store) -> None:
    keeper = door(store, public=True)
    assert not keeper.has_keys
    with pytest.raises(ApiError, match="an API key is required"):
        keeper.admit(None)


def test_revoking_the_last_key_shuts_the_door_instead_of_opening_it(store) -> None:
    before = door(store)
    _, key = store.create("ci")
    store.revoke("ci")
    for keeper in (before, door(store)):
        with pytest.raises(ApiError, match="not valid"):
            keeper.admit(f"Bearer {key}".encode())


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"format_version": 99}'])
def test_a_damaged_store_leaves_the_last_good_keys_in_force(store, isolated: Path, caplog, damage: bytes) -> None:
    keeper = door(store)
    _, key = store.create("ci")
    assert keeper.admit(f"Bearer {key}".encode()) == "ci"
    (isolated / "keys.json").write_bytes(damage)
    for _ in range(3):
        assert keeper.admit(f"Bearer {key}".encode()) == "ci"
        with pytest.raises(ApiError):
            keeper.admit(b"Bearer other")
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


@pytest.mark.timeout(20)
def test_a_named_pipe_in_the_place_of_the_store_stops_nobody(store, isolated: Path, caplog) -> None:
    keeper = door(store)
    _, key = store.create("ci")
    assert keeper.admit(f"Bearer {key}".encode()) == "ci"
    (isolated / "keys.json").unlink()
    os.mkfifo(isolated / "keys.json")
    assert keeper.admit(f"Bearer {key}".encode()) == "ci"
    assert "it is a named pipe, not a file; the keys last read stay in force" in caplog.text


def test_a_store_that_vanishes_opens_nothing(store, isolated: Path, caplog) -> None:
    keeper = door(store)
    _, key = store.create("ci")
    assert keeper.admit(f"Bearer {key}".encode()) == "ci"
    (isolated / "keys.json").unlink()
    for _ in range(3):
        assert keeper.admit(f"Bearer {key}".encode()) == "ci"
        with pytest.raises(ApiError):
            keeper.admit(None)
    assert len(caplog.records) == 1


def test_a_store_that_is_damaged_from_the_start_shuts_the_door(store, isolated: Path) -> None:
    (isolated / "keys.json").write_bytes(b"?")
    keeper = door(store)
    assert keeper.has_keys  # for all we know
    with pytest.raises(ApiError):
        keeper.admit(b"Bearer x")
    (isolated / "keys.json").unlink()
    _, key = store.create("ci")
    assert keeper.admit(f"Bearer {key}".encode()) == "ci"


async def test_a_web_page_from_elsewhere_cannot_use_a_keyless_gateway(rig) -> None:
    body = {"model": "chat", "messages": []}
    refused = await rig.ask("POST", CHAT, body, Origin="https://evil.example")
    assert (refused.status, refused.error["code"]) == (403, "origin_not_allowed")
    assert (await rig.ask("POST", CHAT, body, Origin="http://localhost:3000")).status == 200
    _, key = rig.keys.create("ci")
    allowed = await rig.ask("POST", CHAT, body, Origin="https://ui.example", Authorization=f"Bearer {key}")
    assert allowed.status == 200


async def test_a_page_whose_name_was_pointed_here_cannot_read_from_a_keyless_gateway(rig) -> None:
    for path in ("/v1/models", "/v1/models/chat", "/metrics"):
        refused = await rig.ask("GET", path, Host="evil.example")
        assert (refused.status, refused.error["code"]) == (403, "host_not_allowed")
    assert refused.error["message"] == (
        "without API keys only requests to localhost are answered, not to Host 'evil.example'; "
        "to be called by other names, create a key: selfhost keys create NAME"
    )
    assert (await rig.ask("POST", CHAT, {"model": "chat"}, Host="evil.example:8000")).status == 403
    assert (await rig.ask("GET", "/readyz", Host="evil.example")).fields == {"status": "ready"}
    assert "models" in (await rig.ask("GET", "/readyz")).fields
    _, key = rig.keys.create("ci")
    assert (await rig.ask("GET", "/v1/models", Host="ai.example", Authorization=f"Bearer {key}")).status == 200


async def test_a_client_of_http_1_0_needs_no_host(rig) -> None:
    client = await rig.connect()
    client.send(b"GET /v1/models HTTP/1.0\r\n\r\n")
    assert (await client.answer("GET")).status == 200


@pytest.mark.parametrize(
    "host, local",
    [
        (None, True),
        (b"localhost", True),
        (b"LocalHost:8000", True),
        (b"127.0.0.1:65000", True),
        (b"[::1]", True),
        (b"[::1]:8000", True),
        (b"127.0.0.2:8000", True),  # where it listens
        (b"127.0.0.3:8000", False),
        (b"evil.example", False),
        (b"localhost.evil.example:8000", False),
        (b"evil.example:8000@localhost", False),
        (b"localhost@evil.example", False),
        (b"evil@localhost", False),
        (b"localhost/evil", False),
        (b"localhost:80:80", False),
        (b"::1", False),
        (b"[localhost]", False),
        (b"", False),
        (b"\xff", False),
    ],
)
def test_a_host_that_can_only_mean_this_machine_is_told_from_others(store, host: bytes | None, local) -> None:
    keeper = Doorkeeper(store, public=False, host="127.0.0.2")
    assert keeper.is_addressed_by(host) == local


@pytest.mark.parametrize(
    "origin, local",
    [
        (b"http://localhost", True),
        (b"http://127.0.0.1:8080", True),
        (b"http://[::1]:8080", True),
        (b"null", False),
        (b"https://localhost.evil.example", False),
        (b"http://[", False),
        (b"", False),
        (b"\xff", False),
    ],
)
def test_pages_of_this_machine_are_told_from_others(origin: bytes, local) -> None:
    assert is_local_page(origin) == local
