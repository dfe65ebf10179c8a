"""`selfhost up`: everything from the manifest to a `curl` that answers."""

import asyncio
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import click

from selfhost import logs
from selfhost.cli import options, output
from selfhost.cli.address import base_url
from selfhost.cli.background import end_unless_planned, has_plan, manager_log, start_in_background
from selfhost.cli.follow import Show, make_show, make_watch
from selfhost.cli.health import ask_readyz
from selfhost.cli.linux import require_linux
from selfhost.cli.next_steps import say_next_steps
from selfhost.cli.pipeline import Prepared, prepare
from selfhost.cli.session import Outcome, Session
from selfhost.doctor.background import Background
from selfhost.doctor.facts import CudaAnswer, NotLooked
from selfhost.doctor.gate import require_no_blocker
from selfhost.doctor.gather import begin_cuda, for_gate
from selfhost.errors import ExitCode, SelfhostError
from selfhost.planner.routing import ReplicaState
from selfhost.planner.text import render_steps
from selfhost.runtime.control_client import ControlClient
from selfhost.runtime.status import ManagerStatus

GATEWAY_SECONDS = 10.0
POLL_SECONDS = 0.05


@click.command(
    epilog=options.examples(
        "selfhost up",
        "selfhost up --detach",
        "selfhost up --wait --timeout 600",
        "selfhost up --wait --json | jq -c .state",
    )
)
@options.manifest
@options.as_json_lines
@click.option("-d", "--detach", is_flag=True, help="Run in the background; return when the plan is accepted.")
@click.option("--wait", is_flag=True, help="Run in the background; return when every model is ready.")
@click.option("--timeout", type=click.FloatRange(min=1), help="Seconds to wait until every model is ready.")
def up(*, manifest_path: Path, as_json: bool, detach: bool, wait: bool, timeout: float | None) -> int:
    """Serve the manifest: install, fetch, start, prove, and keep it running.

    Stays in the foreground: Ctrl-C stops everything, a lost terminal nothing. Run again, it applies what changed in
    the manifest.
    """
    require_linux()
    cuda = begin_cuda(os.environ)
    prepared = prepare(manifest_path)
    _examine(prepared, cuda)
    show = make_show(as_json=as_json)
    runs = prepared.status is not None and has_plan(prepared.client)
    if not runs and not detach and not wait:
        return _Foreground(prepared, show, make_watch(as_json=as_json), timeout).run()
    if not runs:
        start_in_background(prepared.client)
    try:
        session = Session(prepared.client)
        _apply(session, prepared)
    except BaseException:
        if not runs:
            with suppress(SelfhostError):  # why it was refused matters more
                end_unless_planned(prepared.client)
        raise
    if detach and not wait:
        output.say("accepted; next: selfhost ps")
        return ExitCode.OK
    return _report(session.settle(show, timeout), prepared)


def _examine(prepared: Prepared, cuda: Background[CudaAnswer | NotLooked] | None) -> None:
    """Refuse what cannot work on this box before anything is installed, fetched or started."""
    facts = for_gate(prepared.manifest, prepared.inventory, prepared.plan, prepared.status, cuda, os.environ)
    if warnings := require_no_blocker(facts):
        output.say(f"{warnings} warning{'s' if warnings > 1 else ''}: selfhost doctor")


def _apply(session: Session, prepared: Prepared) -> None:
    steps = session.apply(prepared.plan, prepared.manifest_path)
    output.say(f"{prepared.plan.name}: {prepared.plan.machine}")
    output.say(render_steps(steps).rstrip("\n"))


def _report(outcome: Outcome, prepared: Prepared) -> int:
    for replica in outcome.given_up:
        output.error(SelfhostError(f"{replica.observed.replica.name}: {replica.cause}", hint=replica.hint))
    _prove_the_way_in(outcome.status)
    if outcome.status.ready:
        say_next_steps(prepared.plan)
    return outcome.exit_code


def _prove_the_way_in(status: ManagerStatus) -> None:
    """Wait until the gateway, too, says that what is ready is ready: it learns of it a moment after the manager."""
    if status.plan is None:
        return
    url = base_url(status.plan.gateway.host, status.plan.gateway.port)
    ready = {each.observed.deployment.name for each in status.replicas if each.observed.state is ReplicaState.READY}
    deadline = time.monotonic() + GATEWAY_SECONDS
    for model in ready:
        while ask_readyz(url, model, GATEWAY_SECONDS) != 200:
            if time.monotonic() > deadline:
                raise SelfhostError(
                    f"{model} answers, but the gateway at {url} does not know it", hint="selfhost logs gateway"
                )
            time.sleep(POLL_SECONDS)


class _Foreground:
    """The manager in this process, in the main thread; what it does is shown from a second one, as others see it."""

    def __init__(self, prepared: Prepared, show: Show, watch: Show, timeout_seconds: float | None) -> None:
        self._prepared = prepared
        self._show = show
        self._watch = watch
        self._timeout_seconds = timeout_seconds
        self._client: ControlClient = prepared.client
        self._code: int = ExitCode.OK
        self._problem: Exception | None = None
        self._shown = threading.Thread(target=self._serve_the_reader, name="show", daemon=True)

    def run(self) -> int:
        """Serve until everything is stopped."""
        name = self._prepared.plan.name
        with manager_log(name).open("a") as log:
            logs.configure(log)
            asked = asyncio.run(_serve(name, self._shown))
        self._shown.join()
        if asked:  # what else went wrong meanwhile only means that everything was being stopped
            return ExitCode.INTERRUPTED if asked is signal.SIGINT else ExitCode.OK
        if self._problem:
            raise self._problem
        return self._code

    def _serve_the_reader(self) -> None:
        try:
            session = Session(self._client, own_manager=True)
            _apply(session, self._prepared)
            outcome = session.settle(self._show, self._timeout_seconds)
            self._code = _report(outcome, self._prepared)
            if outcome.status.replicas and outcome.all_failed:
                self._client.down()
            session.watch(self._watch)
        except BrokenPipeError:  # `selfhost up --json | head -1`: nobody reads any more, and everything goes on
            _let_go_of_the_terminal()
        except Exception as error:  # noqa: BLE001 (raised again in the main thread, where every error ends)
            self._problem = error
            with suppress(SelfhostError):  # it may have ended already
                self._client.down(drain=False)


async def _serve(name: str, shown: threading.Thread) -> signal.Signals | None:
    from selfhost.runtime.serve import serve

    return await serve(name, started=shown.start, hangup=_let_go_of_the_terminal)


def _let_go_of_the_terminal() -> None:
    """The terminal is gone: from here on there is nobody to talk to, and everything goes on."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
