"""What the gateway answers: the methods and paths that exist, who may use each, and how."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

from selfhost.gateway import models, openai, probes
from selfhost.gateway.access_log import AccessLog
from selfhost.gateway.auth import Doorkeeper
from selfhost.gateway.http_connection import Connection
from selfhost.gateway.http_request import Request
from selfhost.gateway.http_response import Response
from selfhost.gateway.metrics import CONTENT_TYPE
from selfhost.gateway.openai import ApiError
from selfhost.gateway.relay import Engines, Relay
from selfhost.gateway.routing import Directory, not_ready
from selfhost.planner.routing import RoutingTable

_GET, _HEAD, _POST = b"GET", b"HEAD", b"POST"
_ONE_MODEL = b"/v1/models/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path that exists."""

    name: str  # in logs and metrics
    methods: tuple[bytes, ...]
    answer: Callable[[Request, Connection], Response | None]  # None: a relay will answer
    is_probe: bool = False  # answers without a key, and when the gateway is full


class App:
    """Everything between a parsed request and its answer."""

    def __init__(self, *, doorkeeper: Doorkeeper, engines: Engines, access_log: AccessLog) -> None:
        self._doorkeeper = doorkeeper
        self._engines = engines
        self._access_log = access_log
        self._directory = Directory(RoutingTable(models=()))
        self._created = int(time.time())
        # Nothing else is let through, compared byte by byte: what an engine answers on other paths, some of it without
        # a key, cannot be reached by any spelling.
        probe, get, post = (_GET, _HEAD), (_GET,), (_POST,)
        routes = (
            Route(name="/livez", methods=probe, answer=self._livez, is_probe=True),
            Route(name="/readyz", methods=probe, answer=self._readyz, is_probe=True),
            Route(name="/startupz", methods=probe, answer=self._startupz, is_probe=True),
            Route(name="/metrics", methods=get, answer=self._metrics),
            Route(name="/v1/models", methods=get, answer=self._models),
            Route(name="/v1/completions", methods=post, answer=self._call),
            Route(name="/v1/chat/completions", methods=post, answer=self._call),
        )
        self._routes = {route.name.encode(): route for route in routes}
        self._one_model = Route(name="/v1/models/{model}", methods=get, answer=self._model)

    def use(self, table: RoutingTable) -> None:
        """Go by a new routing table from now on; requests that are running finish where they are."""
        self._directory = Directory(table)
        self._doorkeeper.declare(table.keys)
        self._engines.pools.keep_only(upstream.socket for model in table.models for upstream in model.upstreams)

    # what the server calls

    def admit(self, request: Request, *, room: bool) -> None:
        """Decide on a request by its head, before a byte of its body is kept; raises `ApiError`."""
        route = self._route(request.path)
        request.route = route.name
        if request.method not in route.methods:
            allowed = b", ".join(route.methods).decode()
            raise ApiError(
                405, f"{route.name} takes {allowed} only", code="method_not_allowed", headers=(("allow", allowed),)
            )
        if request.has_body and _POST not in route.methods:
            raise openai.bad_request(f"{route.name} takes no body")
        if route.is_probe:
            return
        self._check_caller(request)
        if not room:
            raise openai.unavailable("the gateway is full", code="too_many_connections", retry_after_seconds=2)

    def handle(self, request: Request, connection: Connection) -> None:
        """Answer an admitted request; raises `ApiError`."""
        response = self._route(request.path).answer(request, connection)
        if response is not None:
            connection.respond(response)

    def finished(self, request: Request, status: int) -> None:
        """A request has ended."""
        self._engines.metrics.finished(request, status)
        self._access_log.finished(request, status)

    def _route(self, path: bytes) -> Route:
        route = self._routes.get(path)
        if route is not None:
            return route
        if path.startswith(_ONE_MODEL) and b"%" not in path:
            return self._one_model
        raise ApiError(
            404, f"there is nothing here; try {', '.join(map(bytes.decode, self._routes))}", code="not_found"
        )

    def _check_caller(self, request: Request) -> None:
        request.key = self._doorkeeper.admit(request.headers.get(b"authorization"))
        self._doorkeeper.admit_page(request.headers.get(b"host"), request.headers.get(b"origin"))

    # what each route does

    def _livez(self, request: Request, connection: Connection) -> Response:
        del request, connection
        return probes.liveness()

    def _readyz(self, request: Request, connection: Connection) -> Response:
        del connection
        asked = parse_qs(request.query.decode("ascii", "replace"), keep_blank_values=True).get("model", ())
        return probes.readiness(self._directory, asked, detailed=self._may_know(request))

    def _startupz(self, request: Request, connection: Connection) -> Response:
        del connection
        return probes.startup(self._directory, detailed=self._may_know(request))

    def _metrics(self, request: Request, connection: Connection) -> Response:
        del request
        pools = self._engines.pools
        in_flight = {
            model.name: sum(pools[upstream.socket].in_flight for upstream in model.upstreams)
            for model in self._directory.table.models
        }
        body = self._engines.metrics.render(in_flight=in_flight, connections=len(connection.server))
        return Response(status=200, body=body, content_type=CONTENT_TYPE)

    def _models(self, request: Request, connection: Connection) -> Response:
        del request, connection
        return models.listing(self._directory, created=self._created)

    def _model(self, request: Request, connection: Connection) -> Response:
        del connection
        name = request.path.removeprefix(_ONE_MODEL).decode("ascii")
        return models.entry(self._directory, name, created=self._created)

    def _call(self, request: Request, connection: Connection) -> None:
        call = openai.read_call(request.body)
        request.body = b""  # the call has it; a stream that runs for an hour need not
        target = self._directory.find(call.model)
        request.model = target.model.name
        if not target.ready:
            raise not_ready(target.model)
        body = openai.engine_body(call, target.model.name)
        Relay(self._engines, connection, request, target, body).start()

    def _may_know(self, request: Request) -> bool:
        """Whether a probe's caller may be told which models there are and what is wrong with them."""
        known = self._doorkeeper.identify(request.headers.get(b"authorization"))
        if self._doorkeeper.required:
            return known is not None
        return self._doorkeeper.is_addressed_by(request.headers.get(b"host"))
