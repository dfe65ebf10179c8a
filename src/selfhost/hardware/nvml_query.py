"""The question to NVML: `python -m selfhost.hardware.nvml_query` prints what the driver tells, as one line of JSON.

A process of its own, and the only module that imports pynvml: NVML can hang for minutes when a GPU is sick, and unlike
a thread a process can be killed (`nvidia.py` does it). Nothing is judged here. What NVML would not tell is missing,
and stands under `errors` with NVML's number and words.
"""

import json
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pynvml

# SIGALRM ends this process even inside NVML: without it, a query whose parent was killed would hang on alone.
LIFETIME_SECONDS = 60


def query() -> dict[str, Any]:
    """What the driver and each of its GPUs tell."""
    started = _ask({"init": pynvml.nvmlInit})
    if started["errors"]:
        return started
    driver = _ask(
        {
            "driver_version": pynvml.nvmlSystemGetDriverVersion,
            "cuda_version": pynvml.nvmlSystemGetCudaDriverVersion_v2,
            "gpu_count": pynvml.nvmlDeviceGetCount,
        }
    )
    return {**driver, "gpus": [_query_gpu(index) for index in range(driver.get("gpu_count", 0))]}


def _query_gpu(index: int) -> dict[str, Any]:
    try:
        device = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        return {"errors": {"handle": _describe(error)}}
    return _ask(
        {
            "uuid": lambda: pynvml.nvmlDeviceGetUUID(device),
            "name": lambda: pynvml.nvmlDeviceGetName(device),
            "pci_bus_id": lambda: pynvml.nvmlDeviceGetPciInfo(device).busId,
            "compute_capability": lambda: pynvml.nvmlDeviceGetCudaComputeCapability(device),
            "memory": lambda: _memory(device),
            "mig_mode": lambda: pynvml.nvmlDeviceGetMigMode(device)[0],
        }
    )


def _memory(device: Any) -> dict[str, int]:
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(device, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError:  # drivers before 510 know version 1 only; where both fail, the error of this one is told
        memory = pynvml.nvmlDeviceGetMemoryInfo(device)
    return {"total_bytes": memory.total, "free_bytes": memory.free}


def _ask(questions: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    errors = {}
    for fact, question in questions.items():
        try:
            answers[fact] = question()
        except pynvml.NVMLError as error:
            errors[fact] = _describe(error)
    return {**answers, "errors": errors}


def _describe(error: Any) -> dict[str, Any]:
    return {"code": error.value, "text": str(error)}


if __name__ == "__main__":
    signal.alarm(LIFETIME_SECONDS)
    sys.stdout.write(json.dumps(query()) + "\n")
