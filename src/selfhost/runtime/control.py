"""The control socket's language, spoken by the manager and by every later command: HTTP over a private unix socket."""

from pathlib import Path

from pydantic import TypeAdapter

from selfhost import paths
from selfhost.planner.actions import Step
from selfhost.planner.plan import Plan
from selfhost.runtime.events import Event
from selfhost.runtime.status import ManagerStatus

PROTOCOL = "1"  # raised whenever an older or newer manager could misunderstand a request
PROTOCOL_HEADER = "Selfhost-Protocol"
VERSION_HEADER = "Selfhost-Version"

plan_codec: TypeAdapter[Plan] = TypeAdapter(Plan)
steps_codec: TypeAdapter[tuple[Step, ...]] = TypeAdapter(tuple[Step, ...])
status_codec: TypeAdapter[ManagerStatus] = TypeAdapter(ManagerStatus)
event_codec: TypeAdapter[Event] = TypeAdapter(Event)


def control_socket(manifest: str) -> Path:
    """Where the manager of `manifest` listens; only its user may connect."""
    return paths.runtime_dir(manifest) / "control.sock"
