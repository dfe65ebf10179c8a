"""What a machine offers, as values. `None` always means unknown: nothing here is ever guessed."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process that the driver says uses a GPU.

    In a container the driver tells the host's process ids, and leaves out processes that the container may not see:
    who holds memory is known from the bytes, not from this list.
    """

    pid: int
    used_bytes: int | None
    command: str | None  # None where its pid means nothing here


@dataclass(frozen=True, slots=True, kw_only=True)
class MigDevice:
    """Which slice of a card a MIG device is."""

    index: int  # as `nvidia-smi -L` counts them on their card
    parent_uuid: str
    card_memory_total_bytes: int | None  # of the whole card
    gpu_instance: int | None
    compute_instance: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU as NVML describes it, fit to be planned on: a whole card, or one MIG device of a card."""

    index: int  # the card's in NVML, which follows the PCI bus order
    uuid: str  # "GPU-..." or "MIG-..."
    name: str | None
    memory_total_bytes: int | None  # of a MIG device its own; of unified memory the host's
    memory_free_bytes: int | None
    compute_capability: tuple[int, int] | None  # (9, 0) for Hopper
    pci_bus_id: str | None  # as sysfs writes it: "0000:1b:00.0"
    mig: MigDevice | None = None  # None: a whole card
    unified_memory: bool = False  # the GPU has no memory of its own and takes the host's (GB10, Jetson)
    virtual: bool = False  # a vGPU: a share of a card that a hypervisor made
    numa_node: int | None = None  # the host's, next to it
    power_limit_watts: int | None = None  # what it may draw now
    power_default_watts: int | None = None  # what it may draw when nobody has capped it
    ecc_enabled: bool | None = None
    ecc_uncorrected_errors: int | None = None  # since the driver was loaded
    row_remap_pending: bool | None = None  # memory rows are replaced at the next reset
    row_remap_failed: bool | None = None
    xids: tuple[int, ...] = ()  # Xid errors in the kernel's log since it booted, where it may be read; latest last
    processes: tuple[GpuProcess, ...] | None = None  # None: the driver does not tell

    @property
    def label(self) -> str:
        """How people name it: "0", and "0:1" for MIG device 1 of card 0 (as NVIDIA's container tools do)."""
        return f"{self.index}:{self.mig.index}" if self.mig else str(self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusableGpu:
    """One NVIDIA GPU that NVML lists and that must not be planned on."""

    index: int
    uuid: str | None
    name: str | None
    pci_bus_id: str | None
    cause: str  # a sentence
    hint: str  # the next step
    xids: tuple[int, ...] = ()  # as of a `Gpu`

    @property
    def label(self) -> str:
        """How people name it."""
        return str(self.index)


class PciPath(StrEnum):
    """How far apart two GPUs are on PCIe, in the words of `nvidia-smi topo -m` (NVML: nvmlGpuTopologyLevel_t)."""

    ONE_SWITCH = "PIX"
    SWITCHES = "PXB"
    HOST_BRIDGE = "PHB"
    NUMA_NODE = "NODE"
    SYSTEM = "SYS"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLink:
    """What joins two whole GPUs."""

    first: str  # UUIDs
    second: str
    pci_path: PciPath | None
    nvlink_count: int | None  # active NVLinks that lead from the first to the second, switches included; 0: none
    peer_access: bool | None  # whether each can read and write the other's memory over NVLink or PCIe


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """Something on the PCI bus that computes, whether or not a driver is there to use it."""

    vendor: str  # "NVIDIA", "AMD", ...
    pci_address: str  # "0000:1b:00.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLimits:
    """What the kernel lets this process have. None: unknown, or no limit."""

    open_files: int | None = None  # that it may raise itself to (RLIMIT_NOFILE, hard)
    locked_memory_bytes: int | None = None  # RLIMIT_MEMLOCK, hard
    processes: int | None = None  # RLIMIT_NPROC, hard, or the control group's pids.max


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine around the GPUs, with the limits of the container or control group that we run in."""

    architecture: str  # "x86_64"
    cpu_count: int  # cores that this process may use
    memory_total_bytes: int
    memory_available_bytes: int
    shm_total_bytes: int | None = None  # /dev/shm
    shm_free_bytes: int | None = None
    numa_node_count: int | None = None
    kernel: str | None = None  # "6.8.0-45-generic"
    init: str | None = None  # the command name of process 1: "systemd", "tini", "bash"
    container: str | None = None  # "docker", "kubernetes", ...; None: none was recognised
    root: bool | None = None  # whether we are user 0
    limits: KernelLimits = KernelLimits()


# Containers that are kept like virtual machines: their limits are set inside, and what is written to their root stays.
PERSISTENT = ("lxc", "lxc-libvirt", "systemd-nspawn", "wsl")


class Storage(StrEnum):
    """How long what is written to a filesystem lives, and how far away it is."""

    LOCAL = "local"  # a disk of this machine, or of this virtual machine
    NETWORK = "network"  # NFS, Lustre, FUSE, ...: locks, sockets and mmap may fail
    EPHEMERAL = "ephemeral"  # a container's own layer: gone with the container
    MEMORY = "memory"  # tmpfs: gone with the next boot, and it takes memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The filesystem under a folder that will hold much."""

    purpose: str  # "engines", "weights", "state" or "runtime"
    path: str  # the folder, which need not exist yet
    total_bytes: int
    free_bytes: int  # for this user
    free_inodes: int | None = None  # None: the filesystem does not count them
    mount: str | None = None  # where the filesystem is mounted
    filesystem: str | None = None  # as the kernel names it: "ext4", "overlay", "nfs4"
    storage: Storage | None = None
    writable: bool | None = None  # for this user, at the first folder of the path that exists


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything that a plan may be made of.

    Either there are `gpus`, or there is a `problem`, or this machine has no accelerator at all. GPUs that fail beside
    others that work are in `unusable_gpus` and are no `problem`.
    """

    host: Host
    gpus: tuple[Gpu, ...] = ()  # those that an engine may use, in the order that CUDA_VISIBLE_DEVICES gives them
    links: tuple[GpuLink, ...] = ()  # one for each pair of whole `gpus`
    driver_version: str | None = None
    cuda_version: tuple[int, int] | None = None  # the newest CUDA that the driver supports
    accelerators: tuple[Accelerator, ...] = ()  # what the PCI bus shows
    problem: str | None = None  # why the GPUs that are there cannot be used, as a sentence
    hint: str | None = None  # what to do about the problem
    unusable_gpus: tuple[UnusableGpu, ...] = ()
    disks: tuple[Disk, ...] = ()
    hidden_gpu_count: int = 0  # GPUs that CUDA_VISIBLE_DEVICES hides from us and from every engine
    ignored_visible_device: str | None = None  # the entry of CUDA_VISIBLE_DEVICES that names no GPU, or several
    silent_disks: tuple[str, ...] = ()  # folders whose disk does not answer, which are not among `disks`
    warnings: tuple[str, ...] = ()  # what is odd and stops nothing, as sentences
    what_if: bool = False  # nobody looked: it was described (hardware/what_if.py)
