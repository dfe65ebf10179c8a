"""The proof that an environment works: vLLM imports in it, and says which arguments `vllm serve` takes."""

import os
from pathlib import Path

from selfhost.engines import child
from selfhost.errors import SelfhostError
from selfhost.planner.plan import Variant

_SCRIPT = Path(__file__).with_name("dump_arguments.py")
_PASSED_ON = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
_FOR_CPU = {"VLLM_TARGET_DEVICE": "cpu"}  # checked before all else by vllm/platforms/__init__.py

# vllm/config/device.py, when the parser of a CUDA build is made where no GPU is visible. Told to be on a CPU it makes
# the same parser (measured: CUDA build of 0.32.0 without a GPU, all 316 options alike).
_NO_GPU = "Failed to infer device type"


def prove(python: Path, variant: str, output: Path, *, hold: int | None = None) -> None:
    """Import vLLM with `python` and write to `output` what `vllm serve` accepts (9 s on an idle box).

    Of a build for CUDA this works without a GPU too; its kernels are loaded only where there is one.
    Raises `SelfhostError` with vLLM's own last words.
    """

    def dump(environ: dict[str, str]) -> child.Ended:
        # -P: this package's files must not hide modules of the engine
        return child.run([python, "-P", _SCRIPT, output], cwd=output.parent, environ=environ, hold=hold)

    ended = dump(environ(variant))
    if ended.code and any(_NO_GPU in line for line in ended.lines):
        ended = dump(environ(Variant.CPU))
    if ended.code:
        as_cpu = "VLLM_TARGET_DEVICE=cpu " if variant == Variant.CPU else ""
        raise SelfhostError(
            f"vLLM cannot be imported by {python}: {ended.lines[-1] if ended.lines else f'exit code {ended.code}'}",
            hint=f"to see everything: {as_cpu}{python.with_name('vllm')} serve --help",
        )


def environ(variant: str) -> dict[str, str]:
    """The environment variables for the engine's Python: nothing secret, nothing that switches vLLM features."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed_on | _OFFLINE | (_FOR_CPU if variant == Variant.CPU else {})
