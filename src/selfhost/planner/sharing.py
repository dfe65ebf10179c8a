"""Who must give up GPU memory that it holds, so that others of the plan can start. Pure."""

from collections.abc import Collection, Iterator, Mapping

from selfhost.planner.plan import Replica

MEASURED_DRIFT = 0.01  # of a GPU: so much does a plan move from one minute to the next with what is measured as free


def giving_way(
    planned: Mapping[str, Replica], running: Mapping[str, Replica], starting: Collection[str]
) -> dict[str, str]:
    """Which running replicas hold more of a GPU than the plan leaves them while somebody starts there, and for whom.

    All by name: `running` is what holds memory or soon will, as it was started; `starting` is what starts anew. An
    engine takes its memory once, when it starts, so it can only give some up by starting again. Those that hold the
    most beyond their share go first, and no more than needed. Nobody starts again to hold more: what a removed model
    leaves stays free until a change or a crash brings a new start anyway. Nor on a CPU box, where every replica is
    given exactly what its requests need, however many others there are.
    """
    kept = {name for name in planned if name in running and name not in starting}
    causes: dict[str, str] = {}
    for gpu, label in _gpus(planned.values()):
        newcomers = [
            name
            for name in starting
            if gpu in planned[name].gpu_uuids and _share(planned[name], gpu) > _share(running.get(name), gpu)
        ]
        if not newcomers:
            continue
        beyond = {name: _share(running[name], gpu) - _share(planned[name], gpu) for name in kept}
        missing = sum(beyond.values())
        for name in sorted(beyond, key=lambda name: (-beyond[name], name)):
            if missing <= MEASURED_DRIFT or beyond[name] <= 0:
                break
            missing -= beyond[name]
            kept.remove(name)
            causes[name] = f"gives up memory on GPU {label} for {', '.join(newcomers)}"
    return causes


def _gpus(replicas: Collection[Replica]) -> Iterator[tuple[str, str]]:
    """Every GPU that is used, with its label, in the order of the labels as numbers."""
    used = {gpu: label for each in replicas for gpu, label in zip(each.gpu_uuids, each.gpu_labels, strict=True)}
    yield from sorted(used.items(), key=lambda item: [int(number) for number in item[1].split(":")])


def _share(replica: Replica | None, gpu: str) -> float:
    if replica is None or gpu not in replica.gpu_uuids:
        return 0.0
    return replica.gpu_memory_utilization or 0.0
