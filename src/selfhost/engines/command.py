"""How a process is started: its command line and its whole environment, with nothing inherited by accident."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """An argv and the complete environment of the child, which holds a key and is never shown."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
