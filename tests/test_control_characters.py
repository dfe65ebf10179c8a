import json

import pytest

from selfhost.columns import align
from selfhost.control_characters import in_one_line, visible


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain, é, 模型\tand\nlines", "plain, é, 模型\tand\nlines"),
        ("\x1b[2J\x1b]0;pwn\x07", r"\u001b[2J\u001b]0;pwn\u0007"),
        ("\0\r\x08\x7f\x9b", r"\u0000\u000d\u0008\u007f\u009b"),
        ("a\u202eb\u2066c\u200f\u2028", r"a\u202eb\u2066c\u200f\u2028"),
        ("\udcff\ud800", r"\udcff\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_json_stays_the_same_json() -> None:
    text = "".join(map(chr, [*range(0x300), *range(0x2000, 0x2100), 0xD800]))
    assert json.loads(visible(json.dumps(text, ensure_ascii=False, indent=2))) == text


def test_a_cell_of_a_table_is_no_second_line() -> None:
    assert in_one_line("a\tb\nerror: \x1bc") == r"a\u0009b\u000aerror: \u001bc"
    assert align([("NAME", "X"), ("a\nb", "y")]) == ["NAME      X", r"a\u000ab  y"]
