import json
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.corpus import ALLOWED, CHAT, FORBIDDEN
from selfhost.gateway.openai import AT_MOST, SPREAD, ApiError, engine_body, read_call
from selfhost.gateway.openai import FORBIDDEN as FORBIDDEN_NAMES


@pytest.mark.parametrize("fields, param", FORBIDDEN)
def test_fields_that_can_harm_an_engine_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    for raw in (orjson.dumps({**CHAT, **fields}) if fields != {"n": 10**30} else b"", spaced({**CHAT, **fields})):
        if raw:
            with pytest.raises(ApiError) as refused:
                read_call(raw)
            assert (refused.value.status, refused.value.param) == (400, param)
            assert param in refused.value.message


@pytest.mark.parametrize("fields", ALLOWED)
def test_everything_else_may_pass(fields: dict[str, Any]) -> None:
    assert read_call(orjson.dumps({**CHAT, **fields})).model == "chat"
    assert read_call(spaced({**CHAT, **fields})).model == "chat"


@pytest.mark.parametrize(
    "raw, code",
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'"chat"', "invalid_json"),
        (b"null", "invalid_json"),
        (b'{"model":"chat"}x', "invalid_json"),
        (b'{"model":"chat","x":NaN}', "invalid_json"),
        (b'{"model":"chat","x":"\xff"}', "invalid_json"),
        (b'{"model":"chat","x":"\\ud800"}', "invalid_json"),
        (b"\xef\xbb\xbf" + orjson.dumps(CHAT), "invalid_json"),
        (b'{"model":"chat","x":' + b"[" * 1020 + b"]" * 1020 + b"}", "invalid_json"),
        (b'{"model":"chat","x":' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_json"),
        (b"{}", "invalid_request"),
        (b'{"model":null}', "invalid_request"),
        (b'{"model":1}', "invalid_request"),
        (b'{"model":["chat"]}', "invalid_request"),
        (b'{"messages":[{"model":"chat"}]}', "invalid_request"),
    ],
)
def test_what_is_no_call_is_refused(raw: bytes, code: str) -> None:
    with pytest.raises(ApiError) as refused:
        read_call(raw)
    assert (refused.value.status, refused.value.code) == (400, code)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","model":"a"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"\\u006dodel":"a","messages":[],"model":"b"}',
        b'{ "model" : "a" , "x" : {"model":"c"} , "model" : "b" }',
        b'{"model":"a","n":1,"n":9}',
        b'{"model":"a","prompt_embeds":null,"prompt_embeds":"x"}',
        b'{"model":"a","a/b":1,"a\\/b":2}',
        b'{"model":"a","":1,"":2}',
        b'{"x":"\\"model\\":","model":"a","model":"b"}',
    ],
)
def test_a_field_that_is_given_twice_is_refused(raw: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        read_call(raw)
    assert (refused.value.status, refused.value.code) == (400, "duplicate_parameter")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"a","messages":[{"model":"b"},{"model":"c"}]}',
        b'{"model":"a","x":{"y":{"model":"b","model":"c"}}}',
        b'{"model":"a","x":"\\"model\\":\\"b\\",\\"model\\":\\"c\\""}',
        b'{"model":"a" , "x":"mod\\u0065l"}',
    ],
)
def test_the_same_word_elsewhere_is_no_duplicate(raw: bytes) -> None:
    assert engine_body(read_call(raw), "a").body == raw


# What orjson would not write back as it was: integers beyond 64 bits, long fractions, exponents, escapes.
STRANGE = (
    b'{ "seed": 123456789012345678901234567890, "temperature": 0.10000000000000000555111512312578270211815834045410,\n'
    b'\t"top_p": 1E-1, "min_p": -0.0, "user": "\\u00e9\\/\\ud83d\\ude00", "big": 1e308, "model" :"default",'
    b' "x": {"model": "default"}}'
)


def test_an_alias_is_replaced_and_every_other_byte_stays() -> None:
    assert engine_body(read_call(STRANGE), "chat").body == STRANGE.replace(b':"default"', b':"chat"')


def test_a_body_that_needs_no_change_is_passed_on_as_it_is() -> None:
    assert engine_body(read_call(STRANGE), "default").body is STRANGE


def test_usage_is_asked_for_when_a_stream_s_client_did_not() -> None:
    for options in (None, {}, {"include_usage": False}, {"include_usage": None, "continuous_usage_stats": True}):
        for write in (orjson.dumps, spaced):
            got = engine_body(read_call(write({**CHAT, "stream": True, "stream_options": options})), "chat")
            assert got.usage_added
            assert json.loads(got.body) == {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    got = engine_body(read_call(b'{"model":"chat", "stream":true }'), "chat")
    assert got.body == b'{"model":"chat", "stream":true ,"stream_options":{"include_usage":true}}'


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stream": False},
        {"stream": 1},  # not a boolean: the engine decides what that is
        {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"stream": True, "stream_options": {"include_usage": "yes"}},
        {"stream": True, "stream_options": {"include_usage": []}},
        {"stream": True, "stream_options": "nonsense"},
    ],
)
def test_otherwise_usage_is_the_client_s_affair(fields: dict[str, Any]) -> None:
    raw = orjson.dumps({**CHAT, **fields})
    assert engine_body(read_call(raw), "chat") == (raw, False)


JUDGED = FORBIDDEN_NAMES | {*SPREAD, *AT_MOST, "stream_options"}  # which hypothesis finds in the source
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
bodies = st.dictionaries(st.text(), values, max_size=5)


@given(bodies, st.booleans(), st.sampled_from([None, 0, 2]), st.booleans())
def test_rewriting_changes_the_model_and_nothing_else(fields, ascii_only, indent, stream) -> None:
    fields = {name: value for name, value in fields.items() if name not in JUDGED}
    fields = {**fields, "model": "default", "stream": stream}
    try:
        raw = json.dumps(fields, ensure_ascii=ascii_only, indent=indent).encode()
        orjson.loads(raw)
    except ValueError:  # lone surrogates, which JSON texts may not hold
        return
    got = engine_body(read_call(raw), "chat")
    wanted = {**fields, "model": "chat"} | ({"stream_options": {"include_usage": True}} if stream else {})
    assert exactly(got.body) == exactly(json.dumps(wanted).encode())


def exactly(raw: bytes) -> Any:
    """Numbers by their decimal value, not by what a float makes of them."""
    return json.loads(raw, parse_float=Decimal, parse_int=Decimal)


def spaced(fields: dict[str, Any]) -> bytes:
    """As Python's own `json` writes it, which is not how orjson does."""
    return json.dumps(fields).encode()
