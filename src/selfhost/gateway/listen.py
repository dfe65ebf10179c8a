"""Where a gateway listens: an address as people write it, who can reach it, and the sockets bound to it."""

import errno
import ipaddress
import os
import socket
from dataclasses import dataclass
from typing import Any, Self

from selfhost.errors import SelfhostError

_ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}  # a family that this machine does not have (localhost as ::1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`HOST:PORT`, resolved."""

    text: str
    host: str
    resolved: tuple[tuple[socket.AddressFamily, Any], ...]  # as `getaddrinfo` gives them and `bind` takes them

    @classmethod
    def parse(cls, text: str) -> Self:
        """Resolve `HOST:PORT` or `[HOST]:PORT`; raises `SelfhostError`."""
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
            raise SelfhostError(
                f"'{text}' is not an address to listen on",
                hint="`gateway.listen` is HOST:PORT, for instance 127.0.0.1:8000 or [::1]:8000",
            )
        try:
            found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise SelfhostError(
                f"cannot listen on {text}: {error.strerror}", hint="check the host in `gateway.listen`"
            ) from error
        return cls(
            text=text, host=host, resolved=tuple(dict.fromkeys((family, address) for family, _, _, _, address in found))
        )

    @property
    def public(self) -> bool:
        """Whether anybody but this machine can reach it."""
        return not all(_is_loopback(address) for _, address in self.resolved)

    def listen(self, backlog: int) -> list[socket.socket]:
        """Listening sockets, one for each resolved address that this machine has; raises `SelfhostError`."""
        listening: list[socket.socket] = []
        absent: OSError | None = None
        for family, address in self.resolved:
            try:
                listening.append(socket.create_server(address, family=family, backlog=backlog))
            except OSError as error:
                if error.errno not in _ABSENT:
                    for other in listening:
                        other.close()
                    raise self._cannot_listen(error) from error
                absent = error
        if not listening and absent is not None:
            raise self._cannot_listen(absent)
        return listening

    def _cannot_listen(self, error: OSError) -> SelfhostError:
        if error.errno == errno.EADDRINUSE:
            return SelfhostError(
                f"{self.text} is already in use by another process",
                hint="stop that process (`ss -ltnp` names it), or choose another port in `gateway.listen`",
            )
        return SelfhostError(
            f"cannot listen on {self.text}: {os.strerror(error.errno or 0)}", hint="check `gateway.listen`"
        )


def adopt(descriptor: int, expected: Address) -> socket.socket:
    """The listening socket that the manager handed down, which outlives each gateway process.

    Raises `SelfhostError` when it is none, or one that others can reach although `expected` says that nobody can.
    """
    try:
        handed = socket.socket(fileno=descriptor)
        private = _is_loopback(handed.getsockname())
    except (OSError, ValueError) as error:
        raise SelfhostError(
            f"file descriptor {descriptor} is not a listening socket", hint="start the gateway with `selfhost up`"
        ) from error
    if not private and not expected.public:
        raise SelfhostError(
            f"file descriptor {descriptor} does not listen on {expected.text}",
            hint="start the gateway with `selfhost up`",
        )
    return handed


def _is_loopback(address: Any) -> bool:
    return ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback
