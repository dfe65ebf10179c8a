"""What `source: auto` means on this box, and what the engines compute on. Pure."""

from dataclasses import dataclass

from selfhost.demo import VARIANTS
from selfhost.errors import BlockedError
from selfhost.hardware.inventory import Inventory
from selfhost.planner.plan import Platform

AUTO = "auto"
BUILT_IN = VARIANTS[0]  # for boxes without an accelerator
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
    if inventory.problem and asked not in VARIANTS:
        raise BlockedError(f"no GPU can be used: {inventory.problem}", hint=inventory.hint)
    if asked != AUTO:
        return Source(source=asked, cause=f"source: {asked}")
    if inventory.gpus:
        return Source(source=CATALOGUE, cause=f"source: auto, an NVIDIA GPU: the catalogue's {CATALOGUE}")
    return Source(source=BUILT_IN, cause="source: auto, no accelerator on the PCI bus: the built-in model")
