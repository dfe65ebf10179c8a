"""What the gateway counts: plain numbers while requests run, Prometheus' types when somebody asks."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from selfhost.gateway.http_request import Request

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counters since the start. A request costs a few additions; prometheus_client's own counters would cost 4 us."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()  # by model, route and status
        self._prompt_tokens: Counter[str] = Counter()
        self._completion_tokens: Counter[str] = Counter()
        self._failures: Counter[tuple[str, str]] = Counter()  # by model and reason
        self._first_byte: dict[str, list[int]] = {}  # by model: how many within each bound, and beyond the last
        self._first_byte_seconds: defaultdict[str, float] = defaultdict(float)

    def finished(self, request: Request, status: int) -> None:
        """A request has ended."""
        model = request.model
        self._requests[model, request.route, status] += 1
        if request.completion_tokens is not None and request.prompt_tokens is not None:
            self._prompt_tokens[model] += request.prompt_tokens
            self._completion_tokens[model] += request.completion_tokens
        if request.first_byte is not None:
            seconds = request.first_byte - request.started
            if model not in self._first_byte:
                self._first_byte[model] = [0] * (len(_BOUNDS_SECONDS) + 1)
            self._first_byte[model][bisect_left(_BOUNDS_SECONDS, seconds)] += 1
            self._first_byte_seconds[model] += seconds

    def upstream_failed(self, model: str, reason: str) -> None:
        """An engine did not do what it should."""
        self._failures[model, reason] += 1

    def render(self, *, in_flight: Mapping[str, int], connections: int) -> bytes:
        """Everything as Prometheus reads it; `in_flight` by model."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Snapshot(self, in_flight, connections))
        return generate_latest(registry)

    def families(self) -> Iterator[Metric]:
        """The counters as Prometheus' types."""
        requests = CounterMetricFamily(
            "selfhost_gateway_requests", "Requests that ended.", labels=("model", "route", "status")
        )
        for (model, route, status), count in self._requests.items():
            requests.add_metric((model, route, str(status)), count)
        yield requests
        prompt = CounterMetricFamily(
            "selfhost_gateway_prompt_tokens", "Prompt tokens, as engines counted them.", labels=("model",)
        )
        completion = CounterMetricFamily(
            "selfhost_gateway_completion_tokens", "Generated tokens, as engines counted them.", labels=("model",)
        )
        for family, counts in ((prompt, self._prompt_tokens), (completion, self._completion_tokens)):
            for model, count in counts.items():
                family.add_metric((model,), count)
            yield family
        failures = CounterMetricFamily(
            "selfhost_gateway_upstream_errors", "What engines did not do as they should.", labels=("model", "reason")
        )
        for labels, count in self._failures.items():
            failures.add_metric(labels, count)
        yield failures
        first_byte = HistogramMetricFamily(
            "selfhost_gateway_time_to_first_byte_seconds",
            "From the whole request to the first byte of the engine's answer.",
            labels=("model",),
        )
        for model, histogram in self._first_byte.items():
            first_byte.add_metric((model,), _cumulative(histogram), self._first_byte_seconds[model])
        yield first_byte


class _Snapshot:
    """A collector in the sense of prometheus_client: the counters, and what is true right now."""

    def __init__(self, metrics: Metrics, in_flight: Mapping[str, int], connections: int) -> None:
        self._metrics = metrics
        self._in_flight = in_flight
        self._connections = connections

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics.families()
        running = GaugeMetricFamily(
            "selfhost_gateway_requests_in_flight", "Requests that engines are working on.", labels=("model",)
        )
        for model, count in self._in_flight.items():
            running.add_metric((model,), count)
        yield running
        yield GaugeMetricFamily("selfhost_gateway_connections", "Open connections of clients.", self._connections)


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, _BOUNDS_SECONDS), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
