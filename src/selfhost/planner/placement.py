"""Which devices each replica gets. Pure and deterministic: the same question always has the same answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from selfhost.planner.devices import Device

Kind = tuple[Device, ...]  # devices of one name and size, which can work together


@dataclass(slots=True)
class Ledger:
    """How much of each device has been promised while a plan is being made."""

    devices: tuple[Device, ...]
    promised: dict[str, list[int]] = field(default_factory=dict)  # device id → bytes of each replica on it

    def copy(self) -> "Ledger":
        """A ledger to try something in."""
        return Ledger(self.devices, {device: list(replicas) for device, replicas in self.promised.items()})

    def kinds(self) -> tuple[Kind, ...]:
        """The devices, those of one kind together, in the order of their first member."""
        kinds: dict[tuple[str | None, int], list[Device]] = {}
        for device in self.devices:
            kinds.setdefault((device.name, device.total.bytes), []).append(device)
        return tuple(tuple(kind) for kind in kinds.values())

    def offer(self, device: Device, utilization: float) -> int:
        """Bytes that one more replica may take of `device` when it may use this share of its total."""
        limit = min(device.usable_bytes, int(device.total.bytes * utilization))
        return limit - sum(self.promised.get(device.id, ()))

    def find(self, kind: Kind, *, needed_bytes: int, utilization: float, count: int) -> Kind | None:
        """`count` devices of `kind` that each have `needed_bytes` left, or None; the idlest first, then by position."""
        fitting = [device for device in kind if self.offer(device, utilization) >= needed_bytes]
        fitting.sort(key=lambda device: (len(self.promised.get(device.id, ())), device.position))
        if len(fitting) < count:
            return None
        return tuple(sorted(fitting[:count], key=lambda device: device.position))

    def promise(self, devices: Sequence[Device], needed_bytes: int) -> None:
        """Write down a replica that needs this much on each of `devices`."""
        for device in devices:
            self.promised.setdefault(device.id, []).append(needed_bytes)

    def share(self, device: Device, utilization: float) -> int:
        """What each replica on `device` may take beyond its needs: the rest, in equal parts."""
        return max(0, self.offer(device, utilization)) // len(self.promised[device.id])

    def largest_offer(self, kind: Kind, utilization: float, count: int) -> int:
        """The most that `count` devices of `kind` have left on each of them; 0 when there are not that many."""
        offers = sorted((self.offer(device, utilization) for device in kind), reverse=True)
        return max(0, offers[count - 1]) if count <= len(offers) else 0
