"""How a command talks to the manager: standard library only, so that `ps` and `health` start fast."""

import contextlib
import http.client
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

from selfhost import __version__, paths
from selfhost.errors import ExitCode, SelfhostError, TimedOutError
from selfhost.planner.actions import Step
from selfhost.planner.plan import Plan
from selfhost.runtime.control import (
    PROTOCOL,
    PROTOCOL_HEADER,
    VERSION_HEADER,
    control_socket,
    event_codec,
    plan_codec,
    status_codec,
    steps_codec,
)
from selfhost.runtime.events import Event
from selfhost.runtime.status import ManagerStatus

ANSWER_SECONDS = 10.0  # several heartbeats: a manager that is silent for so long hangs
APPLY_SECONDS = 20.0  # before it answers, the manager ends what an earlier plan had begun


class NoManagerError(SelfhostError):
    """No manager runs for this manifest, or it ended while it was talked to."""

    exit_code = ExitCode.NOT_READY


class SilentManagerError(TimedOutError):
    """The manager runs and says nothing."""


class RemoteError(SelfhostError):
    """What the manager refused, in its words."""

    def __init__(self, message: str, hint: str | None, exit_code: ExitCode) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("manager", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class ControlClient:
    """The manager of one manifest, as seen by a command.

    Every method raises `NoManagerError` when no manager runs, `SilentManagerError` when it does not answer, and
    `SelfhostError` when the folder of its socket is not this user's.
    """

    def __init__(self, manifest: str) -> None:
        self.manifest = manifest
        self._path = str(control_socket(manifest))

    def status(self) -> ManagerStatus:
        """How everything is."""
        return status_codec.validate_json(self._ask("GET", "/v1/status"))

    def status_if_running(self) -> ManagerStatus | None:
        """How everything is; None when no manager runs."""
        try:
            return self.status()
        except NoManagerError:
            return None

    def manager_pid(self) -> int:
        """The process that listens on the control socket, of whatever version."""
        with contextlib.closing(_Connection(self._path, ANSWER_SECONDS)) as connection, self._explained():
            self._connect(connection)
            credentials = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, _, _ = struct.unpack("3i", credentials)
        return int(pid)

    def is_running(self) -> bool:
        """Whether a manager listens, of whatever version."""
        try:
            self.manager_pid()
        except NoManagerError:
            return False
        return True

    def apply(self, plan: Plan, manifest_path: str) -> tuple[Step, ...]:
        """Have the manager make `plan` true; returns the steps it is going to take."""
        body = {"manifest": manifest_path, "plan": plan_codec.dump_python(plan, mode="json")}
        return steps_codec.validate_json(self._ask("POST", "/v1/apply", body, seconds=APPLY_SECONDS))

    def down(self, *, drain: bool = True) -> None:
        """Have the manager stop everything and end; returns when it has begun."""
        self._ask("POST", "/v1/down", {"drain": drain})

    def events(self, *, silence_seconds: float | None = ANSWER_SECONDS) -> "EventFeed":
        """What happens from now on, until the manager ends; it may be silent for `silence_seconds` (None: for ever)."""
        connection = _Connection(self._path, silence_seconds)
        try:
            with self._explained():
                return EventFeed(self, connection, self._send(connection, "GET", "/v1/events", None))
        except BaseException:
            connection.close()
            raise

    def silent(self) -> SilentManagerError:
        """What to raise when the manager runs and does not answer."""
        return SilentManagerError(
            f"the manager of '{self.manifest}' does not answer",
            hint="selfhost logs manager; selfhost down --now ends it",
        )

    def _ask(self, method: str, path: str, body: Any = None, *, seconds: float | None = None) -> bytes:
        connection = _Connection(self._path, seconds or ANSWER_SECONDS)
        with contextlib.closing(connection), self._explained():
            return self._send(connection, method, path, body).read()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what goes wrong between two processes into sentences."""
        try:
            yield
        except (TimeoutError, BlockingIOError) as error:  # BlockingIOError: nobody accepts, and the backlog is full
            raise self.silent() from error
        except (ConnectionError, http.client.IncompleteRead) as error:
            raise NoManagerError(
                f"the manager of '{self.manifest}' has gone",
                hint="selfhost logs manager may tell why; selfhost up starts it again",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise SelfhostError(
                f"cannot talk to the manager of '{self.manifest}': {error}", hint=f"its socket is {self._path}"
            ) from error

    def _connect(self, connection: _Connection) -> None:
        paths.require_private(paths.runtime_dir(self.manifest))
        try:
            connection.connect()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoManagerError(f"nothing runs for '{self.manifest}'", hint="selfhost up") from error

    def _send(self, connection: _Connection, method: str, path: str, body: Any) -> http.client.HTTPResponse:
        self._connect(connection)
        headers = {PROTOCOL_HEADER: PROTOCOL, VERSION_HEADER: __version__, "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        theirs = response.headers.get(PROTOCOL_HEADER)
        if theirs != PROTOCOL:
            raise SelfhostError(
                f"the manager of '{self.manifest}' is selfhost {response.headers.get(VERSION_HEADER)} (control "
                f"protocol {theirs}) and this is selfhost {__version__} (control protocol {PROTOCOL})",
                hint="selfhost down, then selfhost up",
            )
        if response.status != 200:
            problem = json.loads(response.read())
            raise RemoteError(problem["message"], problem.get("hint"), ExitCode(problem["exit_code"]))
        return response


class EventFeed:
    """The manager's events since the feed was opened; `close` it to stop reading, from any thread."""

    def __init__(self, client: ControlClient, connection: _Connection, response: http.client.HTTPResponse) -> None:
        self._client = client
        self._connection = connection
        self._socket = connection.sock
        self._response = response

    def __iter__(self) -> "EventFeed":
        return self

    def __next__(self) -> Event:
        """The next event; stops when the manager ends or the feed is closed.

        Raises `SilentManagerError` when not even a heartbeat comes.
        """
        line = b"\n"
        while line == b"\n":  # a heartbeat
            line = self._read_line()
        if not line.endswith(b"\n"):  # a manager that is killed may leave half a line
            self._connection.close()
            raise StopIteration
        return event_codec.validate_json(line)

    def close(self) -> None:
        """Wake the reader and end the feed."""
        with contextlib.suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def _read_line(self) -> bytes:
        try:
            return self._response.readline()
        except TimeoutError as error:
            self._connection.close()
            raise self._client.silent() from error
        except (OSError, http.client.HTTPException):
            return b""
