"""Models on the Hugging Face Hub: what they are, from their metadata alone, before any weight is fetched.

What was read is kept by commit under `$SELFHOST_HOME/catalog`, so that a second plan asks the Hub only which commit a
branch points to, and nothing at all for a pinned commit or with HF_HUB_OFFLINE.
"""

import contextlib
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import HFValidationError, SafetensorsParsingError

from selfhost import atomic, paths, regular_file
from selfhost.catalog import safetensors
from selfhost.catalog.config import LARGEST_FILE_BYTES, parse_config, read_config
from selfhost.catalog.files import serving_files
from selfhost.catalog.hub_errors import explain
from selfhost.catalog.model import Checkpoint, CheckpointKind, CheckpointRef, Tensor
from selfhost.errors import BlockedError, SelfhostError

COMMIT = re.compile(r"[0-9a-f]{40}")
HEADERS_AT_ONCE = 8
FORMAT_VERSION = 1

# What the client and its libraries raise, somewhere inside, for an answer of another shape than they expect: a login
# page with status 200, a list where an object should be.
STRANGE_ANSWERS = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)

T = TypeVar("T")


def describe(repo: str, revision: str) -> Checkpoint:
    """The checkpoint at `revision` (branch, tag or commit) of `repo`.

    Raises `BlockedError` when it cannot be served or accessed, `SelfhostError` when the Hub cannot be asked.
    """
    commit = _resolve(repo, revision)
    facts = _cached_facts(repo, commit) or _fetch_facts(repo, commit)
    return Checkpoint(
        ref=CheckpointRef(
            kind=CheckpointKind.HUB, location=repo, revision=commit, total_bytes=sum(facts["files"].values())
        ),
        spec=parse_config(facts["config"], label=repo),
        tensors=tuple(Tensor(name=name, dtype=dtype, shape=tuple(shape)) for name, dtype, shape in facts["tensors"]),
    )


def serving_files_of(repo: str, commit: str) -> dict[str, int]:
    """The files that serving needs, with their sizes in bytes."""
    facts = _cached_facts(repo, commit) or _fetch_facts(repo, commit)
    return dict(facts["files"])


def _resolve(repo: str, revision: str) -> str:
    """The commit that `revision` means now; offline, the one it meant when it was last fetched."""
    if COMMIT.fullmatch(revision):
        return revision
    if constants.is_offline_mode():
        return _last_known_commit(repo, revision)
    commit = _ask(lambda: HfApi().model_info(repo, revision=revision).sha, repo, revision)
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise SelfhostError(f"the Hub names no commit for {repo}@{revision}", hint="try again later")
    atomic.write_bytes(_ref_file(repo, revision), commit.encode())
    return commit


def _last_known_commit(repo: str, revision: str) -> str:
    """What `revision` meant when this machine last asked, by our own note or by the Hub client's."""
    client_note = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "refs" / revision
    for note in (_ref_file(repo, revision), client_note):
        with contextlib.suppress(OSError):
            return note.read_text().strip()
    raise BlockedError(
        f"HF_HUB_OFFLINE is set and the cache does not know which commit of {repo} '{revision}' is",
        hint="unset HF_HUB_OFFLINE, or write the 40-digit commit as `revision`",
    )


def _ref_file(repo: str, revision: str) -> Path:
    return paths.home_dir() / "catalog" / f"{repo.replace('/', '--')}@{revision.replace('/', '--')}.ref"


def _facts_file(repo: str, commit: str) -> Path:
    return paths.home_dir() / "catalog" / f"{repo.replace('/', '--')}@{commit}.json"


def _cached_facts(repo: str, commit: str) -> dict[str, Any] | None:
    try:
        facts = json.loads(_facts_file(repo, commit).read_bytes())
    except (OSError, ValueError, RecursionError):  # a cache: what cannot be read is fetched again
        return None
    return facts if isinstance(facts, dict) and facts.get("format_version") == FORMAT_VERSION else None


def _fetch_facts(repo: str, commit: str) -> dict[str, Any]:
    api = HfApi()
    # config.json first: the listing of a gated repository is public, its files are not
    config_path = _ask(lambda: hf_hub_download(repo, "config.json", revision=commit), repo, commit)
    config = _read_config(Path(config_path), repo)
    sizes = _ask(lambda: _list_files(api, repo, commit), repo, commit)
    files = {name: sizes[name] for name in serving_files(sizes)}
    weights = [name for name in files if name.endswith(".safetensors")]
    if not weights:
        raise BlockedError(
            f"{repo} has no safetensors weights", hint="pickle weights can run code and are not served; choose another"
        )
    with ThreadPoolExecutor(HEADERS_AT_ONCE) as pool:
        found = pool.map(lambda name: _tensors(api, repo, commit, name), weights)
        tensors = [[each.name, each.dtype, each.shape] for of_file in found for each in of_file]
    facts = {"format_version": FORMAT_VERSION, "config": config, "files": files, "tensors": tensors}
    with contextlib.suppress(RecursionError):  # a config that can just be read is too deep to write: read it again
        atomic.write_bytes(
            _facts_file(repo, commit), json.dumps(facts).encode()
        )  # ASCII: JSON may hold half characters
    return facts


def _read_config(path: Path, repo: str) -> dict[str, Any]:
    try:
        content = regular_file.read(path, limit=LARGEST_FILE_BYTES)
    except OSError as error:
        raise SelfhostError(
            f"cannot read config.json of {repo}: {error.strerror}", hint=f"remove {path}, or choose another model"
        ) from error
    return read_config(content, name=f"config.json of {repo}")


def _list_files(api: HfApi, repo: str, commit: str) -> dict[str, int]:
    """Every file of the repository with its size in bytes."""
    info = api.model_info(repo, revision=commit, files_metadata=True)
    return {str(file.rfilename): int(file.size or 0) for file in info.siblings or ()}


def _tensors(api: HfApi, repo: str, commit: str, name: str) -> tuple[Tensor, ...]:
    """The tensors of one weight file, read from its header by a range request."""
    try:  # a SelfhostError of `_ask` passes through
        header = _ask(lambda: api.parse_safetensors_file_metadata(repo, name, revision=commit), repo, commit)
        entries = {
            tensor: {"dtype": info.dtype, "shape": info.shape, "data_offsets": list(info.data_offsets)}
            for tensor, info in header.tensors.items()
        }
        return safetensors.parse_header(entries)[0]
    except (SafetensorsParsingError, *STRANGE_ANSWERS) as error:
        raise SelfhostError(
            f"{name} of {repo} is damaged: {error}", hint="choose another model, or another `revision` of it"
        ) from error


def _ask(question: Callable[[], T], repo: str, revision: str) -> T:
    try:
        return question()
    except (
        httpx2.HTTPError,
        httpx2.InvalidURL,
        HFValidationError,
        OSError,
    ) as error:  # HfHubHTTPError is the first of these
        raise explain(error, repo, revision) from error
    except STRANGE_ANSWERS as error:
        raise SelfhostError(
            f"what the Hub answered about {repo} cannot be read: {type(error).__name__}: {error}",
            hint=f"is there a proxy or a login page in between? HF_ENDPOINT is {constants.ENDPOINT}",
        ) from error
