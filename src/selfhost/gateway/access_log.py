"""One line for each request: who, what, how it went. Never a body, a query string or a key."""

import contextlib
import time
from typing import TextIO

from selfhost.gateway.http_request import Request

_LONGEST_PATH = 200
_MOST_LINES = 1000


class AccessLog:
    """Collects lines and writes them a few times per second: a call of `logging` takes 12 us, a third of a request.

    The lines look like those of `selfhost.logs`. What is not yet written when the gateway is killed is lost.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream  # None: nobody wants to know
        self._lines: list[str] = []
        self._second = 0
        self._stamp = ""

    def finished(self, request: Request, status: int) -> None:
        """Note a request that has ended."""
        if self._stream is None:
            return
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._second))
        path = request.path.decode("ascii", "backslashreplace")[:_LONGEST_PATH]
        self._lines.append(
            f"{self._stamp} INFO selfhost.gateway.access: {request.id.decode()} {request.method.decode() or '-'}"
            f" {path or '-'} {status} {time.monotonic() - request.started:.4f}s"
            f"{f' key={request.key}' if request.key else ''}"
            f"{f' model={request.model}' if request.model else ''}"
            f"{f' replica={request.replica}' if request.replica else ''}"
            f"{f' first_byte={request.first_byte - request.started:.4f}s' if request.first_byte else ''}"
            f"{'' if (given := request.completion_tokens) is None else f' tokens={request.prompt_tokens}+{given}'}"
            f"{f' failure={request.failure}' if request.failure else ''}\n"
        )
        if len(self._lines) >= _MOST_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected."""
        if not self._lines or self._stream is None:
            return
        text = "".join(self._lines)
        self._lines.clear()
        with contextlib.suppress(OSError):  # the disk is full, or whoever read the log has gone: serving goes on
            self._stream.write(text)
            self._stream.flush()
