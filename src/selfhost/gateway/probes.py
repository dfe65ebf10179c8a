"""What probes are told: the truth in one word for everybody, with reasons for those who may know them. Pure."""

from collections.abc import Collection, Iterable
from typing import Any

import orjson

from selfhost.gateway.http_response import Response
from selfhost.gateway.openai import ApiError
from selfhost.gateway.routing import Directory
from selfhost.planner.routing import ServedModel


def liveness() -> Response:
    """The loop turns: that is all that being alive means here."""
    return _answer(ok=True, word="alive", details={})


def readiness(directory: Directory, asked: Collection[str], *, detailed: bool) -> Response:
    """Ready when every model (of those `asked` for, else of all) has a replica that answers; 404 for unknown ones.

    A caller who may not know details is not told the known names either.
    """
    models = directory.table.models
    if asked:
        if not detailed and not set(asked) <= set(directory.names):
            raise ApiError(404, "there is no such model", param="model", code="model_not_found")
        models = tuple({directory.find(name).model for name in asked})
    ready = bool(models) and all(model.ready for model in models)
    return _answer(ok=ready, word="ready" if ready else "not ready", details=_details(models) if detailed else {})


def startup(directory: Directory, *, detailed: bool) -> Response:
    """Started when every model has been ready once."""
    started = directory.table.started
    details = _details(directory.table.models) if detailed else {}
    return _answer(ok=started, word="ready" if started else "not ready", details=details)


def _details(models: Iterable[ServedModel]) -> dict[str, Any]:
    return {
        "models": [
            {
                "name": model.name,
                "aliases": model.aliases,
                "ready": model.ready,
                "replicas": [
                    {
                        "replica": upstream.replica,
                        "state": upstream.state,
                        "cause": upstream.cause,
                        "since": upstream.since,
                    }
                    for upstream in model.upstreams
                ],
            }
            for model in models
        ]
    }


def _answer(*, ok: bool, word: str, details: dict[str, Any]) -> Response:
    return Response(status=200 if ok else 503, body=orjson.dumps({"status": word, **details}))
