"""The limits that control groups set on this process: in a container the machine's own numbers are a lie."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from selfhost.hardware.kernel_file import number, read_text

# Where the hierarchies are mounted everywhere, and which line of /proc/self/cgroup says our place in them: "" is
# version 2's line, the others are controllers of version 1. A machine has the first, or some of the others.
_HIERARCHIES = (
    ("sys/fs/cgroup", ""),
    ("sys/fs/cgroup/unified", ""),
    ("sys/fs/cgroup/memory", "memory"),
    ("sys/fs/cgroup/cpu", "cpu"),
    ("sys/fs/cgroup/cpu,cpuacct", "cpu"),
    ("sys/fs/cgroup/pids", "pids"),
)
_NO_LIMIT = 2**60  # version 1 writes "no limit" as the largest multiple of a page


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What all groups above this process allow together; None where no group says anything."""

    cpu_cores: float | None = None
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    processes: int | None = None  # threads count too


def read_limits(root: Path) -> Limits:
    """The tightest limits from our own group up to the root: each group above bounds all that are in it."""
    groups = list(_groups(root))
    cores = [_cores(group) for group in groups]
    totals = [_memory_total(group) for group in groups]
    availables = [_memory_available(group) for group in groups]
    processes = [_number(group / "pids.max") for group in groups]
    return Limits(
        cpu_cores=min((count for count in cores if count is not None), default=None),
        memory_total_bytes=min((count for count in totals if count is not None), default=None),
        memory_available_bytes=min((count for count in availables if count is not None), default=None),
        processes=min((count for count in processes if count is not None), default=None),
    )


def _groups(root: Path) -> Iterator[Path]:
    """The folder of every group that this process is in, of every hierarchy, from the top down."""
    places = _places(root)
    for mount, controller in _HIERARCHIES:
        group = root / mount
        yield group
        # In a container the place may be the host's path, which the container does not show: its own group is then the
        # mount itself. A path that starts with ".." leads out of our namespace.
        parts = places.get(controller, "").strip("/").split("/")
        for part in () if ".." in parts else filter(None, parts):
            group /= part
            yield group


def _places(root: Path) -> dict[str, str]:
    places = {}
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, _, place = line.partition(":")
        controllers, _, path = place.partition(":")
        places.update(dict.fromkeys(controllers.split(","), path))
    return places


def _memory_total(group: Path) -> int | None:
    # memory.high is no hard limit, but above it the kernel slows a group to a crawl
    limits = [_number(group / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
    return min((limit for limit in limits if limit is not None and limit < _NO_LIMIT), default=None)


def _memory_available(group: Path) -> int | None:
    total = _memory_total(group)
    used = _number(group / "memory.current")
    if used is None:
        used = _number(group / "memory.usage_in_bytes")
    if total is None or used is None:
        return None
    return max(0, total - used + _page_cache(group))


def _page_cache(group: Path) -> int:
    """Bytes that count as used and that the kernel gives back when somebody needs them; tmpfs is not among them."""
    lines = (read_text(group / "memory.stat") or "").splitlines()
    stat = {field: number(value) or 0 for field, _, value in (line.partition(" ") for line in lines)}
    # version 1 counts the groups below only in the fields with `total_`
    return sum(stat.get(f"total_{field}", stat.get(field, 0)) for field in ("active_file", "inactive_file"))


def _cores(group: Path) -> float | None:
    quota, _, period = (read_text(group / "cpu.max") or "").partition(" ")
    if not quota:
        quota, period = read_text(group / "cpu.cfs_quota_us") or "", read_text(group / "cpu.cfs_period_us") or ""
    microseconds, of = number(quota), number(period)
    return microseconds / of if microseconds is not None and of else None  # "max", and -1 in version 1, are no quota


def _number(path: Path) -> int | None:
    return number(read_text(path) or "")
