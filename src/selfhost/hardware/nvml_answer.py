"""What `nvml_query.py` printed, understood: GPUs to plan on, and GPUs that fail, each with its sentence. Pure."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from selfhost.hardware import failures
from selfhost.hardware.failures import Failure, NvmlError
from selfhost.hardware.inventory import Gpu, GpuLink, GpuProcess, MigDevice, UnusableGpu
from selfhost.hardware.links import join
from selfhost.hardware.pci_address import as_sysfs_writes

# A GPU that gives one of these to any question is not to be used, whatever else it still answers.
_FATAL = (NvmlError.GPU_IS_LOST, NvmlError.RESET_REQUIRED)

_GUEST_OF_VGPU = 2  # nvml.h: NVML_GPU_VIRTUALIZATION_MODE_VGPU


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlAnswer:
    """What NVML tells about this machine."""

    gpus: tuple[Gpu | UnusableGpu, ...] = ()  # all that it lists, in its order, MIG devices in the place of their card
    links: tuple[GpuLink, ...] = ()  # one for each pair of whole GPUs
    driver_version: str | None = None
    cuda_version: tuple[int, int] | None = None
    failure: Failure | None = None  # why it tells nothing
    error_code: int | None = None  # NVML's number for that, where it has one


@dataclass(slots=True)
class _Said:
    """What was said about one subject: the driver, a GPU, or a pair of GPUs."""

    answers: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, Any] = field(default_factory=dict)
    pending: str | None = None  # the question that is not answered

    def take(self, line: Mapping[str, Any]) -> None:
        question = line["question"]
        self.pending = None if line.keys() & {"answer", "error"} else question
        if "answer" in line:
            self.answers[question] = line["answer"]
        elif "error" in line:
            self.errors[question] = line["error"]


def parse(stdout: str, *, silence_seconds: float) -> NvmlAnswer:
    """Understand what was printed until the end, or until `silence_seconds` without a word."""
    driver, gpus, pairs = _Said(), dict[int, _Said](), dict[tuple[int, int], _Said]()
    for line in _lines(stdout):
        if "other" in line:
            pairs.setdefault((line["gpu"], line["other"]), _Said()).take(line)
        elif "gpu" in line:
            gpus.setdefault(line["gpu"], _Said()).take(line)
        else:
            driver.take(line)
    if driver.pending:
        return NvmlAnswer(failure=failures.hang(silence_seconds))
    count = driver.answers.get("gpu_count")
    refused = driver.errors.get("init") or driver.errors.get("gpu_count")
    if count == 0:
        refused = {"code": NvmlError.GPU_NOT_FOUND, "text": "no GPU"}  # as newer drivers say it at nvmlInit
    if not count and not refused:
        return NvmlAnswer(failure=failures.crash("no answer"))
    sick_pairs = _to_blame([pair for pair, said in pairs.items() if said.pending])
    for index in range(count or 0):
        said = gpus.setdefault(index, _Said(pending="handle"))
        if index in sick_pairs:
            said.pending = "link"
    found = tuple(device for index in range(count or 0) for device in _devices(index, gpus[index]))
    cuda = driver.answers.get("cuda_version")  # 12040 is 12.4
    return NvmlAnswer(
        gpus=found,
        links=join(
            [gpu for gpu in found if isinstance(gpu, Gpu) and not gpu.mig],
            addresses={address for said in gpus.values() if (address := _address(said))},
            nvlinks={index: said.answers.get("nvlinks") for index, said in gpus.items()},
            pairs={pair: said.answers["link"] for pair, said in pairs.items() if "link" in said.answers},
        ),
        driver_version=driver.answers.get("driver_version"),
        cuda_version=(cuda // 1000, cuda % 1000 // 10) if cuda else None,
        failure=failures.of_driver(refused["code"], refused["text"]) if refused else None,
        error_code=refused["code"] if refused else None,
    )


def _lines(stdout: str) -> Iterator[Mapping[str, Any]]:
    """The lines that are ours: libraries may chat between them, and the last one may be cut off."""
    for text in stdout.splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and "question" in line:
            yield line


def _to_blame(hung: Iterable[tuple[int, int]]) -> set[int]:
    """Which GPUs explain why questions about pairs hang: the one that is in most of them, then of those that are left.

    Of two that are in equally many, the later one: without either of them nothing hangs.
    """
    left, blamed = sorted((max(pair), min(pair)) for pair in hung), set[int]()
    while left:
        (worst, _), *_ = Counter(gpu for pair in left for gpu in pair).most_common(1)
        blamed.add(worst)
        left = [pair for pair in left if worst not in pair]
    return blamed


def _devices(index: int, said: _Said) -> Iterator[Gpu | UnusableGpu]:
    """The GPU that was asked about: as itself, or as its MIG devices."""
    failure = _failure(index, said)
    if not failure and said.answers.get("mig_mode"):
        mig_devices = said.answers.get("mig_devices", ())
        yield from (_mig_device(index, said, facts) for facts in mig_devices)
        failure = None if mig_devices else failures.empty_mig(index)
        if not failure:
            return
    if failure:
        yield _unusable(index, said, said.answers, failure)
    else:
        yield _gpu(index, said, said.answers, said.errors)


def _failure(index: int, said: _Said) -> Failure | None:
    if said.pending:
        return failures.hang_of_gpu(index, said.pending)
    fatal = next((error for error in said.errors.values() if error["code"] in _FATAL), None)
    # Without a handle nothing is known, and without its UUID no engine can be pinned to it.
    refused = fatal or said.errors.get("handle") or _no_uuid(said.answers, said.errors)
    if said.answers.get("mig_mode"):
        refused = refused or said.errors.get("mig_devices")
    return failures.of_gpu(index, refused["code"], refused["text"]) if refused else None


def _no_uuid(answers: Mapping[str, Any], errors: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Why nothing can be pinned to it: an engine that is shown "" sees no GPU at all."""
    nameless = {"code": NvmlError.UNKNOWN, "text": ""} if answers.get("uuid") == "" else None
    return errors.get("uuid") or nameless


