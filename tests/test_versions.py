"""Which vLLM is meant and allowed: the manifest says the same as everything that comes after it."""

import pytest

from selfhost import versions
from selfhost.errors import ExitCode, SelfhostError
from selfhost.manifest.schema import Engine

TEXTS = ["0.32.0", "0.33", "0.33.0", "0.33.0rc1", "0.32.0rc1", "0.33.1.post2", "0.31.9", "0.33.1+cpu", "v0.33.1", "1"]
TEXTS += ["", "latest", ">=0.33.0", "0.33.0\n", "0.\u0663\u0663.0", "9" * 5000 + ".0.0", "../0.33.0"]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_what_the_manifest_takes_is_what_can_be_built(text: str) -> None:
    try:
        Engine(vllm=text)
    except ValueError:
        with pytest.raises(SelfhostError):
            versions.require_supported(text)
    else:
        versions.require_supported(text)


@pytest.mark.parametrize(
    "version, code", [("0.33", ExitCode.FAILED), ("0.31.0", ExitCode.BLOCKED), ("0.32.0rc1", ExitCode.BLOCKED)]
)
def test_a_typing_error_is_told_from_a_hole(version: str, code: ExitCode) -> None:
    with pytest.raises(SelfhostError) as caught:
        versions.require_supported(version)
    assert (caught.value.exit_code, bool(caught.value.hint)) == (code, True)
