"""What the manifests of this machine claim of each device, and what that leaves to the next one. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfhost.planner.routing import ReplicaState
from selfhost.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one replica claims of one device."""

    replica: str  # "chat/0"
    device: str  # the UUID of a GPU or MIG device, or "host"
    bytes: int  # what it is to hold once the accepted plan is carried out; 0: it leaves
    held_bytes: int  # what it holds by now, and what is therefore not free any more for whoever measures
    state: ReplicaState


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestClaims:
    """The claims of one manifest."""

    manifest: str
    claims: tuple[Claim, ...]

    def held_bytes(self, device: str) -> int:
        """What its engines hold of `device`."""
        return sum(claim.held_bytes for claim in self.claims if claim.device == device)

    def promised_bytes(self, device: str) -> int:
        """The most that it will hold of `device` at any time: whatever leaves a device leaves before others start."""
        wanted = sum(claim.bytes for claim in self.claims if claim.device == device)
        return max(self.held_bytes(device), wanted)


def pending_bytes(others: Sequence[ManifestClaims], device: str) -> int:
    """What `others` have been promised of `device` and do not hold yet: it looks free, and is not."""
    return sum(each.promised_bytes(device) - each.held_bytes(device) for each in others)


def describe(others: Sequence[ManifestClaims], device: str) -> str:
    """Who else claims `device`, and how much: "'left' (21.9 GiB)"; "" when nobody does."""
    promised = {each.manifest: each.promised_bytes(device) for each in others}
    return ", ".join(f"'{name}' ({format_bytes(count)})" for name, count in sorted(promised.items()) if count)
