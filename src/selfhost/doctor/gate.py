"""What `up` asks before it installs, fetches or starts anything. Pure."""

from selfhost.doctor.facts import Facts
from selfhost.doctor.finding import Finding, Severity
from selfhost.doctor.registry import CHECKS, examine
from selfhost.errors import BlockedError


def require_no_blocker(facts: Facts) -> int:
    """Raise `BlockedError` with everything that blocks, in the words of `doctor`; else the number of warnings."""
    findings = examine(facts, [check for check in CHECKS if check.gate])
    blockers = [finding for finding in findings if finding.severity is Severity.BLOCKING]
    if len(blockers) == 1:
        raise BlockedError(blockers[0].sentence, hint=blockers[0].fix)
    if blockers:
        raise BlockedError(
            "this box will not serve:\n" + "\n".join(line for blocker in blockers for line in _lines(blocker)),
            hint="selfhost doctor shows these and what else is wrong; nothing was installed or started",
        )
    return sum(finding.severity is Severity.WARNING for finding in findings)


def _lines(finding: Finding) -> list[str]:
    return [f"  {finding.sentence}", *([f"    {finding.fix}"] if finding.fix else [])]
