"""Where selfhost keeps things; the only module, besides the command line, that reads environment variables for it."""

import contextlib
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
    return state_root() / name


def state_root() -> Path:
    """The folder with the durable state of every manifest. `$SELFHOST_STATE`."""
    return _from_env("SELFHOST_STATE") or _xdg("XDG_STATE_HOME", ".local/state") / "selfhost"


def runtime_dir(name: str) -> Path:
    """Sockets, temp folders and live tables of the manifest `name`. `$SELFHOST_RUNTIME/NAME`; always a local disk.

    Not `$XDG_RUNTIME_DIR`: that one vanishes at logout, and cron or an orchestrator's probe would look elsewhere.
    """
    return runtime_root() / name


def runtime_root() -> Path:
    """The folder of all the runtime directories of this user: `$SELFHOST_RUNTIME`."""
    if chosen := _from_env("SELFHOST_RUNTIME"):
        return chosen
    uid = os.getuid()
    return Path("/run/selfhost") if uid == 0 else Path(f"/tmp/selfhost-{uid}")  # noqa: S108 (owner and mode are checked)


def user_home() -> Path:
    """This user's home; raises `SelfhostError` where there is none."""
    try:
        return Path.home()
    except RuntimeError as error:  # HOME is not set, and no list of users has this uid
        raise SelfhostError(
            "this user has no home directory", hint="export HOME=DIR, a directory to write to"
        ) from error


def hub_cache_dir() -> Path:
    """Where the Hugging Face Hub's client keeps weights, by its own rules: other tools find them there too."""
    return _from_env("HF_HUB_CACHE") or _from_env("HUGGINGFACE_HUB_CACHE") or hub_home() / "hub"


def hub_home() -> Path:
    """The folder of the Hub's client."""
    return _from_env("HF_HOME") or _xdg("XDG_CACHE_HOME", ".cache") / "huggingface"


def hub_token_file() -> Path:
    """Where the Hub's client keeps the token of `hf auth login`, by its own rules."""
    return _from_env("HF_TOKEN_PATH") or hub_home() / "token"


def manifests() -> tuple[str, ...]:
    """The names of the manifests that have durable state on this machine; raises `SelfhostError`."""
    root = state_root()
    try:
        return tuple(sorted(path.name for path in root.iterdir() if path.is_dir()))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise SelfhostError(
            f"cannot look into {root}: {error.strerror}", hint="set SELFHOST_STATE to a directory that you can read"
        ) from error


def make_private(path: Path) -> Path:
    """Create the directory `path` for this user alone (0700) and refuse one that somebody else could enter.

    Below `$SELFHOST_RUNTIME` that holds for every folder on the way too: whoever owns one of them could put another
    one in its place. Raises `SelfhostError` when one belongs to another user, is a link, or cannot be created.
    """
    for folder in _runtime_folders(path):
        _create(folder)
        _refuse_foreign(folder)
    _create(path)
    found = _refuse_foreign(path, writable_is_fine=True)
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
    return path


def require_private(path: Path) -> None:
    """Refuse, before anything in it is trusted, a folder of `$SELFHOST_RUNTIME` that others could have filled.

    One that is not there is fine. Raises `SelfhostError`.
    """
    with contextlib.suppress(FileNotFoundError):
        for folder in (*_runtime_folders(path), path):
            _refuse_foreign(folder)


def _runtime_folders(path: Path) -> list[Path]:
    """The folders above `path`, from `$SELFHOST_RUNTIME` on; none for a path elsewhere."""
    root = runtime_root()
    return [folder for folder in reversed(path.parents) if folder.is_relative_to(root)]


def _create(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    except OSError as error:
        raise SelfhostError(
            f"cannot create the directory {path}: {error.strerror}",
            hint="set SELFHOST_HOME, SELFHOST_STATE and SELFHOST_RUNTIME to directories you can write",
        ) from error


def _refuse_foreign(path: Path, *, writable_is_fine: bool = False) -> os.stat_result:
    found = path.lstat()
    # `$SELFHOST_RUNTIME` may be a folder of the system, as /dev/shm is: there nobody can replace what is ours.
    owners = {os.getuid(), 0} if path == runtime_root() else {os.getuid()}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
        raise SelfhostError(
            f"{path} is not a directory of this user",
            hint="remove it, or set SELFHOST_RUNTIME to a directory of your own",
        )
    if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX and not writable_is_fine:
        raise SelfhostError(f"other users can write into {path}", hint=f"chmod go-w {path}")
    return found


def _from_env(variable: str) -> Path | None:
    value = os.environ.get(variable)
    try:
        return Path(value).expanduser().absolute() if value else None
    except RuntimeError as error:  # "~nobody/x"
        raise SelfhostError(f"{variable}={value}: there is no such user", hint="give the path in full") from error


def _xdg(variable: str, default: str) -> Path:
    return _from_env(variable) or user_home() / default
