"""What Xid errors mean: NVIDIA's "XID Errors" document (docs.nvidia.com/deploy/xid-errors), in few words. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple


class Blame(Enum):
    """What caused it."""

    PROGRAM = auto()
    GPU = auto()


class Meaning(NamedTuple):
    """What an Xid says."""

    words: str
    blame: Blame


_OF_A_PROGRAM = Meaning("error of a program", Blame.PROGRAM)

MEANINGS: Mapping[int, Meaning] = {
    13: _OF_A_PROGRAM,
    31: _OF_A_PROGRAM,
    43: _OF_A_PROGRAM,
    45: _OF_A_PROGRAM,
    48: Meaning("uncorrectable memory error", Blame.GPU),
    63: Meaning("a memory row is to be replaced", Blame.GPU),
    64: Meaning("a memory row could not be replaced", Blame.GPU),
    74: Meaning("NVLink error", Blame.GPU),
    79: Meaning("fell off the bus", Blame.GPU),
    94: Meaning("memory error, contained", Blame.GPU),
    95: Meaning("memory error, not contained", Blame.GPU),
    119: Meaning("its firmware does not answer", Blame.GPU),
    120: Meaning("its firmware failed", Blame.GPU),
}


def of_gpu(xid: int) -> bool:
    """Whether `xid` is known to tell that the GPU, and no program, is at fault."""
    return xid in MEANINGS and MEANINGS[xid].blame is Blame.GPU


def describe(xids: Sequence[int]) -> str:
    """`xids`, latest last, as text: `31 × 2 (error of a program), 74 (NVLink error)`."""
    latest_last = Counter(reversed(xids))
    told = [
        f"{xid}{f' × {count}' if count > 1 else ''}{f' ({MEANINGS[xid].words})' if xid in MEANINGS else ''}"
        for xid, count in reversed(latest_last.items())
    ]
    return ", ".join(told)