def _mig_device(index: int, card: _Said, facts: Mapping[str, Any]) -> Gpu | UnusableGpu:
    errors = facts["errors"]
    fatal = next((error for error in errors.values() if error["code"] in _FATAL), None)
    if refused := fatal or _no_uuid(facts, errors):
        failure = failures.of_gpu(index, refused["code"], refused["text"], mig=facts["index"])
        return _unusable(index, card, facts, failure)
    mig = MigDevice(
        index=facts["index"],
        parent_uuid=card.answers["uuid"],
        card_memory_total_bytes=card.answers.get("memory", {}).get("total_bytes"),
        gpu_instance=facts.get("gpu_instance"),
        compute_instance=facts.get("compute_instance"),
    )
    return _gpu(index, card, facts, errors, mig=mig)


def _unusable(index: int, said: _Said, own: Mapping[str, Any], failure: Failure) -> UnusableGpu:
    return UnusableGpu(
        index=index,
        uuid=own.get("uuid"),
        name=own.get("name"),
        pci_bus_id=_address(said),
        cause=failure.cause,
        hint=failure.hint,
    )


def _gpu(
    index: int, said: _Said, own: Mapping[str, Any], errors: Mapping[str, Any], *, mig: MigDevice | None = None
) -> Gpu:
    """A device from its `own` facts and from what was `said` about its card, which is the same for a whole card."""
    card, memory, processes = said.answers, own.get("memory", {}), own.get("processes")
    capability = card.get("compute_capability")
    ecc, remapped = card.get("ecc_mode"), card.get("remapped_rows")
    return Gpu(
        index=index,
        uuid=own["uuid"],
        name=own.get("name"),
        memory_total_bytes=memory.get("total_bytes"),
        memory_free_bytes=memory.get("free_bytes"),
        compute_capability=(capability[0], capability[1]) if capability else None,
        pci_bus_id=_address(said),
        mig=mig,
        unified_memory=errors.get("memory", {}).get("code") == NvmlError.NOT_SUPPORTED,
        virtual=card.get("virtualization_mode") == _GUEST_OF_VGPU,
        power_limit_watts=_watts(card.get("power_limit_milliwatts")),
        power_default_watts=_watts(card.get("power_default_milliwatts")),
        ecc_enabled=None if ecc is None else bool(ecc),
        ecc_uncorrected_errors=card.get("ecc_uncorrected_errors"),
        row_remap_pending=bool(remapped[2]) if remapped else None,
        row_remap_failed=bool(remapped[3]) if remapped else None,
        processes=None if processes is None else tuple(_process(each) for each in processes),
    )


def _process(facts: Mapping[str, Any]) -> GpuProcess:
    return GpuProcess(pid=facts["pid"], used_bytes=facts["used_bytes"], command=None)


def _watts(milliwatts: int | None) -> int | None:
    return None if milliwatts is None else round(milliwatts / 1000)


def _address(said: _Said) -> str | None:
    bus_id = said.answers.get("pci_bus_id")
    return as_sysfs_writes(bus_id) if bus_id else None
