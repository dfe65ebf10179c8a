"""Whether we run in a container, and in whose."""

from collections.abc import Mapping
from pathlib import Path

from selfhost.hardware.kernel_file import read_text

# Whoever starts containers on rented machines leaves these in the environment of what runs in them.
_VARIABLES = (
    ("RUNPOD_POD_ID", "runpod"),
    ("VAST_CONTAINERLABEL", "vast.ai"),
    ("KUBERNETES_SERVICE_HOST", "kubernetes"),
)
_FILES = (
    ("run/.containerenv", "podman"),
    (".dockerenv", "docker"),
)
_GROUPS = (  # parts of the control group's name, which cgroup namespaces hide
    ("kubepods", "kubernetes"),
    ("docker", "docker"),
    ("libpod", "podman"),
    ("/lxc", "lxc"),
)


def read_container(root: Path, environ: Mapping[str, str]) -> str | None:
    """What kind of container this is; None where none was recognised."""
    for variable, name in _VARIABLES:
        if environ.get(variable):
            return name
    for file, name in _FILES:
        if (root / file).exists():
            return name
    if environ.get("container"):  # as systemd wants it (systemd.io/CONTAINER_INTERFACE): lxc, podman, oci, ...
        return environ["container"]
    if named := read_text(root / "run/systemd/container"):
        return named
    groups = read_text(root / "proc/1/cgroup") or ""
    return next((name for part, name in _GROUPS if part in groups), None)
