"""Who holds what of each device: the part of `selfhost gpus` about our own engines."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from selfhost.hardware.inventory import Inventory
from selfhost.planner.claims import ManifestClaims
from selfhost.units import format_bytes

HEADERS = ("device", "manifest", "replica", "holds", "claims", "state")


def rows(inventory: Inventory, ledger: Sequence[ManifestClaims]) -> list[tuple[str, ...]]:
    """One row for each replica on each device: the devices in the inventory's order, those that are not in it last."""
    labels = {gpu.uuid: gpu.label for gpu in inventory.gpus}
    order = {device: number for number, device in enumerate(labels)}
    claims = [(each.manifest, claim) for each in ledger for claim in each.claims]
    claims.sort(key=lambda item: (order.get(item[1].device, len(order)), item[1].device, item[0], item[1].replica))
    return [
        (
            labels.get(claim.device, claim.device),
            manifest,
            claim.replica,
            format_bytes(claim.held_bytes),
            format_bytes(claim.bytes),
            claim.state,
        )
        for manifest, claim in claims
    ]


def documents(ledger: Sequence[ManifestClaims]) -> list[dict[str, Any]]:
    """The same for programs: one document for each replica on each device, in bytes and UUIDs."""
    return [{"manifest": each.manifest, **asdict(claim)} for each in ledger for claim in each.claims]
