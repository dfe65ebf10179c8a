"""How a command talks to the manager: standard library only, so that `ps` and `health` start fast."""

import contextlib
import http.client
import json
import socket
import struct
from typing import Any

from selfhost import __version__
from selfhost.errors import ExitCode, SelfhostError
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

ANSWER_SECONDS = 30.0


class NoManagerError(SelfhostError):
    """No manager runs for this manifest."""

    exit_code = ExitCode.NOT_READY


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
    """The manager of one manifest, as seen by a command."""

    def __init__(self, manifest: str) -> None:
        self.manifest = manifest
        self._path = str(control_socket(manifest))

    def status(self) -> ManagerStatus:
        """How everything is; raises `NoManagerError` when no manager runs."""
        return status_codec.validate_json(self._ask("GET", "/v1/status"))

    def status_if_running(self) -> ManagerStatus | None:
        """How everything is; None when no manager runs."""
        try:
            return self.status()
        except NoManagerError:
            return None

    def manager_pid(self) -> int:
        """The process that listens on the control socket, of whatever version; raises `NoManagerError` for none."""
        connection = _Connection(self._path, ANSWER_SECONDS)
        try:
            connection.connect()
            credentials = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError as error:
            raise NoManagerError(f"nothing runs for '{self.manifest}'", hint="selfhost up") from error
        finally:
            connection.close()
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
        return steps_codec.validate_json(self._ask("POST", "/v1/apply", body))

    def down(self, *, drain: bool = True) -> None:
        """Have the manager stop everything and end; returns when it has begun."""
        self._ask("POST", "/v1/down", {"drain": drain})

    def events(self) -> "EventFeed":
        """What happens from now on, until the manager ends."""
        connection = _Connection(self._path, None)
        try:
            return EventFeed(connection, self._send(connection, "GET", "/v1/events", None))
        except BaseException:
            connection.close()
            raise

    def _ask(self, method: str, path: str, body: Any = None) -> bytes:
        connection = _Connection(self._path, ANSWER_SECONDS)
        try:
            return self._send(connection, method, path, body).read()
        except (http.client.HTTPException, TimeoutError) as error:
            raise SelfhostError(
                f"the manager of '{self.manifest}' does not answer: {type(error).__name__}",
                hint="look at its log with `selfhost logs --manager`",
            ) from error
        finally:
            connection.close()

    def _send(self, connection: _Connection, method: str, path: str, body: Any) -> http.client.HTTPResponse:
        try:
            connection.connect()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoManagerError(f"nothing runs for '{self.manifest}'", hint="selfhost up") from error
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

    def __init__(self, connection: _Connection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._socket = connection.sock
        self._response = response

    def __iter__(self) -> "EventFeed":
        return self

    def __next__(self) -> Event:
        """The next event; stops when the manager ends or the feed is closed."""
        try:
            line = self._response.readline()
        except (OSError, http.client.HTTPException):
            line = b""
        if not line.endswith(b"\n"):  # a manager that is killed may leave half a line
            self._connection.close()
            raise StopIteration
        return event_codec.validate_json(line)

    def close(self) -> None:
        """Wake the reader and end the feed."""
        with contextlib.suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)
