"""Options that several verbs share, each defined once."""

from collections.abc import Iterator
from contextlib import contextmanager
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
name = click.option("--name", metavar="NAME", help="The manifest's `name`; then no manifest is read.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
as_json_lines = click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON.")


def name_of(manifest_path: Path, name: str | None, *, verb: str) -> str:
    """The manifest's name: as given by `--name`, or as the manifest says."""
    from selfhost.manifest.load import load_manifest

    if name is not None:
        return checked_name(name)
    with hint_at_name(verb):
        return load_manifest(manifest_path).name


@contextmanager
def hint_at_name(verb: str) -> Iterator[None]:
    """Let the error about a manifest that cannot be used say that `verb` needs none."""
    from selfhost.manifest.problems import ManifestError

    try:
        yield
    except ManifestError as error:
        error.hint = f"selfhost {verb} --name NAME needs no manifest; NAME is its `name`, or else that of its folder"
        raise


def checked_name(name: str) -> str:
    """`name`, when a manifest could have it: it becomes a part of paths. Raises a usage error."""
    from pydantic import TypeAdapter, ValidationError

    from selfhost.manifest.values import Name

    try:
        return TypeAdapter[str](Name).validate_python(name)
    except ValidationError as error:
        raise click.BadParameter(f"'{name}' cannot be the name of a manifest.", param_hint="--name") from error


def examples(*lines: str) -> str:
    """The epilog of a verb: command lines to copy."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
