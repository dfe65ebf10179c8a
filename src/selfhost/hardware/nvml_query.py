"""The questions to NVML: `python -m selfhost.hardware.nvml_query` prints what the driver tells, a line of JSON each.

A process of its own, and the only module that imports pynvml: NVML can hang for minutes when a GPU is sick, and unlike
a thread a process can be killed (`nvidia.py` does it). So that one sick GPU costs no other its answers, each GPU has a
thread of its own (NVML is thread-safe), and every line goes out at once: `{"gpu": 0, "question": "memory"}` when NVML
is asked, and the same with `answer` or `error` (NVML's number and words) when it has answered. Nothing is judged here.
"""

import json
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pynvml

from selfhost.parent_death import die_with

# SIGALRM ends this process even inside NVML: without it, one that somebody asked by hand could hang on alone.
LIFETIME_SECONDS = 60

# nvmlGpuP2PCapsIndex_t of nvml.h; nvidia-ml-py 13.615 has a tuple where the first one should be
P2P_READ, P2P_WRITE, P2P_NVLINK = range(3)

# What a question ends with where it has no answer: the library of a sick driver may give bytes that are no text.
_NO_ANSWER = (pynvml.NVMLError, UnicodeDecodeError)

_output = threading.Lock()


def query() -> None:
    """Ask about the driver, each of its GPUs, and each pair of them."""
    if not _asked({}, "init", lambda: pynvml.nvmlInit() is None):
        return
    _asked({}, "driver_version", pynvml.nvmlSystemGetDriverVersion)
    _asked({}, "cuda_version", pynvml.nvmlSystemGetCudaDriverVersion_v2)
    gpus = range(_asked({}, "gpu_count", pynvml.nvmlDeviceGetCount) or 0)
    neighbours = Neighbours()
    with ThreadPoolExecutor(max_workers=max(1, len(gpus))) as threads:
        for answered in [threads.submit(_query_gpu, index, neighbours) for index in gpus]:
            answered.result()


