"""The proof that an environment works: vLLM imports in it, and says which arguments `vllm serve` takes."""

import os
from pathlib import Path

from selfhost.engines import child
from selfhost.errors import SelfhostError

_SCRIPT = Path(__file__).with_name("dump_arguments.py")
_PASSED_ON = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
_PLATFORM = {"cpu": {"VLLM_TARGET_DEVICE": "cpu"}}  # checked before all else by vllm/platforms/__init__.py


def prove(python: Path, platform: str, output: Path, *, hold: int | None = None) -> None:
    """Import vLLM with `python` and write to `output` what `vllm serve` accepts (9 s on an idle box).

    Raises `SelfhostError` with vLLM's own last words.
    """
    ended = child.run(
        [python, "-P", _SCRIPT, output],  # -P: this package's files must not hide modules of the engine
        cwd=output.parent,
        environ=environ(platform),
        hold=hold,
    )
    if ended.code:
        raise SelfhostError(
            f"vLLM cannot be imported by {python}: {ended.lines[-1] if ended.lines else f'exit code {ended.code}'}",
            hint=f"to see everything: VLLM_TARGET_DEVICE={platform} {python.with_name('vllm')} serve --help",
        )


def environ(platform: str) -> dict[str, str]:
    """The environment variables for the engine's Python: nothing secret, nothing that switches vLLM features."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed_on | _OFFLINE | _PLATFORM.get(platform, {})
