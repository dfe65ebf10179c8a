"""Who is calling: the keys of the store and of the routing table, as they are at this moment."""

import logging
from urllib.parse import urlsplit

from selfhost.errors import SelfhostError
from selfhost.gateway.keys import KeyStore, hash_key
from selfhost.gateway.openai import ApiError
from selfhost.planner.routing import HashedKey

_NEVER = object()

_log = logging.getLogger("selfhost.gateway")


class Doorkeeper:
    """Decides who may call. In doubt (a key file that is damaged or has vanished) the door stays as it was, or shut.

    Keys are needed on a public address, and as soon as a key has ever been made: revoked ones count, so that revoking
    the last key shuts the door instead of opening it.
    """

    def __init__(self, store: KeyStore, *, public: bool) -> None:
        self._store = store
        self._public = public
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


def is_local_page(origin: bytes) -> bool:
    """Whether a browser speaks for a page that this machine itself serves."""
    try:
        return urlsplit(origin.decode("ascii", "replace")).hostname in {"localhost", "127.0.0.1", "::1"}
    except ValueError:  # "http://[": not an origin at all
        return False
