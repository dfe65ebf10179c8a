"""What a client's connection, the server that holds it and the application behind it expect of each other."""

from typing import TYPE_CHECKING, Protocol

from selfhost.gateway.http_request import Request
from selfhost.gateway.limits import Limits
from selfhost.gateway.openai import ApiError

if TYPE_CHECKING:
    from selfhost.gateway.http_connection import Connection


class Relay(Protocol):
    """Whoever answers a request later, and must hear what happens to its client meanwhile."""

    def cancel(self) -> None:
        """The client is gone."""

    def fail(self, error: ApiError) -> None:
        """The answer takes too long, or the gateway must end: say so to the client."""

    def pause(self) -> None:
        """The client takes its answer more slowly than it comes."""

    def resume(self) -> None:
        """The client has caught up."""


class Application(Protocol):
    """What the server needs from the gateway behind it."""

    def admit(self, request: Request, *, room: bool) -> None:
        """Decide on a request by its head; raises `ApiError`. Without `room` there are too many connections."""

    def handle(self, request: Request, connection: "Connection") -> None:
        """Answer through `connection`, at once or by a `Relay`; raises `ApiError`."""

    def finished(self, request: Request, status: int) -> None:
        """`request` has had its answer, or will never get it."""


class Host(Protocol):
    """What a connection needs from the server that holds it."""

    app: Application
    limits: Limits
    draining: bool

    def __len__(self) -> int:
        """How many connections there are."""

    def enter(self, connection: "Connection") -> bool:
        """Count a new connection in; false when it is one too many."""

    def leave(self, connection: "Connection") -> None:
        """Count a connection out."""

    def begin(self, request: Request) -> None:
        """Give a request its identity; what clients call their requests is never used."""
