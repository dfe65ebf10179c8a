"""One line for each request: who, what, how it went. Never a body, a key or what a client wrote into its URL."""

import contextlib
import time
from typing import TextIO

from selfhost.gateway.http_request import OTHER, Request

_MOST_LINES = 1000
_POLLED = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})  # by machines, every few seconds
_MOST_FAILING = 100


class AccessLog:
    """Collects lines and writes them a few times per second: a call of `logging` takes 12 us, a third of a request.

    The lines look like those of `selfhost.logs`. What is not yet written when the gateway is killed is lost.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream  # None: nobody wants to know
        self._lines: list[str] = []
        self._second = 0
        self._stamp = ""
        self._failing: set[tuple[str, bytes]] = set()  # probes, with their queries, whose last answer was no

    def finished(self, request: Request, status: int) -> None:
        """Note a request that has ended."""
        if self._stream is None or not self._is_news(request, status):
            return
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._second))
        self._lines.append(
            f"{self._stamp} INFO selfhost.gateway.access: {request.id.decode()} {request.method.decode() or '-'}"
            f" {'-' if request.route == OTHER else request.route} {status} {time.monotonic() - request.started:.4f}s"
            f"{f' key={request.key}' if request.key else ''}"
            f"{f' model={request.model}' if request.model else ''}"
            f"{f' replica={request.replica}' if request.replica else ''}"
            f"{f' first_byte={request.first_byte - request.started:.4f}s' if request.first_byte else ''}"
            f"{'' if (given := request.completion_tokens) is None else f' tokens={request.prompt_tokens}+{given}'}"
            f"{f' failure={request.failure}' if request.failure else ''}"
            f"{f' refused={request.refusal.code}' if request.refusal is not None else ''}\n"
        )
        if len(self._lines) >= _MOST_LINES:
            self.flush()

    def _is_news(self, request: Request, status: int) -> bool:
        """Of probes only a changed answer, yes at first, is worth a line; a request that was refused always is."""
        if request.route not in _POLLED or status not in {200, 503}:
            return True
        probe = (request.route, request.query)
        fails = status == 503
        if fails == (probe in self._failing):
            return False
        if len(self._failing) >= _MOST_FAILING:
            self._failing.clear()
        (self._failing.add if fails else self._failing.discard)(probe)
        return True

    def flush(self) -> None:
        """Write what has been collected."""
        if not self._lines or self._stream is None:
            return
        text = "".join(self._lines)
        self._lines.clear()
        with contextlib.suppress(OSError):  # the disk is full, or whoever read the log has gone: serving goes on
            self._stream.write(text)
            self._stream.flush()
