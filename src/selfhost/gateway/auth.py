"""Who is calling: the keys of the store and of the routing table, as they are at this moment."""

import logging
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from selfhost.errors import SelfhostError
from selfhost.gateway.keys import KeyStore, hash_key
from selfhost.gateway.openai import ApiError
from selfhost.planner.routing import HashedKey

# What a browser calls this machine without asking anybody. Any other name may have been pointed here by its owner.
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

_NEVER = object()
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]*)(?::[0-9]*)?")
_LONGEST_ECHO = 100  # characters

_log = logging.getLogger("selfhost.gateway")


class Doorkeeper:
    """Decides who may call. In doubt (a key file that is damaged or has vanished) the door stays as it was, or shut.

    Keys are needed on a public address, and as soon as a key has ever been made: revoked ones count, so that revoking
    the last key shuts the door instead of opening it.
    """

    def __init__(self, store: KeyStore, *, public: bool, host: str = "localhost") -> None:
        self._store = store
        self._public = public
        self._hosts = LOCAL_HOSTS | {host.lower()}  # `host` is the one that it listens on
        self._declared: dict[bytes, str] = {}
        self._stored: dict[bytes, str] = {}
        self._seen: object = _NEVER  # what the store looked like when it was last read
        self._used = False  # the store holds, or has held, a key; or we cannot tell
        self._complaint = ""
        self._refresh()

    @property
    def required(self) -> bool:
        """Whether callers need a key."""
        return self._public or self._used or bool(self._declared)

    @property
    def has_keys(self) -> bool:
        """Whether there is, or may be, a key that opens the door."""
        return bool(self._declared or self._stored or self._complaint)

    def declare(self, keys: tuple[HashedKey, ...]) -> None:
        """Take over the keys of a new routing table."""
        self._declared = {bytes.fromhex(key.sha256): key.name for key in keys}

    def identify(self, authorization: bytes | None) -> str | None:
        """The name of the key that a request brings; None when it brings none, or none that is known."""
        self._refresh()
        scheme, _, token = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        # Found by the hash of what the caller sent, so the time it takes says nothing about any stored hash.
        digest = hash_key(token.strip())
        for keys in (self._declared, self._stored):
            if digest in keys:
                return keys[digest]
        return None

    def admit(self, authorization: bytes | None) -> str | None:
        """The name of the caller's key, None when none is needed; raises the 401."""
        name = self.identify(authorization)
        if name is None and self.required:
            message = (
                "the API key is not valid" if authorization else "an API key is required: Authorization: Bearer KEY"
            )
            raise ApiError(401, message, code="invalid_api_key", headers=(("www-authenticate", "Bearer"),))
        return name

    def admit_page(self, host: bytes | None, origin: bytes | None) -> None:
        """Without keys, refuse what a browser may have sent for a page from elsewhere; raises the 403.

        A page may ask any server for anything, and names the one it comes from in `Origin`; but not with a GET to its
        own server, which is this one as soon as the owner of its name points that name here (DNS rebinding).
        """
        if self.required:
            return
        if origin is not None and not is_local_page(origin, self._hosts):
            raise ApiError(403, "web pages from elsewhere need an API key here", code="origin_not_allowed")
        if not self.is_addressed_by(host):
            name = (host or b"").decode("ascii", "backslashreplace")[:_LONGEST_ECHO]
            raise ApiError(
                403,
                f"without API keys only requests to localhost are answered, not to Host '{name}'; "
                "to be called by other names, create a key: selfhost keys create NAME",
                code="host_not_allowed",
            )

    def is_addressed_by(self, host: bytes | None) -> bool:
        """Whether a `Host` can only mean this machine; HTTP/1.0 needs none, and browsers do not speak it."""
        if host is None:
            return True
        found = _HOST.fullmatch(host.decode("ascii", "replace").lower())
        return found is not None and found[1].strip("[]") in self._hosts

    def _refresh(self) -> None:
        """Read the store again if it has changed: one `stat` per request makes a revocation effective at once."""
        try:
            signature = self._store.signature()
            if signature == self._seen:
                return
            records = self._store.records()
        except SelfhostError as error:
            self._used = True  # it may well hold keys
            self._complain(f"{error.message}; the keys last read stay in force")
            return
        if signature is None and self._used:
            self._complain("the key file has vanished; the keys last read stay in force until the gateway is restarted")
            return
        self._seen = signature
        self._complaint = ""
        self._used = self._used or bool(records)
        self._stored = {bytes.fromhex(record.sha256): record.name for record in records if record.revoked is None}

    def _complain(self, complaint: str) -> None:
        """Say it once, not with every request."""
        if complaint != self._complaint:
            _log.error("%s", complaint)
        self._complaint = complaint


def is_local_page(origin: bytes, hosts: Collection[str] = LOCAL_HOSTS) -> bool:
    """Whether a browser speaks for a page that this machine itself serves."""
    try:
        return urlsplit(origin.decode("ascii", "replace")).hostname in hosts
    except ValueError:  # "http://[": not an origin at all
        return False
