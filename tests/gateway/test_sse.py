import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rig import delta, event, usage_event
from selfhost.gateway.answer import Usage
from selfhost.gateway.sse import EventFilter

ABORT = event(delta("", finish_reason="abort"))
DIED = (
    b'data: {"error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}}\n\n'
)
DONE = b"data: [DONE]\n\n"
WORDS = event(delta("one")) + event(delta("two"))
STOP = event(delta("", finish_reason="stop"))


def run(*pieces: bytes, hide_usage: bool = False, limit: int = 1 << 20) -> tuple[EventFilter, bytes]:
    """What a client sees of a stream that arrives in these pieces and then ends."""
    events = EventFilter(hide_usage=hide_usage, limit=limit)
    seen = b"".join(map(events.feed, pieces)) + events.end()
    return events, seen


def test_a_good_stream_passes_byte_by_byte_and_is_counted() -> None:
    stream = WORDS + STOP + event(usage_event(3, 2)) + DONE
    events, seen = run(stream)
    assert seen == stream
    assert (events.usage, events.done, events.failure) == (Usage(3, 2), True, None)


def test_usage_that_only_we_asked_for_is_counted_and_taken_out() -> None:
    events, seen = run(WORDS + STOP + event(usage_event(3, 2)) + DONE, hide_usage=True)
    assert seen == WORDS + STOP + DONE
    assert events.usage == Usage(3, 2)


def test_usage_beside_words_is_never_taken_out() -> None:
    both = event({**delta("one"), "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
    events, seen = run(both + DONE, hide_usage=True)
    assert seen == both + DONE
    assert events.usage == Usage(3, 1)


@pytest.mark.parametrize("hide_usage", [False, True])
def test_an_engine_that_was_stopped_ends_with_an_error_instead_of_looking_finished(hide_usage) -> None:
    events, seen = run(WORDS + ABORT + event(usage_event(3, 2)) + DONE, hide_usage=hide_usage)
    assert seen.startswith(WORDS)
    (error,) = [json.loads(line[6:]) for line in seen.removeprefix(WORDS).split(b"\n\n")[:-1]]
    assert error["error"]["code"] == "engine_stopped"
    assert events.failure is not None
    assert (events.failure.status, events.failure.code, events.done) == (503, "engine_stopped", False)


def test_an_engine_s_own_error_passes_and_nothing_after_it() -> None:
    events, seen = run(WORDS + DIED + DONE)
    assert seen == WORDS + DIED
    assert events.failure is not None
    assert (events.failure.status, events.failure.message) == (500, "EngineCore encountered an issue.")
    assert not events.done


@pytest.mark.parametrize("cut", [WORDS, WORDS + b'data: {"choi', WORDS + STOP, b""])
def test_a_stream_without_an_end_ends_with_an_error_after_its_last_whole_event(cut: bytes) -> None:
    events, seen = run(cut)
    whole = cut[: cut.rfind(b"\n\n") + 2] if cut else b""
    assert seen.startswith(whole)
    assert json.loads(seen.removeprefix(whole).removeprefix(b"data: "))["error"]["code"] == "engine_died"
    assert events.failure is not None


def test_words_about_errors_and_usage_are_words() -> None:
    talk = event(delta('"error" "usage" "abort" [DONE] data: {"error": 1}\n\ndata: [DONE]\n\n'))
    events, seen = run(talk + DONE)
    assert seen == talk + DONE
    assert (events.failure, events.usage, events.done) == (None, None, True)


def test_a_format_that_we_do_not_know_passes() -> None:
    stream = (
        b': comment "usage"\n\nevent: error\ndata: "usage"\n\ndata: not json "usage"\n\nid: 1\ndata: [1, "usage"]\n\n'
    )
    assert run(stream + DONE)[1] == stream + DONE


def test_carriage_returns_and_events_of_several_lines_are_understood() -> None:
    stream = (WORDS + event(usage_event(3, 2)) + DONE).replace(b"\n", b"\r\n")
    events, seen = run(stream)
    assert seen == stream
    assert (events.usage, events.done) == (Usage(3, 2), True)
    lines = json.dumps(usage_event(4, 1), indent=1).encode().splitlines()
    events, _ = run(b"event: chunk\n" + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n" + DONE)
    assert events.usage == Usage(4, 1)


def test_an_event_without_end_is_not_kept_without_limit() -> None:
    events, seen = run(WORDS, b"data: ", b"x" * 900, b"x" * 200, DONE, limit=1000)
    assert seen.startswith(WORDS)
    assert events.failure is not None
    assert events.failure.code == "answer_too_large"
    assert not events.done


STREAMS = [
    WORDS + STOP + event(usage_event(3, 2)) + DONE,
    (WORDS + STOP + event(usage_event(3, 2)) + DONE).replace(b"\n", b"\r\n"),
    WORDS + ABORT + event(usage_event(3, 2)) + DONE,
    WORDS + DIED + DONE,
    WORDS + STOP,
]


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 700)), st.booleans())
def test_it_does_not_matter_where_the_pieces_begin(stream: bytes, cuts: list[int], hide_usage) -> None:
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    whole, seen_whole = run(stream, hide_usage=hide_usage)
    split, seen_split = run(*pieces, hide_usage=hide_usage)
    assert seen_split == seen_whole
    assert (split.usage, split.done) == (whole.usage, whole.done)
