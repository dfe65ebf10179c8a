"""What the checks of the GPUs answer, as values. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from selfhost.planner.link_test import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCopy:
    """What a copy from one GPU's memory into another's came to."""

    first: str  # UUIDs
    second: str
    access: bool  # the driver offers to copy directly
    intact: bool  # what arrived is what was sent


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaProof:
    """How far CUDA went in an engine's environment."""

    torch: str | None = None
    cuda: str | None = None  # that torch was built with; None: it was built without
    device_count: int | None = None
    computing: tuple[str, ...] = ()  # the GPUs on which a kernel ran
    copies: tuple[PeerCopy, ...] = ()
    error: str | None = None  # what torch says
    hang: str | None = None  # what did not come to its end: "initialising CUDA"
    cut: bool = False  # the time was over before it could

    @property
    def works(self) -> bool:
        """Everything was answered, and nothing wrong."""
        return self.error is None and self.hang is None and not self.cut


class Outcome(StrEnum):
    """How an all-reduce ended."""

    OK = "ok"
    ERROR = "error"
    HANG = "hang"
    CUT = "cut"  # the time was over, or the memory, before it could show anything about the links


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One all-reduce with certain settings of NCCL."""

    settings: Settings
    outcome: Outcome
    gib_per_second: float | None = None
    words: str = ""  # the error, or the last that NCCL said
