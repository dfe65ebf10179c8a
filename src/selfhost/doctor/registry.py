"""Every check of `selfhost doctor`, in the order in which findings of the same weight are shown. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from selfhost.doctor import cuda, deep, disks, engine, gpu_health, gpus, host, leftovers, network, secrets
from selfhost.doctor.facts import Facts, NotLooked
from selfhost.doctor.finding import Finding, Severity, Verdict, note

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check(Generic[T]):
    """One check: what it looks at, and what it makes of that."""

    id: str
    title: str  # "the size of /dev/shm"
    of: Callable[[Facts], T | NotLooked | None]  # None: it means nothing on this box
    find: Callable[[T], Iterable[Verdict]]
    gate: bool = False  # `up` runs it before it installs or fetches anything

    def examine(self, facts: Facts) -> Iterator[Finding]:
        """What it says; that it could not look is said, too."""
        looked_at = self.of(facts)
        if looked_at is None:
            return
        if isinstance(looked_at, NotLooked):
            verdicts: Iterable[Verdict] = (note(f"{self.title} could not be looked at: {looked_at.cause}"),)
        else:
            verdicts = self.find(looked_at)
        root = facts.inventory.host.root is True
        for verdict in verdicts:
            fix = without_sudo(verdict.fix) if root and verdict.fix else verdict.fix
            yield Finding(check=self.id, severity=verdict.severity, sentence=verdict.sentence, fix=fix)


def without_sudo(commands: str) -> str:
    """`commands` for user 0, who needs no sudo: most containers have none."""
    return re.sub(r"\bsudo ", "", commands)


def _whole(facts: Facts) -> Facts:
    return facts


CHECKS: tuple[Check, ...] = (  # type: ignore[type-arg] # each of another fact
    Check("manifest", "the manifest", lambda facts: facts.manifest_problem, engine.manifest),
    Check("gpu-driver", "the NVIDIA driver and its GPUs", _whole, gpus.driver, gate=True),
    Check("gpu-unusable", "GPUs that fail beside others", lambda facts: facts.inventory, gpus.unusable),
    Check("gpu-mig", "the numbers of MIG devices", lambda facts: facts.inventory, gpus.mig_numbers),
    Check("gpu-visibility", "CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER", _whole, gpus.visibility),
    Check("driver-build", "the driver against the builds of the engine", engine.wanted_of, engine.build, gate=True),
    Check("cuda-init", "a real start of CUDA", cuda.cuda_of, cuda.cuda_init, gate=True),
    Check("cuda-engine", "CUDA in the engine's Python (--deep)", deep.proved_of, deep.engine_cuda),
    Check("peer-copies", "copies between every two GPUs (--deep)", deep.copies_of, deep.peer_copies),
    Check("all-reduce", "an all-reduce over two GPUs (--deep)", deep.all_reduce_of, deep.all_reduce),
    Check("gpu-memory-errors", "ECC errors and memory rows", lambda facts: facts.inventory, gpu_health.memory_errors),
    Check("gpu-xid", "GPU errors in the kernel's log", lambda facts: facts.inventory, gpu_health.xids),
    Check("gpu-power", "power caps", lambda facts: facts.inventory, gpu_health.power),
    Check("gpu-peer-access", "peer access between pairs of GPUs", _whole, gpus.peer_access),
    Check("gpu-memory-held", "GPU memory that others hold", lambda facts: facts.inventory, gpu_health.held_memory),
    Check("plan", "whether the manifest fits this box", lambda facts: facts.planned, engine.plan),
    Check(
        "engine-needs",
        "what an engine needs of this machine",
        lambda facts: facts.engine_problems,
        engine.installable,
        gate=True,
    ),
    Check("engine-holes", "engines with known security holes", lambda facts: facts.engines, engine.known_holes),
    Check("shm-size", "the shared memory of processes", _whole, host.shm_size, gate=True),
    Check("open-files", "the limit of open files", _whole, host.open_files, gate=True),
    Check("processes", "the limit of processes", _whole, host.processes, gate=True),
    Check("locked-memory", "the limit of locked memory", _whole, host.locked_memory),
    Check("host-memory", "the host's memory", _whole, host.memory),
    Check("cpu-cores", "the cores", _whole, host.cores),
    Check("init-process", "process 1 of a container", _whole, host.reaping),
    Check("disk-answers", "whether disks answer", lambda facts: facts.inventory, disks.answering, gate=True),
    Check("disk-writable", "whether folders can be written", _whole, disks.writable, gate=True),
    Check("disk-room", "free bytes", _whole, disks.room, gate=True),
    Check("disk-inodes", "free inodes", lambda facts: facts.inventory, disks.inodes),
    Check(
        "disk-storage",
        "local, network and short-lived filesystems",
        lambda facts: facts.inventory,
        disks.storage,
        gate=True,
    ),
    Check("gateway-port", "the gateway's address", lambda facts: facts.port, network.gateway_port, gate=True),
    Check("public-listeners", "who listens publicly", lambda facts: facts.listeners, network.public_listeners),
    Check("hub-access", "access to the Hub", network.hub_of, network.hub_access),
    Check("clock", "the clock", network.clock_of, network.clock),
    Check("secret-modes", "files with secrets", lambda facts: facts.private_files, secrets.file_modes),
    Check("secrets-in-manifest", "keys in the manifest", lambda facts: facts.secrets_in_manifest, secrets.in_manifest),
    Check("crashed-runs", "what crashed runs left", lambda facts: facts.leftovers, leftovers.runs),
    Check("unfinished-engines", "engines never finished", lambda facts: facts.leftovers, leftovers.builds),
    Check("unfinished-downloads", "half-fetched weights", lambda facts: facts.leftovers, leftovers.downloads),
)

_ORDER = list(Severity)


def examine(facts: Facts, checks: Iterable[Check] = CHECKS) -> list[Finding]:  # type: ignore[type-arg] # as above
    """What `checks` say about `facts`; what two of them say alike is said once."""
    found = [finding for check in checks for finding in check.examine(facts)]
    return list({finding.sentence: finding for finding in reversed(found)}.values())[::-1]


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sorted by how bad they are, and otherwise as they came."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))
