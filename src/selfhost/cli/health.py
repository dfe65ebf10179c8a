"""`selfhost health`: one question to the gateway, for people, orchestrators and scripts."""

import http.client
from pathlib import Path
from urllib.parse import quote, urlsplit

import click

from selfhost.cli import options, output
from selfhost.cli.address import base_url
from selfhost.errors import ExitCode, NotReadyError, SelfhostError

CONNECTIONS: dict[str, type[http.client.HTTPConnection]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}


@click.command(
    epilog=options.examples(
        "selfhost health",
        "selfhost health --model chat",
        "selfhost health --url http://127.0.0.1:8000",
        "selfhost health --name box",
    )
)
@options.manifest
@options.name
@click.option("--model", help="Ask for one model (name or alias) instead of all.")
@click.option("--url", help="Where the gateway is; then no manifest is read.")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Seconds to wait.")
def health(*, manifest_path: Path, name: str | None, model: str | None, url: str | None, timeout: float) -> int:
    """Exit with 0 when the models answer and with 5 when they do not. Made for probes."""
    try:
        _check(manifest_path, name, model, url, timeout)
    except (NotReadyError, click.ClickException):
        raise
    except SelfhostError as error:
        raise NotReadyError(error.message, hint=error.hint) from error
    except Exception as error:
        raise NotReadyError(f"cannot tell: {type(error).__name__}: {error}", hint="selfhost --debug health") from error
    output.say("ready")
    return ExitCode.OK


def _check(manifest_path: Path, name: str | None, model: str | None, url: str | None, timeout: float) -> None:
    """Raise what is wrong; an orchestrator knows only ready (0) and not ready (5)."""
    if url is None:
        name, url = _gateway_of(name) if name is not None else _gateway_in(manifest_path)
    status = ask_readyz(url, model, timeout)
    if status == 404:
        raise NotReadyError(f"no model is called '{model}'", hint="selfhost ps")
    if status != 200:
        raise NotReadyError(_why(name) or f"not ready (HTTP {status})", hint="selfhost ps")


def _gateway_in(manifest_path: Path) -> tuple[str, str]:
    """The name of the manifest, and where its gateway is."""
    from selfhost.manifest.load import load_manifest

    with options.hint_at_name("health"):
        manifest = load_manifest(manifest_path)
    return manifest.name, base_url(manifest.gateway.listen.host, manifest.gateway.listen.port)


def _gateway_of(name: str) -> tuple[str, str]:
    """The same without the manifest: the manager knows."""
    from selfhost.runtime.control_client import ControlClient

    plan = ControlClient(options.checked_name(name)).status().plan
    if plan is None:
        raise NotReadyError(f"nothing runs for '{name}' yet", hint="selfhost ps")
    return name, base_url(plan.gateway.host, plan.gateway.port)


def ask_readyz(url: str, model: str | None, timeout: float) -> int:
    """The HTTP status of /readyz, for one model or all; straight to the gateway, never through a proxy.

    Raises `NotReadyError` when nobody answers.
    """
    path = f"/readyz?model={quote(model, safe='')}" if model else "/readyz"
    try:
        address = urlsplit(url)
        if address.scheme not in CONNECTIONS or not address.hostname:
            raise NotReadyError(f"{url} is not the address of a gateway", hint="--url http://127.0.0.1:8000")
        connection = CONNECTIONS[address.scheme](address.hostname, address.port, timeout=timeout)
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
