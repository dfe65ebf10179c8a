"""What a command says when the manager is not as it should be. Scripted managers on a real socket."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from selfhost import paths
from selfhost.errors import ExitCode, SelfhostError
from selfhost.runtime import control_client
from selfhost.runtime.control import PROTOCOL, PROTOCOL_HEADER, control_socket
from selfhost.runtime.control_client import ControlClient, NoManagerError, SilentManagerError

HEAD = f"HTTP/1.1 200 OK\r\n{PROTOCOL_HEADER}: {PROTOCOL}\r\n"
EVENT = b'{"subject": "chat/0", "state": "ready", "cause": "a token came back", "time": 1.0}\n'

Script = Callable[[socket.socket], None]


@pytest.fixture
def manager() -> Iterator[Callable[[Script], ControlClient]]:
    """`manager(script)`: a client of a manager whose side of each connection is `script`."""
    paths.make_private(paths.runtime_dir("box"))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(control_socket("box")))
    listener.listen()
    kept: list[socket.socket] = []

    def start(script: Script) -> ControlClient:
        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    kept.append(connection)
                    script(connection)

        threading.Thread(target=serve, daemon=True).start()
        return ControlClient("box")

    yield start
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for connection in kept:
        connection.close()


def hang_up(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.shutdown(socket.SHUT_RDWR)


def stop_in_the_middle(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(f"{HEAD}Content-Length: 100\r\n\r\n{{".encode())
    connection.shutdown(socket.SHUT_RDWR)


def close_at_once(connection: socket.socket) -> None:
    connection.close()


def say_nothing(connection: socket.socket) -> None:
    del connection


@pytest.mark.parametrize("script", [hang_up, stop_in_the_middle, close_at_once])
def test_a_manager_that_ends_while_it_is_asked_has_gone(manager, script: Script) -> None:
    with pytest.raises(NoManagerError, match="the manager of 'box' has gone") as raised:
        manager(script).status()
    assert raised.value.exit_code is ExitCode.NOT_READY
    assert "selfhost logs manager" in raised.value.hint


@pytest.mark.parametrize("ask", [ControlClient.status, ControlClient.down, ControlClient.events])
def test_a_manager_that_says_nothing_is_not_waited_for(manager, monkeypatch, ask: Callable) -> None:
    monkeypatch.setattr(control_client, "ANSWER_SECONDS", 0.1)
    client = manager(say_nothing)
    with pytest.raises(SilentManagerError, match="the manager of 'box' does not answer") as raised:
        ask(client, silence_seconds=0.1) if ask is ControlClient.events else ask(client)
    assert raised.value.exit_code is ExitCode.TIMED_OUT
    assert "selfhost logs manager" in raised.value.hint


def test_a_feed_that_falls_silent_is_not_waited_for(manager) -> None:
    def one_event(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(f"{HEAD}\r\n\n".encode() + EVENT + b"\n")

    feed = manager(one_event).events(silence_seconds=0.2)
    assert next(feed).state == "ready"  # heartbeats, which are empty lines, are no events
    with pytest.raises(SilentManagerError):
        next(feed)


def test_a_feed_ends_with_its_manager(manager) -> None:
    def half_an_event(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(f"{HEAD}\r\n".encode() + EVENT + EVENT[:10])
        connection.shutdown(socket.SHUT_RDWR)

    assert [event.state for event in manager(half_an_event).events()] == ["ready"]


def test_a_folder_of_somebody_else_is_not_trusted(manager) -> None:
    client = manager(hang_up)
    paths.runtime_dir("box").chmod(0o777)
    with pytest.raises(SelfhostError, match="other users can write into") as raised:
        client.status()
    assert raised.value.hint.startswith("chmod go-w ")


def test_a_path_that_is_too_long_is_a_sentence(monkeypatch: pytest.MonkeyPatch, isolated) -> None:
    monkeypatch.setenv("SELFHOST_RUNTIME", str(isolated / ("x" * 120)))
    with pytest.raises(SelfhostError, match="is too long for a unix socket") as raised:
        ControlClient("box")
    assert "SELFHOST_RUNTIME" in raised.value.hint


def test_nothing_runs_where_there_is_no_socket_or_nobody_listens() -> None:
    with pytest.raises(NoManagerError, match="nothing runs for 'box'"):
        ControlClient("box").status()
    paths.make_private(paths.runtime_dir("box"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as abandoned:
        abandoned.bind(os.fspath(control_socket("box")))
    assert ControlClient("box").status_if_running() is None
