"""What is wrong with a manifest: one line per problem, all of them at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfhost.errors import SelfhostError

MAX_SHOWN = 50  # lines; a file with more problems is not a manifest


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where it is, and what would be right."""

    line: int | None  # None: the file as a whole
    path: str  # "models.0.name"; empty: the document as a whole
    message: str
    hint: str | None = None

    def in_file(self, file: str) -> str:
        """`models.yaml:6: models.0.quantisation: unknown key; did you mean ...?`, which editors can jump to."""
        where = ":".join(part for part in (file, f"{self.line}" if self.line else "") if part)
        sentence = "; ".join(part for part in (self.message, self.hint) if part)
        return ": ".join(part for part in (where, self.path, sentence) if part)


class ManifestError(SelfhostError):
    """A manifest that cannot be used; `problems` holds everything that is wrong with it, in the order of lines."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        lines = [problem.in_file(file) for problem in self.problems[:MAX_SHOWN]]
        if len(lines) > 1:
            lines.insert(0, f"{file} has {len(self.problems)} problems")
        if len(self.problems) > MAX_SHOWN:
            lines.append(f"... and {len(self.problems) - MAX_SHOWN} more")
        super().__init__("\n".join(lines))
