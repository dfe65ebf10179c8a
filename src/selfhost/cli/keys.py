"""`selfhost keys`: who may use the endpoint."""

from dataclasses import asdict
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
    record, _ = key_store(load_manifest(manifest_path).name).create(name, show=output.secret)
    output.say(f"key '{record.name}' ({record.id}) created; it is shown only now, and from now on requests need a key")


@keys.command("list", epilog=options.examples("selfhost keys list", "selfhost keys list --json"))
@options.manifest
@options.as_json
def list_keys(*, manifest_path: Path, as_json: bool) -> None:
    """List the keys, without the keys themselves."""
    manifest = load_manifest(manifest_path)
    records = key_store(manifest.name).records()
    if as_json:
        made = [{name: value for name, value in asdict(record).items() if name != "sha256"} for record in records]
        declared = [{"id": None, "name": key.name, "created": None, "revoked": None} for key in manifest.gateway.keys]
        output.json_document({"keys": made + declared})
        return
    rows = [(record.id, record.name, record.created, record.revoked or "") for record in records]
    rows += [("", key.name, "in the manifest", "") for key in manifest.gateway.keys]
    if rows:
        output.table(("id", "name", "created", "revoked"), rows)
    else:
        output.say("there are no keys, and requests from this machine need none")


@keys.command(epilog=options.examples("selfhost keys revoke ci", "selfhost keys revoke ci --name box"))
@options.manifest
@options.name
@click.argument("id_or_name")
def revoke(*, manifest_path: Path, name: str | None, id_or_name: str) -> None:
    """Revoke a key: the next request with it is refused."""
    record = key_store(options.name_of(manifest_path, name, verb="keys revoke")).revoke(id_or_name)
    output.say(f"key '{record.name}' ({record.id}) is revoked")
