"""`selfhost down`: nothing of a manifest runs any more, and nothing of it is left."""

import asyncio
import os
import select
import signal
from pathlib import Path

import click

from selfhost.cli import options, output
from selfhost.cli.follow import make_show
from selfhost.errors import SelfhostError, TimedOutError
from selfhost.manifest.load import load_manifest
from selfhost.runtime.control_client import ControlClient, NoManagerError
from selfhost.runtime.leftovers import end_leftovers, remove_runtime_dir

END_SECONDS = 90.0  # draining, then the engines' own end


@click.command(epilog=options.examples("selfhost down", "selfhost down --now"))
@options.manifest
@options.as_json
@click.option("--now", is_flag=True, help="Do not wait for running requests.")
def down(*, manifest_path: Path, as_json: bool, now: bool) -> None:
    """Stop everything that the manifest runs; nothing of it is left."""
    client = ControlClient(load_manifest(manifest_path).name)
    ran = _end_manager(client, as_json=as_json, now=now)
    left = asyncio.run(end_leftovers(client.manifest))
    remove_runtime_dir(client.manifest)
    for name in left:
        output.say(f"{name}: ended; a manager that was killed had left it behind")
    if not ran and not left:
        output.say(f"nothing runs for '{client.manifest}'")
    elif ran:
        output.say("down: nothing is left")


def _end_manager(client: ControlClient, *, as_json: bool, now: bool) -> bool:
    """Have the manager end, and wait until it has; False when none runs."""
    try:
        pid = client.manager_pid()
    except NoManagerError:
        return False
    try:
        feed = client.events()
        client.down(drain=not now)
        with make_show(as_json=as_json) as show:
            for event in feed:
                show.event(event)
    except NoManagerError:
        return True  # it ended by itself meanwhile
    except SelfhostError as error:
        output.warn(f"{error.message}; asking it to end by a signal")
        os.kill(pid, signal.SIGTERM)
    _wait_for_end(pid)
    return True


def _wait_for_end(pid: int) -> None:
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([ended], [], [], END_SECONDS)[0]:
            raise TimedOutError(f"the manager (pid {pid}) does not end", hint="selfhost down --now")
    finally:
        os.close(ended)
