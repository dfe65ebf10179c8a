"""The models as OpenAI's clients list them. Pure."""

from typing import Any

import orjson

from selfhost.gateway.http_response import Response
from selfhost.gateway.routing import Directory


def listing(directory: Directory, *, created: int) -> Response:
    """`GET /v1/models`: every name that works, an alias with the model it stands for as its `root`."""
    data = [_model(directory, name, created) for name in directory.names]
    return Response(status=200, body=orjson.dumps({"object": "list", "data": data}))


def entry(directory: Directory, name: str, *, created: int) -> Response:
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
