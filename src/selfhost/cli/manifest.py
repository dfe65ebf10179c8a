"""`selfhost check` and `selfhost schema`: is the manifest right, and what could it say?"""

import json
from dataclasses import asdict
from pathlib import Path

import click

from selfhost.cli import options, output


@click.command(epilog=options.examples("selfhost check", "selfhost check -f box/models.yaml --json"))
@options.manifest
@options.as_json
def check(*, manifest_path: Path, as_json: bool) -> None:
    """Read the manifest and report everything that is wrong with it."""
    from selfhost.manifest.load import display_name, load_manifest
    from selfhost.manifest.problems import ManifestError

    try:
        manifest = load_manifest(manifest_path)
    except ManifestError as error:
        if as_json:
            output.json_document({"file": error.file, "problems": [asdict(problem) for problem in error.problems]})
        raise
    file = display_name(manifest_path)
    if as_json:
        output.json_document({"file": file, "problems": []})
    count = len(manifest.models)
    output.say(f"{file}: {count} model{'s' if count > 1 else ''}, all well")


@click.command(
    epilog=options.examples("selfhost schema", "selfhost schema > models.schema.json"),
)
def schema() -> None:
    """Print the JSON Schema of the manifest, for editors."""
    from selfhost.manifest.json_schema import json_schema

    output.data(json.dumps(json_schema(), indent=2, ensure_ascii=False))
