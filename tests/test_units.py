import pytest

from selfhost import units


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (150 * units.MIB, "150 MiB"),
        (16_381_470_720, "15.3 GiB"),
        (-3 * units.GIB, "-3 GiB"),
        (2 * 1024 * units.GIB, "2 TiB"),
        (1023 * 1024 * units.GIB, "1023 TiB"),
        (10**36, "more than 1024 TiB"),
    ],
)
def test_format_bytes(count: int, text: str) -> None:
    assert units.format_bytes(count) == text


def test_format_gib_is_the_notation_of_the_engines_log() -> None:
    assert units.format_gib(16_394_000_000) == "15.27"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (52.4, "52 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (349_200, "4 d 1 h")],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text
