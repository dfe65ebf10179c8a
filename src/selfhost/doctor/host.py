"""Checks of the machine or container around the GPUs. Pure."""

from collections.abc import Iterator

from selfhost.doctor.container import Setting, is_limited, start_with
from selfhost.doctor.facts import Facts
from selfhost.doctor.finding import Verdict, blocking, fine, note, warning
from selfhost.units import GIB, MIB, format_bytes

SHM = "/dev/shm"  # noqa: S108 (where POSIX shared memory is)

# vLLM makes segments of 160 to 240 MiB (measured), sparse until they are used; NCCL takes its own at once, and for it
# Docker's default of 64 MiB is too small (vllm#1710).
SHM_FULL_BYTES = MIB
SHM_SPLIT_BYTES = 256 * MIB  # below it GPUs without peer access cannot talk, and those with it may not
SHM_GOOD_BYTES = GIB

FILES_LEAST, FILES_GOOD = 256, 8192  # a stream through the gateway takes two
PROCESSES_LEAST, PROCESSES_GOOD = 512, 4096  # threads count; an engine has hundreds
MEMORY_OF_ENGINE_BYTES = 4 * GIB  # host memory of vLLM's processes on a GPU box; an estimate
RDMA_BYTES = 64 * MIB

_LIMITS = {  # a line of limits.conf, and what root does, whom it does not concern
    Setting.OPEN_FILES: ("* - nofile 65536", "ulimit -n 65536"),
    # fork(2): RLIMIT_NPROC is not enforced for root, which leaves the control group's pids.max
    Setting.PROCESSES: ("* - nproc 65536", "systemctl set-property user-0.slice TasksMax=infinity"),
    Setting.LOCKED_MEMORY: ("* - memlock unlimited", "ulimit -l unlimited"),
}
_ALL_CORES = (
    "nproc --all; taskset -cp $$  # if the machine has more: an affinity, or CPUQuota of systemd, withholds them"
)

_INITS = {"systemd", "init", "tini", "dumb-init", "docker-init", "catatonit", "s6-svscan", "runit", "launchd"}


def shm_size(facts: Facts) -> Iterator[Verdict]:
    """`/dev/shm`, through which the processes of an engine talk."""
    total, free = facts.inventory.host.shm_total_bytes, facts.inventory.host.shm_free_bytes
    if total is None or free is None:
        return
    split = max((each.tensor_parallel_size for each in facts.deployments), default=1)
    fix = _larger_shm(facts)
    if free < SHM_FULL_BYTES:
        yield blocking(
            f"{SHM} is full ({format_bytes(free)} of {format_bytes(total)} free): no engine can start",
            fix=f"ls -lS {SHM} | head; selfhost down",
        )
    elif split > 1 and total < SHM_SPLIT_BYTES:
        links = facts.inventory.links
        direct = bool(links) and all(link.peer_access for link in links)
        yield (warning if direct else blocking)(
            f"{SHM} has {format_bytes(total)}, and the {split} GPUs of a split model want "
            f"{format_bytes(SHM_SPLIT_BYTES)} to talk through it",
            fix=fix,
        )
    elif total < SHM_GOOD_BYTES:
        yield warning(
            f"{SHM} has {format_bytes(total)} (Docker's default is 64 MiB): engines that use several processes fail "
            "or crash with a bus error",
            fix=fix,
        )
    elif free < SHM_SPLIT_BYTES:
        yield warning(f"{SHM} has {format_bytes(free)} of {format_bytes(total)} free", fix=f"ls -lS {SHM} | head")
    else:
        yield fine(f"{SHM} has {format_bytes(free)} of {format_bytes(total)} free")


def open_files(facts: Facts) -> Iterator[Verdict]:
    """How many files and sockets a process may have."""
    limit = facts.inventory.host.limits.open_files
    if limit is None:
        return
    sentence = f"a process may open {limit:,} files, which is about {limit // 2:,} requests at once"
    if limit < FILES_LEAST:
        yield blocking(sentence, fix=_raise_limit(facts, Setting.OPEN_FILES))
    elif limit < FILES_GOOD:
        yield warning(sentence, fix=_raise_limit(facts, Setting.OPEN_FILES))
    else:
        yield fine(sentence)


