import json
import os
import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from selfhost.errors import SelfhostError
from selfhost.gateway.keys import PREFIX, KeyStore, hash_key


@pytest.fixture
def path(isolated: Path) -> Path:
    return isolated / "state" / "keys.json"  # the folder is not there yet


def name_of(store: KeyStore, plaintext: str) -> str | None:
    """The active key that `plaintext` is, found as the gateway finds it."""
    digest = hash_key(plaintext.encode()).hex()
    return next((record.name for record in store.list() if record.sha256 == digest), None)


def test_a_key_is_shown_once_and_only_its_hash_is_kept(path: Path) -> None:
    record, key = KeyStore(path).create("ci")
    assert key.startswith(PREFIX)
    assert len(bytes.fromhex(key.removeprefix(PREFIX))) * 8 >= 128
    for file in path.parent.iterdir():
        assert key not in file.read_text()
        assert key.removeprefix(PREFIX) not in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert KeyStore(path).list() == (record,)
    assert name_of(KeyStore(path), key) == "ci"
    assert name_of(KeyStore(path), key[:-1]) is None
    assert name_of(KeyStore(path), "") is None


def test_a_store_that_does_not_exist_is_empty(path: Path) -> None:
    assert KeyStore(path).list() == ()
    assert name_of(KeyStore(path), "x") is None
    assert not path.exists()


def test_keys_of_other_processes_count_at_once(path: Path) -> None:
    here, there = KeyStore(path), KeyStore(path)
    assert name_of(here, "x") is None
    _, key = there.create("ci")
    assert name_of(here, key) == "ci"
    there.revoke("ci")
    assert name_of(here, key) is None


def test_a_key_is_revoked_by_name_or_id_and_its_name_is_free_again(path: Path) -> None:
    store = KeyStore(path)
    first, key = store.create("ci")
    assert store.revoke("ci").id == first.id
    assert name_of(store, key) is None
    second, _ = store.create("ci")
    assert second.id != first.id
    assert store.revoke(second.id).name == "ci"
    assert store.list() == ()
    assert [record.revoked is None for record in store.records()] == [False, False]
    with pytest.raises(SelfhostError, match="there is no active key 'ci'"):
        store.revoke("ci")


def test_two_active_keys_have_two_names(path: Path) -> None:
    store = KeyStore(path)
    store.create("ci")
    with pytest.raises(SelfhostError, match="there is already a key named 'ci'"):
        store.create("ci")


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "-a", "é", "x" * 65, "../x", "a,b"])
def test_a_name_is_plain(path: Path, name: str) -> None:
    with pytest.raises(SelfhostError, match="cannot be the name of a key"):
        KeyStore(path).create(name)


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"", "is damaged"),
        (b"\xff", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"format_version": 1}', "is damaged"),
        (b'{"format_version": 1, "keys": [{"id": "x"}]}', "is damaged"),
        (b'{"format_version": 1, "keys": [{"id":"a","name":"b","sha256":"c","created":"d"}]}', "is damaged"),
        (b'{"format_version": 1, "keys": [{"id":1,"name":"b","sha256":"c","created":"d"}]}', "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b'{"format_version": "' + b"x" * 1000 + b'"}', "is damaged"),
        (b'{"format_version": ' + b"9" * 4000 + b"}", "is damaged"),
        (b'{"format_version": 2, "keys": []}', "has format 2, this version of selfhost reads format 1"),
    ],
)
def test_a_file_that_cannot_be_understood_is_a_sentence_and_stays_as_it_is(
    path: Path, content: bytes, sentence: str
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    for attempt in (lambda store: store.list(), lambda store: store.create("ci"), lambda store: store.revoke("ci")):
        with pytest.raises(SelfhostError, match=sentence) as raised:
            attempt(KeyStore(path))
        assert raised.value.hint
    assert path.read_bytes() == content


def test_a_directory_instead_of_a_file_is_a_sentence(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(SelfhostError, match="cannot read the key file"):
        KeyStore(path).list()


@pytest.mark.timeout(20)
def test_a_named_pipe_instead_of_a_file_is_a_sentence_and_not_waited_for(path: Path) -> None:
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(SelfhostError, match=r"cannot read the key file .*: it is a named pipe, not a file"):
        KeyStore(path).list()


def test_writers_at_the_same_time_lose_nothing(path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        keys = list(pool.map(_create, [(path, f"key{number}") for number in range(24)]))
    store = KeyStore(path)
    assert [name_of(store, key) for key in keys] == [f"key{number}" for number in range(24)]
    assert json.loads(path.read_bytes())["format_version"] == 1


def _create(wanted: tuple[Path, str]) -> str:
    path, name = wanted
    return KeyStore(path).create(name)[1]
