"""`selfhost keys`: who may use the endpoint."""

from pathlib import Path

import click

from selfhost.cli import options, output
from selfhost.cli.pipeline import key_store
from selfhost.manifest.load import load_manifest


@click.group(
    epilog=options.examples("selfhost keys create ci", "selfhost keys list", "selfhost keys revoke ci"),
)
def keys() -> None:
    """Create, list and revoke API keys. They take effect at once, without a restart."""


@keys.command(epilog=options.examples("selfhost keys create ci", "export SELFHOST_KEY=$(selfhost keys create ci)"))
@options.manifest
@click.argument("name")
def create(*, manifest_path: Path, name: str) -> None:
    """Create a key and print it, this once: only its hash is kept."""
    record, key = key_store(load_manifest(manifest_path).name).create(name)
    output.data(key)
    output.say(f"key '{record.name}' ({record.id}) created; it is shown only now, and from now on requests need a key")


@keys.command("list", epilog=options.examples("selfhost keys list", "selfhost keys list --json"))
@options.manifest
@options.as_json
def list_keys(*, manifest_path: Path, as_json: bool) -> None:
    """List the keys, without the keys themselves."""
    manifest = load_manifest(manifest_path)
    rows = [(record.id, record.name, record.created) for record in key_store(manifest.name).list()]
    declared = [("-", key.name, "in the manifest") for key in manifest.gateway.keys]
    if as_json:
        output.json_document(
            {"keys": [dict(zip(("id", "name", "created"), row, strict=True)) for row in rows + declared]}
        )
    elif rows or declared:
        output.table(("id", "name", "created"), rows + declared)
    else:
        output.say("there are no keys; requests from this machine need none")


@keys.command(epilog=options.examples("selfhost keys revoke ci"))
@options.manifest
@click.argument("id_or_name")
def revoke(*, manifest_path: Path, id_or_name: str) -> None:
    """Revoke a key: the next request with it is refused."""
    record = key_store(load_manifest(manifest_path).name).revoke(id_or_name)
    output.say(f"key '{record.name}' ({record.id}) is revoked")
