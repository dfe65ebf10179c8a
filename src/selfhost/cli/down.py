"""`selfhost down`: nothing of a manifest runs any more, and nothing of it is left."""

import asyncio
import contextlib
import os
import select
import signal
import time
from pathlib import Path

import click

from selfhost.cli import options, output
from selfhost.cli.follow import make_show
from selfhost.errors import SelfhostError, TimedOutError
from selfhost.runtime import manager_lock
from selfhost.runtime.control_client import ControlClient, NoManagerError, SilentManagerError
from selfhost.runtime.leftovers import clear_runtime_dir, end_leftovers

END_SECONDS = 90.0  # draining, then the engines' own end
LAST_SECONDS = 5.0  # for a manager that does not answer to obey a signal
BEGIN_SECONDS = 30.0  # for a manager that has its lock to open its socket
POLL_SECONDS = 0.05


@click.command(epilog=options.examples("selfhost down", "selfhost down --now", "selfhost down --name box"))
@options.manifest
@options.name
@options.as_json_lines
@click.option("--now", is_flag=True, help="Wait for no running request, nor for a manager that does not answer.")
def down(*, manifest_path: Path, name: str | None, as_json: bool, now: bool) -> None:
    """Stop everything that the manifest runs; nothing of it is left."""
    client = ControlClient(options.name_of(manifest_path, name, verb="down"))
    ran, left = _end(client, as_json=as_json, now=now)
    for each in left:
        output.say(f"{each}: ended; a manager that was killed had left it behind")
    if not ran and not left:
        output.say(f"nothing runs for '{client.manifest}'")
    elif ran:
        output.say("down: nothing is left")


def _end(client: ControlClient, *, as_json: bool, now: bool) -> tuple[bool, tuple[str, ...]]:
    """End the manager and what it left; whether one ran, and the names of what a killed one had left."""
    deadline = time.monotonic() + BEGIN_SECONDS
    ran = False
    while time.monotonic() < deadline:
        ran = _end_manager(client, as_json=as_json, now=now) or ran
        if lock := manager_lock.try_take(client.manifest):
            try:
                left = asyncio.run(end_leftovers(client.manifest))
                clear_runtime_dir(client.manifest)
            finally:
                lock.release()
            return ran, left
        if ran:  # somebody has begun anew: what is there now is theirs
            return ran, ()
        time.sleep(POLL_SECONDS)  # a manager begins: it has its lock and no socket yet
    raise TimedOutError(f"a manager of '{client.manifest}' has begun and does not answer", hint="selfhost logs manager")


def _end_manager(client: ControlClient, *, as_json: bool, now: bool) -> bool:
    """Have the manager end, and wait until it has; False when none runs."""
    try:
        pid = client.manager_pid()
        manager = os.pidfd_open(pid)
    except (NoManagerError, ProcessLookupError):
        return False
    try:
        seconds = END_SECONDS
        try:
            _ask_to_end(client, as_json=as_json, now=now)
        except SelfhostError as error:
            output.warn(f"{error.message}; asking it to end by a signal")
            _signal(manager, signal.SIGTERM)
            seconds = LAST_SECONDS if isinstance(error, SilentManagerError) else END_SECONDS
        if _has_ended(manager, seconds):
            return True
        if not now:
            raise TimedOutError(f"the manager (pid {pid}) does not end", hint="selfhost down --now kills it")
        output.warn(f"the manager (pid {pid}) does not end; killing it")
        _signal(manager, signal.SIGKILL)
        if not _has_ended(manager, LAST_SECONDS):
            raise TimedOutError(f"the manager (pid {pid}) cannot be killed", hint="selfhost logs manager")
        return True
    finally:
        os.close(manager)


def _ask_to_end(client: ControlClient, *, as_json: bool, now: bool) -> None:
    with contextlib.suppress(NoManagerError):  # it ended by itself meanwhile
        feed = client.events()
        client.down(drain=not now)
        with make_show(as_json=as_json) as show:
            for event in feed:
                show.event(event)


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, number)


def _has_ended(process: int, seconds: float) -> bool:
    return bool(select.select([process], [], [], seconds)[0])
