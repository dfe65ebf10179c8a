"""The last test of the links between this machine's GPUs, on disk: engines are started as it says."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from selfhost import atomic, paths
from selfhost.planner.link_test import LinkTest

_codec: TypeAdapter[LinkTest] = TypeAdapter(LinkTest)


def write(test: LinkTest) -> None:
    """Replace what an earlier test found."""
    atomic.write_bytes(_path(), _codec.dump_json(test, indent=2))


def read() -> LinkTest | None:
    """What the last test found; None when there was none, or another version of selfhost wrote it: test again."""
    try:
        return _codec.validate_json(_path().read_bytes())
    except (OSError, ValidationError):
        return None


def forget() -> None:
    """What an earlier test found does not hold any more."""
    _path().unlink(missing_ok=True)


def _path() -> Path:
    return paths.home_dir() / "link-test.json"
