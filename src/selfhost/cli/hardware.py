"""`selfhost gpus`: what plans are made of."""

from dataclasses import asdict

import click

from selfhost.cli import claims, options, output
from selfhost.cli.inventory_text import render_inventory
from selfhost.errors import BlockedError
from selfhost.hardware.detect import detect
from selfhost.runtime.ledger import read_ledger


@click.command(
    epilog=options.examples("selfhost gpus", "selfhost gpus --json", "CUDA_VISIBLE_DEVICES=0,1 selfhost gpus")
)
@options.as_json
def gpus(*, as_json: bool) -> None:
    """Show the GPUs and the host that plans are made for."""
    inventory = detect()
    ledger = read_ledger()
    if as_json:
        output.json_document({**asdict(inventory), "claims": claims.documents(ledger.manifests)})
    else:
        for line in render_inventory(inventory):
            output.data(line)
        if held := claims.rows(inventory, ledger.manifests):
            output.data("")
            output.table(claims.HEADERS, held)
    for warning in (*inventory.warnings, *ledger.problems):
        output.warn(warning)
    for gpu in inventory.unusable_gpus if inventory.gpus else ():  # where none works, the problem says it
        output.warn(f"left out: {gpu.cause}")
        output.hint(gpu.hint)
    for folder in inventory.silent_disks:
        output.warn(f"the disk of {folder} does not answer")
    if inventory.hidden_gpu_count and inventory.gpus:
        output.warn(f"CUDA_VISIBLE_DEVICES hides {inventory.hidden_gpu_count} more")
    if inventory.problem:
        raise BlockedError(inventory.problem, hint=inventory.hint)
    if not as_json:
        output.say("next: selfhost plan")
