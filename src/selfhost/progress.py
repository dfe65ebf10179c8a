"""Progress of long work (building an environment, fetching weights) as values and as JSON lines between processes."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One thing worth telling about work that is under way."""

    phase: str  # "resolving", "downloading", "installing", "verifying", ...
    message: str  # a short sentence for people
    done_bytes: int | None = None
    total_bytes: int | None = None

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> "Progress":
        """Read what `to_json` wrote; raises `ValueError` for anything else."""
        try:
            return cls(**json.loads(line))
        except TypeError as error:
            raise ValueError(f"not a progress line: {line!r}") from error


Report = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """A `Report` for callers that do not want to hear about it."""
    del progress
