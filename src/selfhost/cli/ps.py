"""`selfhost ps`: what runs, in which state, since when and why."""

import time
from pathlib import Path

import click

from selfhost.cli import options, output
from selfhost.runtime.control import status_codec
from selfhost.runtime.control_client import ControlClient
from selfhost.runtime.status import ManagerStatus, ReplicaStatus
from selfhost.units import format_duration


@click.command(epilog=options.examples("selfhost ps", "selfhost ps --json", "selfhost ps --name box"))
@options.manifest
@options.name
@options.as_json
def ps(*, manifest_path: Path, name: str | None, as_json: bool) -> None:
    """Show what runs, in which state, since when and why."""
    name = options.name_of(manifest_path, name, verb="ps")
    status = ControlClient(name).status_if_running()
    if as_json:
        output.json_document({"manager": status_codec.dump_python(status, mode="json") if status else None})
    elif status is None:
        output.say(f"nothing runs for '{name}'; next: selfhost up")
    else:
        _show(status)


def _show(status: ManagerStatus) -> None:
    now = time.time()
    rows = [_row(replica, now) for replica in status.replicas]
    if gateway := status.gateway:
        rows.append(
            ("gateway", gateway.state, format_duration(now - gateway.since), gateway.address, "-", gateway.cause)
        )
    output.table(("name", "state", "since", "what", "restarts", "cause"), rows)


def _row(replica: ReplicaStatus, now: float) -> tuple[str, ...]:
    observed = replica.observed
    gpus = "+".join(observed.replica.gpu_labels)
    where = f"GPU {gpus}" if gpus else "CPU"
    return (
        observed.replica.name,
        observed.state,
        format_duration(now - replica.since),
        f"{observed.deployment.checkpoint.label} on {where}",
        str(replica.restarts),
        replica.cause,
    )
