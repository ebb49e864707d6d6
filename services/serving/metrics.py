"""The gateway's own metrics, since Triton's time only a part of a stream and count its errors as successes."""

from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from services.chassis.observability.metrics import Bounded, Metrics
from services.serving.settings import ServingSettings


@dataclass(frozen=True, slots=True)
class GatewayMetrics:
    """No model or request is a label: their number has no bound. Projects and keys are, up to `metrics_values` of each."""

    requests: Counter
    refused: Counter
    tokens: Counter
    first_token: Histogram
    next_token: Histogram
    seconds: Histogram
    embedding_seconds: Histogram
    embedding_tokens: Counter
    in_flight: Gauge
    deployments: Counter
    triton_up: Gauge
    spool_waiting: Gauge
    spool_age: Gauge
    of_project: Counter
    project_tokens: Counter
    project_seconds: Counter
    teacher_failures: Counter
    teacher_fallbacks: Counter
    teacher_cost: Counter
    project: Bounded
    key: Bounded

    def refuse(self, status: int, project: str = "") -> None:
        """Counts a refusal; the label is empty where the request names no project that there is."""
        self.refused.labels(str(status), self.project(project) if project else "").inc()


def gateway_metrics(metrics: Metrics, settings: ServingSettings) -> GatewayMetrics:
    """The gateway's metrics in the service's registry, under noria_serving_."""
    by_caller, longest = ("project", "key"), settings.answer_seconds
    return GatewayMetrics(
        requests=metrics.counter("requests_total", "Requests answered, failed or cancelled", "endpoint", "status"),
        refused=metrics.counter("refused_total", "Requests refused before a model was asked", "status", "project"),
        tokens=metrics.counter("tokens_total", "Tokens read and written", "kind"),
        first_token=metrics.histogram(
            "time_to_first_token_seconds", "From the request to its first text", most=longest
        ),
        next_token=metrics.histogram(
            "inter_token_seconds",
            "Between two pieces of a stream, a piece being a token",
            most=settings.silence_seconds,
        ),
        seconds=metrics.histogram("request_seconds", "From the request to the end of its answer", most=longest),
        embedding_seconds=metrics.histogram(
            "embedding_seconds", "From a request for embeddings to its answer", "model", most=longest
        ),
        embedding_tokens=metrics.counter("embedding_tokens_total", "Tokens of texts that were embedded", "model"),
        in_flight=metrics.gauge("in_flight", "Requests at work"),
        deployments=metrics.counter("deployments_total", "Changes of what is served", "status"),
        triton_up=metrics.gauge("triton_up", "1 while Triton answers"),
        spool_waiting=metrics.gauge("spool_waiting", "Records of requests to publish"),
        spool_age=metrics.gauge("spool_age_seconds", "Age of the oldest record of a request to publish"),
        of_project=metrics.counter("project_requests_total", "Requests by who sent them", *by_caller, "status"),
        project_tokens=metrics.counter("project_tokens_total", "Tokens read and written", *by_caller, "kind"),
        project_seconds=metrics.counter("project_seconds_total", "Seconds from request to end", *by_caller),
        teacher_failures=metrics.counter("teacher_failures_total", "Requests that a teacher failed", "code"),
        teacher_fallbacks=metrics.counter(
            "teacher_fallbacks_total", "Requests that a model here answered since the teacher could not", "code"
        ),
        teacher_cost=metrics.counter("teacher_cost_total", "Money for answers of teachers", "project", "currency"),
        project=Bounded(settings.metrics_values),
        key=Bounded(settings.metrics_values),
    )
