"""A stream of server-sent events on its way to a client: passed on whole, read for usage and for bad endings. Pure."""

import re
from typing import Any

import orjson

from selfhost.gateway.answer import Usage, aborted, engine_died, engine_stopped, read_usage, reported_failure
from selfhost.gateway.openai import ApiError

_EVENTS = re.compile(rb".*?\r?\n\r?\n", re.DOTALL)
_MARKS = (b'"usage"', b'"abort"', b'"error"', b"[DONE]")
_BLANK_LINES = (b"\n\n", b"\n\r\n")


class EventFilter:
    """Lets the events of one answer through and knows, at any time, how it stands with that answer.

    Only whole events go through, so a client never sees half of one when the engine dies. Nothing is written anew.
    Held back are the usage event that we asked for and the client did not, and everything after a failure: an engine
    that was stopped ends its stream with `"finish_reason":"abort"`, usage and `[DONE]`, one that crashed with an error
    event and `[DONE]`, and to a client that waits for `[DONE]` both look finished. So a failed
    stream ends with one error event, the engine's own or ours in place of the abort, and nothing after it.
    """

    def __init__(self, *, hide_usage: bool, limit: int) -> None:
        self._hide_usage = hide_usage
        self._limit = limit
        self._held = bytearray()  # the beginning of an event whose end has not come
        self.usage: Usage | None = None
        self.done = False  # [DONE] came, and no failure before it
        self.failure: ApiError | None = None

    def feed(self, data: bytes) -> bytes:
        """The part of what has come that the client may see now."""
        if self.failure is not None:
            return b""
        if self._held or not data.endswith(_BLANK_LINES):
            data = self._whole_events(data)
        # Quotes inside an answer's text are escaped, so text that talks about "usage" does not match; what does match
        # is looked at properly.
        if b'"usage"' in data or b'"abort"' in data or b'"error"' in data or b"[DONE]" in data:
            return self._inspect(data)
        return data

    def end(self) -> bytes:
        """The engine will send no more: nothing to add after a `[DONE]`, else an error event."""
        return b"" if self.done else self.fail(engine_died())

    def fail(self, error: ApiError) -> bytes:
        """Call the answer a failure; the event that says so, unless an earlier one has."""
        if self.failure is not None:
            return b""
        self.failure = error
        self.done = False
        return b"data: %b\n\n" % error.body()

    def _whole_events(self, data: bytes) -> bytes:
        searched = max(0, len(self._held) - 3)
        self._held += data
        cut = max(self._held.rfind(blank, searched) + len(blank) for blank in _BLANK_LINES)
        if cut <= len(_BLANK_LINES[-1]) - 1:  # neither was found
            if len(self._held) <= self._limit:
                return b""
            self._held.clear()
            return self.fail(ApiError(502, "the engine sent an event that is too large", code="answer_too_large"))
        whole = bytes(self._held[:cut])
        del self._held[:cut]
        return whole

    def _inspect(self, data: bytes) -> bytes:
        """Look at the events from the first that may be notable on; most reads bring none, the last one brings two."""
        first = min(place for mark in _MARKS if (place := data.find(mark)) >= 0)
        starts = (place + len(blank) for blank in _BLANK_LINES if (place := data.rfind(blank, 0, first)) >= 0)
        start = max(starts, default=0)
        return data[:start] + b"".join(map(self._judge, _EVENTS.findall(data, start)))

    def _judge(self, event: bytes) -> bytes:
        """Take notice of one event; what the client may see of it."""
        if self.failure is not None:
            return b""
        payload = _payload(event)
        if payload == b"[DONE]":
            self.done = True
            return event
        try:
            fields = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return event  # a format that we do not know: not ours to judge
        return self._judge_fields(event, fields) if type(fields) is dict else event

    def _judge_fields(self, event: bytes, fields: dict[str, Any]) -> bytes:
        if fields.get("error") is not None:
            self.failure = reported_failure(fields["error"])
            return event
        if aborted(fields):
            return self.fail(engine_stopped())
        usage = read_usage(fields)
        if usage is None:
            return event
        self.usage = usage
        return b"" if self._hide_usage and not fields.get("choices") else event


def _payload(event: bytes) -> bytes:
    if event.startswith(b"data: ") and event.count(b"\n") == 2:
        return event[6:].strip()
    lines = (line for line in event.splitlines() if line.startswith(b"data:"))
    return b"\n".join(line[5:].strip() for line in lines)
