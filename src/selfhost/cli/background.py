"""A manager that outlives the command which started it, and one that nobody gave a plan."""

import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from selfhost import paths
from selfhost.errors import SelfhostError, TimedOutError
from selfhost.runtime.control_client import ControlClient, NoManagerError
from selfhost.runtime.logfile import rotate
from selfhost.runtime.own_logs import LARGEST_BYTES, own_log

START_SECONDS = 30.0
PLAN_SECONDS = 5.0  # between the start of a manager and its first plan
POLL_SECONDS = 0.05
SHOWN_LINES = 5


def manager_log(name: str) -> Path:
    """The log of the manager of `name`, not too large to begin with."""
    paths.make_private(paths.state_dir(name))
    path = own_log(name, "manager")
    paths.make_private(path.parent)
    path.touch(mode=0o600)
    rotate(path, LARGEST_BYTES)
    return path


def start_in_background(client: ControlClient) -> None:
    """Start the manager and wait until it answers; raises `SelfhostError` with its own words when it does not."""
    path = manager_log(client.manifest)
    with path.open("ab") as log:
        begin = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "selfhost.runtime.serve", client.manifest],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    deadline = time.monotonic() + START_SECONDS
    while not client.is_running():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SelfhostError(f"the manager did not start: {_last_words(path, begin)}", hint=f"its log is {path}")
        time.sleep(POLL_SECONDS)


def has_plan(client: ControlClient) -> bool:
    """Whether a manager runs that has something to do.

    One without a plan is about to get it from the command that started it. When it does not, that command was killed,
    and the manager is ended, so that another one can take its place.
    """
    deadline = time.monotonic() + PLAN_SECONDS
    while (status := client.status_if_running()) and status.plan is None:
        if time.monotonic() > deadline:
            end_unless_planned(client)
            return False
        time.sleep(POLL_SECONDS)
    return status is not None


def end_unless_planned(client: ControlClient) -> None:
    """End a manager that has nothing to do, and wait until it is gone; one that somebody gave a plan goes on."""
    with suppress(NoManagerError):
        if client.status().plan is not None:
            return
        with suppress(ProcessLookupError), os.fdopen(os.pidfd_open(client.manager_pid())) as manager:
            client.down(drain=False)
            if not select.select([manager], [], [], START_SECONDS)[0]:
                raise TimedOutError(f"the manager of '{client.manifest}' does not end", hint="selfhost down --now")


def _last_words(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").strip().splitlines()
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return said[-1] if said else " / ".join(lines[-SHOWN_LINES:]) or "it said nothing"
