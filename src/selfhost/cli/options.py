"""Options that several verbs share, each defined once."""

from pathlib import Path

import click

manifest = click.option(
    "-f",
    "--file",
    "manifest_path",
    type=click.Path(path_type=Path),
    default=Path("models.yaml"),
    show_default=True,
    help="The manifest.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


def examples(*lines: str) -> str:
    """The epilog of a verb: command lines to copy."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
