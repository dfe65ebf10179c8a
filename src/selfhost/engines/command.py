"""How a process is started: its command line and its whole environment, with nothing inherited by accident."""

from collections.abc import Mapping
from dataclasses import dataclass, field

HIDDEN = "********"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """An argv and the complete environment of the child; the names in `secrets` are never shown."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    secrets: frozenset[str] = field(default_factory=frozenset)

    def redacted_env(self) -> dict[str, str]:
        """The environment as it may be shown."""
        return {name: HIDDEN if name in self.secrets else value for name, value in self.env.items()}
