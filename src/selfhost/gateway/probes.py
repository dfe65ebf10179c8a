"""What probes are told: the truth in one word for everybody, with reasons for those who may know them. Pure."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

import orjson

from selfhost.gateway.http_response import Response
from selfhost.gateway.routing import Directory
from selfhost.planner.routing import ServedModel


def liveness() -> Response:
    """The loop turns: that is all that being alive means here."""
    return _answer(ok=True, word="alive", details={})


def readiness(directory: Directory, query: bytes, *, detailed: bool) -> Response:
    """Ready when every model (of those in `?model=`, else of all) has a replica that answers; 404 for unknown ones."""
    asked = parse_qs(query.decode("ascii", "replace"), keep_blank_values=True).get("model")
    models: Iterable[ServedModel] = directory.table.models
    if asked:
        models = {target.model.name: target.model for target in map(directory.find, asked)}.values()
    models = tuple(models)
    ready = bool(models) and all(model.ready for model in models)
    return _answer(ok=ready, word="ready" if ready else "not ready", details=_details(models) if detailed else {})


def startup(directory: Directory, *, detailed: bool) -> Response:
    """Started when every model has been ready once."""
    started = directory.table.started
    details = _details(directory.table.models) if detailed else {}
    return _answer(ok=started, word="ready" if started else "not ready", details=details)


def model_list(directory: Directory, *, created: int) -> Response:
    """`GET /v1/models`: every name that works, an alias with the model it stands for as its `root`."""
    data = [_model(directory, name, created) for name in directory.names]
    return Response(status=200, body=orjson.dumps({"object": "list", "data": data}))


def model_entry(directory: Directory, name: str, *, created: int) -> Response:
    """`GET /v1/models/NAME`; raises the 404 that lists the known names."""
    return Response(status=200, body=orjson.dumps(_model(directory, name, created)))


def _model(directory: Directory, name: str, created: int) -> dict[str, Any]:
    model = directory.find(name).model
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "selfhost",
        "root": model.name,
        "max_model_len": model.max_model_len,
    }


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
