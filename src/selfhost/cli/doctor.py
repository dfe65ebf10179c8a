"""`selfhost doctor`: whether this box will serve, and what to fix."""

import math
import os
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click
from click.core import ParameterSource

from selfhost import progress
from selfhost.cli import options, output
from selfhost.doctor import bundle as bundles
from selfhost.doctor.facts import Facts, Problem
from selfhost.doctor.finding import Finding, Severity
from selfhost.doctor.gather import LOOK_SECONDS, Asked, gather
from selfhost.doctor.registry import CHECKS, examine, worst_first
from selfhost.errors import ExitCode
from selfhost.manifest.load import STDIN, load_manifest
from selfhost.manifest.problems import ManifestError

COLOURS: Mapping[Severity, str] = {
    Severity.BLOCKING: "red",
    Severity.WARNING: "yellow",
    Severity.INFO: "cyan",
    Severity.OK: "green",
}
LABEL_WIDTH = max(map(len, Severity)) + 2
LONGEST_SECONDS = 600.0
NARROWEST, WIDEST = 60, 120


@click.command(
    epilog=options.examples(
        "selfhost doctor",
        "selfhost doctor --all",
        "selfhost doctor --quiet && selfhost up",
        "selfhost doctor --json | jq '.findings[] | select(.severity != \"ok\")'",
        "selfhost doctor --deep",
        "selfhost doctor --bundle report.tar.gz",
    )
)
@options.manifest
@options.as_json
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit code says it.")
@click.option("--all", "everything", is_flag=True, help="Show the checks that found nothing wrong, too.")
@click.option("--list", "as_list", is_flag=True, help="List the checks and look at nothing.")
@click.option(
    "--deep", is_flag=True, help="Compute on the GPUs and add up over two of them in the engine's Python, too (< 60 s)."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=LOOK_SECONDS, max=LONGEST_SECONDS),
    default=LOOK_SECONDS,
    show_default=True,
    help="Seconds for the plan and the Hub to answer; a slow machine may need more.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write findings, logs and versions, without secrets, into FILE (.tar.gz or .zip) for a bug report.",
)
@click.pass_context
def doctor(
    ctx: click.Context,
    *,
    manifest_path: Path,
    as_json: bool,
    quiet: bool,
    everything: bool,
    as_list: bool,
    deep: bool,
    timeout: float,
    bundle: Path | None,
) -> int:
    """Say whether this box will serve, what is wrong with it, and how to fix it.

    Without a manifest the box alone is looked at. Ends with 4 when something blocks; warnings change nothing.
    """
    if math.isnan(timeout):  # which is in every range
        raise click.UsageError("--timeout takes a number of seconds")
    if as_list:
        output.table(("id", "looks at"), [(check.id, check.title) for check in CHECKS])
        return ExitCode.OK
    named = ctx.get_parameter_source("manifest_path") is not ParameterSource.DEFAULT
    facts, text = _look(manifest_path if named or manifest_path.exists() else None, timeout)
    if deep:
        facts = _deeper(facts, quiet=quiet)
    findings = worst_first(examine(facts))
    if as_json:
        output.json_document({"findings": [asdict(finding) for finding in findings], "counts": _counts(findings)})
    elif not quiet:
        _show(findings, facts, everything=everything)
    if bundle:
        files = bundles.write(bundle, findings, facts, text)
        if not quiet:
            output.say(f"wrote {bundle}, readable by you alone; look at it before you send it:")
            output.say("\n".join(f"  {name}" for name in sorted(files)))
    blocks = any(finding.severity is Severity.BLOCKING for finding in findings)
    return ExitCode.BLOCKED if blocks else ExitCode.OK


def _look(manifest_path: Path | None, seconds: float) -> tuple[Facts, str | None]:
    """The facts, and the manifest as it was written."""
    if manifest_path is None:
        return gather(os.environ, seconds=seconds), None
    if manifest_path == STDIN:
        raise click.UsageError("doctor reads the manifest more than once: name a file")
    try:
        manifest = load_manifest(manifest_path)
        text = manifest_path.read_text(encoding="utf-8-sig")
    except ManifestError as error:
        problem = Problem(message=error.message, hint=error.hint)
        return gather(os.environ, manifest_problem=problem, seconds=seconds), None
    command = [sys.executable, "-P", "-m", "selfhost", "plan", "--json", "--file", str(manifest_path)]
    return gather(os.environ, Asked(manifest=manifest, text=text, plan_command=command), seconds=seconds), text


def _deeper(facts: Facts, *, quiet: bool) -> Facts:
    from selfhost.doctor import look_deep

    if quiet:
        return replace(facts, deep=look_deep.look(facts, progress.ignore))
    with output.ProgressLine("deep checks") as line:
        return replace(facts, deep=look_deep.look(facts, line.report))


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    counted = Counter(finding.severity for finding in findings)
    return {severity.value: counted[severity] for severity in Severity}


def _show(findings: Sequence[Finding], facts: Facts, *, everything: bool) -> None:
    counts = _counts(findings)
    for finding in findings:
        if everything or finding.severity is not Severity.OK:
            _show_finding(finding)
    if counts["ok"] and not everything:
        more = "" if counts["ok"] == len(findings) else "the other "
        output.labelled(Severity.OK.ljust(LABEL_WIDTH), COLOURS[Severity.OK], f"{more}{counts['ok']} checks")
    asked = facts.manifest is not None or facts.manifest_problem is not None
    subject = "this box" if asked else "this box (no models.yaml here)"
    warnings = f", with {_number(counts['warning'], 'warning')}" if counts["warning"] else ""
    if counts["blocking"]:
        output.say(f"\n{subject} will not serve: {_number(counts['blocking'], 'thing')} to fix first")
    elif asked and not facts.deployments:
        output.say(f"\n{subject} could serve{warnings}; whether the manifest fits it is not known: selfhost plan")
    else:
        output.say(f"\n{subject} will serve{warnings}")


def _show_finding(finding: Finding) -> None:
    """The sentence, wrapped where a person reads it; the fix alone on a line, so that it can be copied."""
    first, *more = finding.sentence.splitlines()
    lines = [*_wrapped(f"{first} [{finding.check}]" if not more else first), *more]
    if more:
        lines[-1] += f" [{finding.check}]"
    output.labelled(finding.severity.ljust(LABEL_WIDTH), COLOURS[finding.severity], lines[0])
    for line in lines[1:]:
        output.data(" " * LABEL_WIDTH + line)
    if finding.fix:
        output.data(" " * LABEL_WIDTH + "  " + finding.fix)


def _wrapped(text: str) -> list[str]:
    if sys.stdout is None or not sys.stdout.isatty():  # None: it is closed
        return [text]
    columns = min(WIDEST, max(NARROWEST, shutil.get_terminal_size().columns))
    return textwrap.wrap(text, columns - LABEL_WIDTH, break_long_words=False, break_on_hyphens=False)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"
