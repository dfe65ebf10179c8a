"""NVML without NVML in this process: a child asks, a deadline ends it, and its answer becomes values."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfhost.hardware import failures
from selfhost.hardware.failures import Failure, NvmlError
from selfhost.hardware.inventory import Gpu, UnusableGpu

LIBRARY = "libnvidia-ml.so.1"
QUERY = (sys.executable, "-P", "-m", "selfhost.hardware.nvml_query")  # -P: no module of the current folder gets in

# A GPU that gives one of these to any question is not to be used, whatever else it still answers.
_FATAL = (NvmlError.GPU_IS_LOST, NvmlError.RESET_REQUIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlAnswer:
    """What NVML tells about this machine."""

    gpus: tuple[Gpu | UnusableGpu, ...] = ()  # all that it lists, in its order
    driver_version: str | None = None
    cuda_version: tuple[int, int] | None = None
    failure: Failure | None = None  # why it tells nothing
    error_code: int | None = None  # NVML's number for that, where it has one


def library_installed(root: Path, environ: Mapping[str, str]) -> bool:
    """Whether the dynamic linker would find NVML: asked of its cache and search path, so that nothing is loaded."""
    folders = filter(None, environ.get("LD_LIBRARY_PATH", "").split(":"))
    if any(os.access(Path(folder, LIBRARY), os.R_OK) for folder in folders):
        return True
    try:
        return LIBRARY.encode() in (root / "etc/ld.so.cache").read_bytes()
    except OSError:
        return False


def ask(*, deadline_seconds: float, environ: Mapping[str, str]) -> NvmlAnswer:
    """Ask NVML; never takes much longer than `deadline_seconds`, never raises."""
    try:
        stdout, stderr = run_bounded(QUERY, deadline_seconds=deadline_seconds, environ=environ)
    except subprocess.TimeoutExpired:
        return NvmlAnswer(failure=failures.hang(deadline_seconds))
    except OSError as error:  # no process to be had
        return NvmlAnswer(failure=failures.crash(str(error)))
    return parse(stdout, stderr)


def run_bounded(argv: tuple[str, ...], *, deadline_seconds: float, environ: Mapping[str, str]) -> tuple[str, str]:
    """Run `argv` in a group of its own and return its output and its error output.

    Raises `subprocess.TimeoutExpired` at the deadline, after SIGKILL to the group. Not `subprocess.run`, which then
    waits for the child to be gone: a child that hangs inside the driver may be in uninterruptible sleep and stay.
    """
    process = subprocess.Popen(
        argv,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=deadline_seconds)
    finally:  # the deadline, and Ctrl-C too
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


def parse(stdout: str, stderr: str = "") -> NvmlAnswer:
    """Understand what `nvml_query` printed; where it printed nothing, its last words are the failure."""
    try:
        document = json.loads(stdout.splitlines()[-1])  # the last line: libraries may chat before it
    except (IndexError, ValueError):
        return NvmlAnswer(failure=failures.crash((stderr.strip().splitlines() or ["no answer"])[-1]))
    errors = document["errors"]
    gpus = tuple(_parse_gpu(index, facts) for index, facts in enumerate(document.get("gpus", ())))
    cuda = document.get("cuda_version")  # 12040 is 12.4
    refused = errors.get("init") or errors.get("gpu_count")
    if not gpus and not refused:
        refused = {"code": NvmlError.GPU_NOT_FOUND, "text": "no GPU"}  # as newer drivers say it at nvmlInit
    return NvmlAnswer(
        gpus=gpus,
        driver_version=document.get("driver_version"),
        cuda_version=(cuda // 1000, cuda % 1000 // 10) if cuda else None,
        failure=failures.of_driver(refused["code"], refused["text"]) if refused else None,
        error_code=refused["code"] if refused else None,
    )


def _parse_gpu(index: int, facts: Mapping[str, Any]) -> Gpu | UnusableGpu:
    uuid, name, pci_bus_id = facts.get("uuid"), facts.get("name"), _as_sysfs_writes(facts.get("pci_bus_id"))
    failure = _failure_of_gpu(index, facts)
    if failure:
        return UnusableGpu(
            index=index, uuid=uuid, name=name, pci_bus_id=pci_bus_id, cause=failure.cause, hint=failure.hint
        )
    memory = facts.get("memory", {})
    capability = facts.get("compute_capability")
    return Gpu(
        index=index,
        uuid=facts["uuid"],
        name=name,
        memory_total_bytes=memory.get("total_bytes"),
        memory_free_bytes=memory.get("free_bytes"),
        compute_capability=(capability[0], capability[1]) if capability else None,
        pci_bus_id=pci_bus_id,
    )


def _failure_of_gpu(index: int, facts: Mapping[str, Any]) -> Failure | None:
    errors = facts["errors"]
    fatal = next((error for error in errors.values() if error["code"] in _FATAL), None)
    # Without a handle nothing is known, and without its UUID no engine can be pinned to it.
    refused = fatal or errors.get("handle") or errors.get("uuid")
    if refused:
        return failures.of_gpu(index, refused["code"], refused["text"])
    return failures.mig(index) if facts.get("mig_mode") else None


def _as_sysfs_writes(pci_bus_id: str | None) -> str | None:
    if not pci_bus_id:
        return None
    domain, _, rest = pci_bus_id.lower().partition(":")  # NVML: 00000000:1B:00.0
    return f"{int(domain, 16):04x}:{rest}"
