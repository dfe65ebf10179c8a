"""The question to the Hub: `python -m selfhost.doctor.hub_query SECONDS [REPO@REVISION...]` prints one line of JSON.

A process of its own: the Hub's client cannot be interrupted, and its threads would keep this program from ending.
"""

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from huggingface_hub import constants, get_hf_file_metadata, get_session, get_token, hf_hub_url

from selfhost.catalog.hub_errors import explain
from selfhost.errors import BlockedError

AT_ONCE = 8


def main(args: Sequence[str]) -> None:
    """Print what the Hub says about itself and about each repository."""
    seconds, repositories = float(args[0]), args[1:]
    answer: dict[str, Any] = {"endpoint": constants.ENDPOINT, "offline": constants.is_offline_mode()}
    if not answer["offline"]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            itself = pool.submit(_ask_itself, seconds)
            asked = {text: pool.submit(_ask_about, text, seconds) for text in repositories}
        answer |= itself.result()
        answer["repositories"] = {text: future.result() for text, future in asked.items()}
    sys.stdout.write(json.dumps(answer) + "\n")


def _ask_itself(seconds: float) -> dict[str, Any]:
    """Whether it answers at all, and how far this machine's clock is ahead of its Date header."""
    try:
        response = get_session().head(constants.ENDPOINT, timeout=seconds)
    except (httpx2.HTTPError, OSError) as error:
        return {"unreachable": f"{type(error).__name__}: {error}".removesuffix(": ")}
    try:
        date = parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return {}
    return {"clock_ahead_seconds": time.time() - date}


def _ask_about(wanted: str, seconds: float) -> dict[str, Any] | None:
    """Why `REPO@REVISION` cannot be fetched, or None. By its config.json: a gated repository's listing is public."""
    repo, _, revision = wanted.partition("@")
    url = hf_hub_url(repo, "config.json", revision=revision)
    try:
        get_hf_file_metadata(url, token=get_token(), timeout=seconds)
    except (httpx2.HTTPError, OSError, ValueError) as error:
        problem = explain(error, repo, revision)
        return {
            "message": problem.message,
            "hint": problem.hint,
            "blocks": isinstance(problem, BlockedError),
        }
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
