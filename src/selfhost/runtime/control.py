"""The control socket's language, spoken by the manager and by every later command: HTTP over a private unix socket."""

import os
from pathlib import Path

from pydantic import TypeAdapter

from selfhost import paths
from selfhost.errors import SelfhostError
from selfhost.planner.actions import Step
from selfhost.planner.plan import Plan
from selfhost.runtime.events import Event
from selfhost.runtime.status import ManagerStatus

PROTOCOL = "3"  # raised whenever an older or newer manager could misunderstand a request
PROTOCOL_HEADER = "Selfhost-Protocol"
VERSION_HEADER = "Selfhost-Version"

HEARTBEAT_SECONDS = 3.0  # the longest silence of an event stream; an empty line is a heartbeat

plan_codec: TypeAdapter[Plan] = TypeAdapter(Plan)
steps_codec: TypeAdapter[tuple[Step, ...]] = TypeAdapter(tuple[Step, ...])
status_codec: TypeAdapter[ManagerStatus] = TypeAdapter(ManagerStatus)
event_codec: TypeAdapter[Event] = TypeAdapter(Event)


def control_socket(manifest: str) -> Path:
    """Where the manager of `manifest` listens; only its user may connect.

    Raises `SelfhostError` when the path is longer than the kernel takes.
    """
    path = paths.runtime_dir(manifest) / "control.sock"
    if len(os.fsencode(path)) > paths.MAX_SOCKET_PATH:
        raise SelfhostError(
            f"the path {path} is too long for a unix socket",
            hint="set SELFHOST_RUNTIME to a shorter directory",
        )
    return path
