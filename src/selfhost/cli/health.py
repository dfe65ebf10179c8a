"""`selfhost health`: one question to the gateway, for people, orchestrators and scripts."""

import http.client
from pathlib import Path
from urllib.parse import quote, urlsplit

import click

from selfhost.cli import options, output
from selfhost.cli.address import base_url
from selfhost.errors import ExitCode, NotReadyError


@click.command(
    epilog=options.examples(
        "selfhost health",
        "selfhost health --model chat",
        "selfhost health --url http://127.0.0.1:8000",
    )
)
@options.manifest
@click.option("--model", help="Ask for one model (name or alias) instead of all.")
@click.option("--url", help="Where the gateway is; then no manifest is read.")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Seconds to wait.")
def health(*, manifest_path: Path, model: str | None, url: str | None, timeout: float) -> int:
    """Exit with 0 when the models answer and with 5 when they do not. Made for probes."""
    name = None
    if url is None:
        from selfhost.manifest.load import load_manifest

        manifest = load_manifest(manifest_path)
        name, url = manifest.name, base_url(manifest.gateway.listen.host, manifest.gateway.listen.port)
    status = ask_readyz(url, model, timeout)
    if status == 404:
        raise NotReadyError(f"no model is called '{model}'", hint="selfhost ps")
    if status != 200:
        raise NotReadyError(_why(name) or f"not ready (HTTP {status})", hint="selfhost ps")
    output.say("ready")
    return ExitCode.OK


def ask_readyz(url: str, model: str | None, timeout: float) -> int:
    """The HTTP status of /readyz, for one model or all; straight to the gateway, never through a proxy.

    Raises `NotReadyError` when nobody answers.
    """
    path = f"/readyz?model={quote(model, safe='')}" if model else "/readyz"
    try:
        address = urlsplit(url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout)
        try:
            connection.request("GET", address.path.rstrip("/") + path)
            return connection.getresponse().status
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NotReadyError(f"the gateway at {url} does not answer: {error}", hint="selfhost up") from error


def _why(name: str | None) -> str:
    """Why it is not ready: the manager knows more than the probe tells."""
    from selfhost.planner.routing import ReplicaState
    from selfhost.runtime.control_client import ControlClient

    status = ControlClient(name).status_if_running() if name else None
    replicas = status.replicas if status else ()
    waiting = [replica for replica in replicas if replica.observed.state is not ReplicaState.READY]
    return "; ".join(f"{each.observed.replica.name} is {each.observed.state}: {each.cause}" for each in waiting)
