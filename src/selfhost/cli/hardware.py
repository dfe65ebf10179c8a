"""`selfhost gpus`: what plans are made of."""

from collections.abc import Sequence
from dataclasses import asdict

import click

from selfhost.cli import claims, options, output
from selfhost.errors import BlockedError
from selfhost.hardware.detect import detect
from selfhost.hardware.inventory import Gpu, Host, Inventory
from selfhost.runtime.ledger import read_ledger
from selfhost.units import format_bytes

UNKNOWN = "unknown"


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
        _show(inventory)
        if held := claims.rows(inventory, ledger.manifests):
            output.data("")
            output.table(claims.HEADERS, held)
    for problem in ledger.problems:
        output.warn(problem)
    for gpu in inventory.unusable_gpus if inventory.gpus else ():  # where none works, the problem says it
        output.warn(f"left out: {gpu.cause}")
        output.hint(gpu.hint)
    if inventory.hidden_gpu_count and inventory.gpus:
        output.warn(f"CUDA_VISIBLE_DEVICES hides {inventory.hidden_gpu_count} more")
    if inventory.problem:
        raise BlockedError(inventory.problem, hint=inventory.hint)
    if not as_json:
        output.say("next: selfhost plan")


def _show(inventory: Inventory) -> None:
    if inventory.gpus:
        _show_gpus(inventory.gpus)
        output.data("")
    elif not inventory.problem:
        output.data("no GPU: models run on the CPU\n")
    else:
        for vendor in sorted({found.vendor for found in inventory.accelerators}):
            addresses = [found.pci_address for found in inventory.accelerators if found.vendor == vendor]
            output.data(f"pci     {vendor} at {', '.join(addresses)}")
    if inventory.driver_version:
        output.data(f"driver  {inventory.driver_version}, CUDA {_version(inventory.cuda_version)} or older")
    output.data(f"host    {_describe(inventory.host)}")
    for disk in inventory.disks:
        free, total = format_bytes(disk.free_bytes), format_bytes(disk.total_bytes)
        output.data(f"disk    {free} of {total} free for {disk.purpose} in {disk.path}")


def _show_gpus(found: Sequence[Gpu]) -> None:
    output.table(
        ("gpu", "name", "memory free", "memory", "compute", "uuid"),
        [
            (
                str(gpu.index),
                gpu.name or UNKNOWN,
                _bytes(gpu.memory_free_bytes),
                _bytes(gpu.memory_total_bytes),
                _version(gpu.compute_capability),
                gpu.uuid,
            )
            for gpu in found
        ],
    )


def _describe(host: Host) -> str:
    cores = "1 core" if host.cpu_count == 1 else f"{host.cpu_count} cores"
    available, total = format_bytes(host.memory_available_bytes), format_bytes(host.memory_total_bytes)
    return f"{host.architecture}, {cores}, {available} of {total} memory available"


def _bytes(count: int | None) -> str:
    return UNKNOWN if count is None else format_bytes(count)


def _version(version: tuple[int, int] | None) -> str:
    return UNKNOWN if version is None else f"{version[0]}.{version[1]}"