class Neighbours:
    """The whole GPUs that have answered for themselves: only they are asked about in pairs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._devices: dict[int, Any] = {}

    def join(self, index: int, device: Any) -> dict[int, Any]:
        """Those that were there before: of every two GPUs, the later one asks about both."""
        with self._lock:
            earlier = dict(self._devices)
            self._devices[index] = device
        return earlier


def _query_gpu(index: int, neighbours: Neighbours) -> None:
    subject = {"gpu": index}
    # may wake the GPU up: seconds, where no persistence mode keeps it awake
    device = _asked(subject, "handle", lambda: pynvml.nvmlDeviceGetHandleByIndex(index))
    if device is None:
        return
    # What a plan needs comes first: where a later question hangs, this much is known.
    questions: Mapping[str, Callable[[], Any]] = {
        "uuid": lambda: pynvml.nvmlDeviceGetUUID(device),
        "name": lambda: pynvml.nvmlDeviceGetName(device),
        "pci_bus_id": lambda: pynvml.nvmlDeviceGetPciInfo(device).busId,
        "compute_capability": lambda: pynvml.nvmlDeviceGetCudaComputeCapability(device),
        "memory": lambda: _memory(device),
        "mig_mode": lambda: pynvml.nvmlDeviceGetMigMode(device)[0],
        "mig_devices": lambda: _mig_devices(device),
        "virtualization_mode": lambda: pynvml.nvmlDeviceGetVirtualizationMode(device),
        "power_limit_milliwatts": lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(device),
        "power_default_milliwatts": lambda: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(device),
        "ecc_mode": lambda: pynvml.nvmlDeviceGetEccMode(device)[0],
        "ecc_uncorrected_errors": lambda: pynvml.nvmlDeviceGetTotalEccErrors(
            device, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        ),
        "remapped_rows": lambda: pynvml.nvmlDeviceGetRemappedRows(device),  # corrected, uncorrected, pending, failed
        "processes": lambda: _processes(device),
        "nvlinks": lambda: _nvlinks(device),
    }
    answers = {question: _asked(subject, question, ask) for question, ask in questions.items()}
    if answers["mig_mode"]:  # its devices reach nobody
        return
    for other, its_device in neighbours.join(index, device).items():
        _asked({**subject, "other": other}, "link", partial(_link, device, its_device))


def _memory(device: Any) -> dict[str, int]:
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(device, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError:  # drivers before 510 know version 1 only; where both fail, the error of this one is told
        memory = pynvml.nvmlDeviceGetMemoryInfo(device)
    return {"total_bytes": memory.total, "free_bytes": memory.free}


def _mig_devices(card: Any) -> list[dict[str, Any]]:
    """The MIG devices of a card, none of one that is not in MIG mode."""
    found = []
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(card)):
        try:
            device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(card, index)
        except (pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument):  # a place that no device has
            continue
        except pynvml.NVMLError as error:
            found.append({"index": index, "errors": {"uuid": _describe(error)}})
            continue
        found.append(_mig_device(device, index))
    return found


def _mig_device(device: Any, index: int) -> dict[str, Any]:
    return _answers(
        {
            "index": lambda: index,
            "uuid": lambda: pynvml.nvmlDeviceGetUUID(device),
            "name": lambda: pynvml.nvmlDeviceGetName(device),
            "memory": lambda: _memory(device),
            "gpu_instance": lambda: pynvml.nvmlDeviceGetGpuInstanceId(device),
            "compute_instance": lambda: pynvml.nvmlDeviceGetComputeInstanceId(device),
            "processes": lambda: _processes(device),
        }
    )


def _processes(device: Any) -> list[dict[str, int | None]]:
    """Those that compute and those that draw; one that does both holds the memory that it is said to hold once."""
    listed = list(pynvml.nvmlDeviceGetComputeRunningProcesses(device))
    with suppress(pynvml.NVMLError):  # not every GPU draws
        listed += pynvml.nvmlDeviceGetGraphicsRunningProcesses(device)
    return [{"pid": pid, "used_bytes": used} for pid, used in {each.pid: each.usedGpuMemory for each in listed}.items()]


def _nvlinks(device: Any) -> list[str | None]:
    """For each active NVLink the PCI address of the GPU at its other end; None: a switch is there."""
    ends = []
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            active = pynvml.nvmlDeviceGetNvLinkState(device, link)
        except (pynvml.NVMLError_InvalidArgument, pynvml.NVMLError_NotSupported):  # it has no more links
            break
        if active:
            ends.append(_other_end(device, link))
    return ends


def _other_end(device: Any, link: int) -> str | None:
    try:
        if pynvml.nvmlDeviceGetNvLinkRemoteDeviceType(device, link) == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
            return None
    except pynvml.NVMLError:  # drivers before 465 do not tell the kind: the address decides
        pass
    end: str = pynvml.nvmlDeviceGetNvLinkRemotePciInfo(device, link).busId
    return end


def _link(first: Any, second: Any) -> dict[str, Any]:
    def status(capability: int) -> Callable[[], bool]:
        return lambda: bool(pynvml.nvmlDeviceGetP2PStatus(first, second, capability) == pynvml.NVML_P2P_STATUS_OK)

    return _answers(
        {
            "topology": lambda: pynvml.nvmlDeviceGetTopologyCommonAncestor(first, second),
            "read": status(P2P_READ),
            "write": status(P2P_WRITE),
            "nvlink": status(P2P_NVLINK),
        }
    )


def _answers(questions: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """The answers to several questions at once; those that NVML would not answer stand under `errors`."""
    answers: dict[str, Any] = {}
    errors = {}
    for question, ask in questions.items():
        try:
            answers[question] = ask()
        except _NO_ANSWER as error:
            errors[question] = _describe(error)
    return {**answers, "errors": errors}


def _asked(subject: Mapping[str, int], question: str, ask: Callable[[], Any]) -> Any:
    """What NVML answers, None where it does not; tells before and after what happens."""
    _tell({**subject, "question": question})
    try:
        answer = ask()
    except _NO_ANSWER as error:
        _tell({**subject, "question": question, "error": _describe(error)})
        return None
    _tell({**subject, "question": question, "answer": answer})
    return answer


def _describe(error: Any) -> dict[str, Any]:
    return {"code": getattr(error, "value", pynvml.NVML_ERROR_UNKNOWN), "text": str(error)}


def _no_json(_handle: object) -> None:
    """A handle means something in this process only."""


def _tell(line: Mapping[str, Any]) -> None:
    with _output:
        sys.stdout.write(json.dumps(line, default=_no_json) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    signal.alarm(LIFETIME_SECONDS)
    if len(sys.argv) > 1 and sys.platform == "linux":
        die_with(int(sys.argv[1]))  # whoever waits for the answers
    query()