def processes(facts: Facts) -> Iterator[Verdict]:
    """How many processes and threads there may be."""
    limit = facts.inventory.host.limits.processes
    if limit is None:
        return
    sentence = f"there may be {limit:,} processes and threads; an engine has hundreds"
    fix = _raise_limit(facts, Setting.PROCESSES)
    if limit < PROCESSES_LEAST:
        yield blocking(sentence, fix=fix)
    elif limit < PROCESSES_GOOD:
        yield warning(sentence, fix=fix)
    else:
        yield fine(sentence)


def locked_memory(facts: Facts) -> Iterator[Verdict]:
    """How much memory a process may pin, which only GPUs that talk over a network of RDMA adapters need."""
    limit = facts.inventory.host.limits.locked_memory_bytes
    if len(facts.inventory.gpus) > 1 and limit is not None and limit < RDMA_BYTES:
        yield note(
            f"a process may lock {format_bytes(limit)} of memory: too little for InfiniBand or RoCE between machines",
            fix=_raise_limit(facts, Setting.LOCKED_MEMORY),
        )


def memory(facts: Facts) -> Iterator[Verdict]:
    """The host's memory for the processes of engines on GPUs; on a CPU box the plan counts it."""
    host = facts.inventory.host
    sentence = (
        f"{format_bytes(host.memory_available_bytes)} of {format_bytes(host.memory_total_bytes)} of the host's memory "
        "is available"
    )
    engines = sum(len(each.replicas) for each in facts.deployments) or 1
    if facts.inventory.gpus and host.memory_available_bytes < engines * MEMORY_OF_ENGINE_BYTES:
        yield warning(
            f"{sentence}, and {engines} engine{'s' if engines > 1 else ''} take about "
            f"{format_bytes(engines * MEMORY_OF_ENGINE_BYTES)}: the kernel may kill them (exit by signal 9)",
            fix=start_with(host, Setting.MEMORY) if is_limited(host) else "ps -eo rss,pid,comm --sort=-rss | head",
        )
    else:
        yield fine(sentence)


def cores(facts: Facts) -> Iterator[Verdict]:
    """Cores for the processes of engines: vLLM asks for two and one per GPU (docs: Optimization, CPU resources)."""
    host, gpus = facts.inventory.host, len(facts.inventory.gpus)
    needed = 2 + gpus
    if gpus and host.cpu_count < needed:
        yield warning(
            f"{_cores(host.cpu_count)} for {gpus} GPU{'s' if gpus > 1 else ''}: vLLM asks for {needed}, and with fewer "
            "the GPUs wait for the CPU",
            fix=start_with(host, Setting.CORES, cores=needed) if is_limited(host) else _ALL_CORES,
        )
    else:
        yield fine(_cores(host.cpu_count))


def reaping(facts: Facts) -> Iterator[Verdict]:
    """Process 1 of a container should collect the processes that nobody waits for."""
    host = facts.inventory.host
    if not is_limited(host) or host.init is None:
        return
    if host.init in _INITS:
        yield fine(f"process 1 is {host.init}")
    else:
        yield note(
            f"process 1 of this container is {host.init}, which may not collect ended processes: they pile up as "
            "zombies",
            fix=start_with(host, Setting.INIT),
        )


def _cores(count: int) -> str:
    return f"{count} core{'s' if count > 1 else ''}"


def _larger_shm(facts: Facts) -> str | None:
    host = facts.inventory.host
    return start_with(host, Setting.SHM) if is_limited(host) else f"sudo mount -o remount,size=8g {SHM}"


def _raise_limit(facts: Facts, setting: Setting) -> str | None:
    """The limits that are looked at are the hard ones, which root alone may raise (getrlimit(2))."""
    host = facts.inventory.host
    if is_limited(host):
        return start_with(host, setting)
    line, by_root = _LIMITS[setting]
    return by_root if host.root else f"echo '{line}' | sudo tee -a /etc/security/limits.conf  # then log in again"
