"""What `source: auto` means on this box, and what the engines compute on. Pure."""

from dataclasses import dataclass

from selfhost.errors import BlockedError
from selfhost.hardware.inventory import Inventory
from selfhost.planner.plan import Platform

AUTO = "auto"
BUILT_IN = "demo-a"  # for boxes without an accelerator
CATALOGUE = "qwen3-8b"  # for boxes with an NVIDIA GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model source that can be looked up, and why it is this one."""

    source: str
    cause: str


def choose_platform(inventory: Inventory) -> Platform:
    """The GPUs when there are usable ones, else the CPU."""
    return Platform.CUDA if inventory.gpus else Platform.CPU


def choose_source(asked: str, inventory: Inventory) -> Source:
    """Resolve `auto`.

    Raises `BlockedError` when a GPU is there but cannot be used: a toy that answers in its place would hide that.
    """
    if inventory.problem and asked != BUILT_IN:
        raise BlockedError(
            f"a GPU is there but cannot be used: {inventory.problem}",
            hint=f"mend that and see `selfhost gpus`; or write `source: {BUILT_IN}` for the built-in model on the CPU",
        )
    if asked != AUTO:
        return Source(source=asked, cause=f"source: {asked}")
    if inventory.gpus:
        return Source(source=CATALOGUE, cause=f"source: auto, an NVIDIA GPU: the catalogue's {CATALOGUE}")
    if inventory.accelerators:
        found = ", ".join(sorted({accelerator.vendor for accelerator in inventory.accelerators}))
        raise BlockedError(
            f"there is an accelerator ({found}) that selfhost cannot use",
            hint=f"selfhost serves on NVIDIA GPUs; write `source: {BUILT_IN}` for the built-in model on the CPU",
        )
    return Source(source=BUILT_IN, cause="source: auto, no accelerator on the PCI bus: the built-in model")
