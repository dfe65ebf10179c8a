"""Characters that a terminal obeys instead of showing them, made visible. Pure."""

import re

# C0 but tab and newline, DEL, C1; bidi controls and line separators, which make text read as what it is not; halves of
# a character, which no output can encode.
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""`text` with every control character as `\u001b`, which is right in JSON, too."""
    return CONTROL.sub(_escape, text)


def in_one_line(text: str) -> str:
    """`visible` with tabs and newlines made visible too: what a stranger named must not look like lines of ours."""
    return re.sub(r"[\t\n]", _escape, visible(text))


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
