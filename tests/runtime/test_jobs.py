"""What a job's last words become."""

import pytest

from selfhost.errors import ExitCode
from selfhost.runtime import jobs


@pytest.mark.parametrize(
    "words, message, hint",
    [
        ("error: no room\nhint: buy a disk", "no room", "buy a disk"),
        ("error: no room", "no room", None),
        ("note\nerror: not here:\n  no g++\n  no room\nhint: do", "not here:\n  no g++\n  no room", "do"),
        ("Killed", "Killed", None),
        ("", "the build ended with exit code 4", None),
        ("error: first\nerror: second\nhint: do", "second", "do"),
    ],
)
def test_a_jobs_own_words_are_kept(words: str, message: str, hint: str | None) -> None:
    failure = jobs._failure("the build", 4, words)
    assert (failure.message, failure.hint, failure.exit_code) == (message, hint, ExitCode.BLOCKED)
