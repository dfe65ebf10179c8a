"""What the Hub client raises, as sentences with a next step. The client's own classes say less than their causes."""

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from selfhost.errors import BlockedError, SelfhostError


def explain(error: Exception, repo: str, revision: str) -> SelfhostError:
    """Turn what the client raised for `repo` at `revision` into a sentence and a next step."""
    url = f"{constants.ENDPOINT}/{repo}"
    if isinstance(error, GatedRepoError):  # before RepositoryNotFoundError, of which it is a subclass
        return BlockedError(
            f"{repo} is gated: its owner must grant you access",
            hint=f"accept its licence at {url}, then set HF_TOKEN to a token of that account",
        )
    if isinstance(error, RepositoryNotFoundError):
        return BlockedError(
            f"{repo} does not exist, or is private and HF_TOKEN does not open it",
            hint=f"check the spelling at {url}; a private repository needs HF_TOKEN",
        )
    if isinstance(error, RevisionNotFoundError):
        return BlockedError(f"{repo} has no revision '{revision}'", hint=f"see {url}/commits/main")
    if isinstance(error, RemoteEntryNotFoundError):
        return BlockedError(
            f"{repo} lacks a file that serving needs: {error}", hint=f"see its files at {url}/tree/main"
        )
    if isinstance(error, HFValidationError):
        return SelfhostError(f"'{repo}' is not a repository id", hint="write `source: owner/name`")
    if isinstance(error, OfflineModeIsEnabled) or (isinstance(error, LocalEntryNotFoundError) and _offline()):
        return BlockedError(
            f"{repo}@{revision} is not in the cache and HF_HUB_OFFLINE is set",
            hint="unset HF_HUB_OFFLINE, or fetch it first: selfhost pull",
        )
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return explain_cause(error.__cause__, repo, url)
    return explain_cause(error, repo, url)


def explain_cause(error: BaseException, repo: str, url: str) -> SelfhostError:
    """The rest: HTTP statuses and network failures, which another attempt may cure."""
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        if status in {401, 403}:
            return BlockedError(
                f"the Hub refuses access to {repo} (HTTP {status})",
                hint="is HF_TOKEN valid, and may it read this repository?",
            )
        return SelfhostError(f"the Hub answered HTTP {status} for {repo}", hint=f"try again later; see {url}")
    return SelfhostError(
        f"cannot reach the Hub for {repo}: {type(error).__name__}: {error}",
        hint=f"check the network and HF_ENDPOINT ({constants.ENDPOINT})",
    )


def _offline() -> bool:
    return constants.is_offline_mode()
