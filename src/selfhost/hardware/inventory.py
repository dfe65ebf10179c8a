"""What a machine offers, as values. `None` always means unknown: nothing here is ever guessed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU as NVML describes it, fit to be planned on."""

    index: int  # NVML's, which follows the PCI bus order
    uuid: str
    name: str | None
    memory_total_bytes: int | None
    memory_free_bytes: int | None
    compute_capability: tuple[int, int] | None  # (9, 0) for Hopper
    pci_bus_id: str | None  # as sysfs writes it: "0000:1b:00.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusableGpu:
    """One NVIDIA GPU that NVML lists and that must not be planned on."""

    index: int
    uuid: str | None
    name: str | None
    pci_bus_id: str | None
    cause: str  # a sentence
    hint: str  # the next step


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """Something on the PCI bus that computes, whether or not a driver is there to use it."""

    vendor: str  # "NVIDIA", "AMD", ...
    pci_address: str  # "0000:1b:00.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine around the GPUs, with the limits of the container or control group that we run in."""

    architecture: str  # "x86_64"
    cpu_count: int  # cores that this process may use
    memory_total_bytes: int
    memory_available_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The disk under a folder that will hold much."""

    purpose: str  # "engines" or "weights"
    path: str  # the folder, which need not exist yet
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything that a plan may be made of.

    Either there are `gpus`, or there is a `problem`, or this machine has no accelerator at all. GPUs that fail beside
    others that work are in `unusable_gpus` and are no `problem`.
    """

    host: Host
    gpus: tuple[Gpu, ...] = ()  # those that an engine may use, in the order that CUDA_VISIBLE_DEVICES gives them
    driver_version: str | None = None
    cuda_version: tuple[int, int] | None = None  # the newest CUDA that the driver supports
    accelerators: tuple[Accelerator, ...] = ()  # what the PCI bus shows
    problem: str | None = None  # why the GPUs that are there cannot be used, as a sentence
    hint: str | None = None  # what to do about the problem
    unusable_gpus: tuple[UnusableGpu, ...] = ()
    disks: tuple[Disk, ...] = ()
    hidden_gpu_count: int = 0  # GPUs that CUDA_VISIBLE_DEVICES hides from us and from every engine
