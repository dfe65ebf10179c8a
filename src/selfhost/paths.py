"""Where selfhost keeps things; the only module, besides the command line, that reads environment variables for it."""

import os
import stat
from pathlib import Path

from selfhost.errors import SelfhostError

MAX_SOCKET_PATH = 107  # bytes: sockaddr_un.sun_path without its terminating NUL (unix(7))


def home_dir() -> Path:
    """Engine environments and caches: large, shared by all manifests, safe to delete. `$SELFHOST_HOME`."""
    return _from_env("SELFHOST_HOME") or _xdg("XDG_DATA_HOME", ".local/share") / "selfhost"


def state_dir(name: str) -> Path:
    """Durable state of the manifest `name` (keys, records, logs). `$SELFHOST_STATE/NAME`; may be a network disk."""
    return (_from_env("SELFHOST_STATE") or _xdg("XDG_STATE_HOME", ".local/state") / "selfhost") / name


def runtime_dir(name: str) -> Path:
    """Sockets, temp folders and live tables of the manifest `name`. `$SELFHOST_RUNTIME/NAME`; always a local disk.

    Not `$XDG_RUNTIME_DIR`: that one vanishes at logout, and cron or an orchestrator's probe would look elsewhere.
    """
    return (_from_env("SELFHOST_RUNTIME") or _default_runtime()) / name


def hub_cache_dir() -> Path:
    """Where the Hugging Face Hub's client keeps weights, by its own rules: other tools find them there too."""
    hub_home = _from_env("HF_HOME") or _xdg("XDG_CACHE_HOME", ".cache") / "huggingface"
    return _from_env("HF_HUB_CACHE") or _from_env("HUGGINGFACE_HUB_CACHE") or hub_home / "hub"


def make_private(path: Path) -> Path:
    """Create the directory `path` for this user alone (0700) and refuse one that somebody else could enter.

    Raises `SelfhostError` when it belongs to another user, is a link, or cannot be created.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise SelfhostError(
            f"cannot create the directory {path}: {error.strerror}",
            hint="set SELFHOST_HOME, SELFHOST_STATE and SELFHOST_RUNTIME to directories you can write",
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SelfhostError(
            f"{path} is not a directory of this user",
            hint="remove it, or set SELFHOST_RUNTIME to a directory of your own",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
    return path


def _from_env(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser().absolute() if value else None


def _xdg(variable: str, default: str) -> Path:
    return _from_env(variable) or Path.home() / default


def _default_runtime() -> Path:
    uid = os.getuid()
    return Path("/run/selfhost") if uid == 0 else Path(f"/tmp/selfhost-{uid}")  # noqa: S108 (owner and mode are checked by make_private)
