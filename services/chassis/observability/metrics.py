"""The Prometheus metrics of a service, named noria_<service>_... in base units. No id is ever a label."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

LONG = (30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
OTHER = "other"


def buckets(most: float) -> tuple[float, ...]:
    """Upper bounds of a histogram whose longest time is `most` seconds; that one is a bound itself."""
    return (*SECONDS, *(bound for bound in LONG if bound < most), *([most] if most > SECONDS[-1] else []))


class Bounded:
    """Values of a label whose number has no bound: the first `limit` of them stand for themselves, the others for `other`.

    So many series are made and no more, whatever comes (Prometheus, "Naming", on cardinality).
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """The label's value for `value`."""
        if value not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(value)
        return value


class Metrics:
    """Counters and gauges that the chassis keeps; a service adds its own to `registry` with `prefix`."""

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        self.prefix = f"noria_{service}_"
        self.consumed = self.counter("consumed_total", "Messages taken from Kafka", "topic")
        self.done = self.counter("done_total", "Messages handled", "topic")
        self.dead = self.counter("dead_total", "Messages put into a dead-letter topic", "topic", "reason")
        self.parked = self.counter("parked_total", "Times a message was parked", "topic", "reason")
        self.duplicates = self.counter("duplicates_total", "Messages that had been taken before", "topic")
        self.batch_seconds = self.histogram("batch_seconds", "Seconds of a batch's transaction")
        self.published = self.counter("published_total", "Messages that Kafka has confirmed", "topic")
        self.parked_waiting = self.gauge("parked_waiting", "Messages parked now")
        self.outbox_waiting = self.gauge("outbox_waiting", "Messages to publish")
        self.outbox_failed = self.gauge("outbox_failed", "Messages that Kafka refused for good")
        self.outbox_age = self.gauge("outbox_age_seconds", "Age of the oldest message to publish")
        self.http_errors = self.counter("http_errors_total", "Answers over HTTP that are errors", "status")
        self.lag = self.gauge("lag", "Messages not taken yet", "topic")
        self.jobs = self.gauge("jobs", "Jobs that are not over, by kind and status", "kind", "status")
        self.jobs_ended = self.counter(
            "jobs_ended_total", "Jobs that a worker here ended, by kind and status", "kind", "status"
        )
        self.ready = self.gauge("ready", "1 while the readiness check passes", "check")
        self.group_member = self.gauge("group_member", "1 while this instance is a member of its consumer group")
        self.still = self.gauge("still_seconds", "Time since a partition of the topic last moved, if it lags", "topic")
        self.parked_deadline = self.gauge(
            "parked_deadline_seconds", "Time until the oldest parked message becomes a dead letter; +Inf without any"
        )
        self.parked_deadline.set(float("inf"))
        self.parked_age = self.gauge("parked_age_seconds", "Age of the oldest parked message")
        self.job_queued = self.gauge("job_queued_age_seconds", "Age of the oldest queued job", "kind")
        self.job_heartbeat = self.gauge("job_heartbeat_age_seconds", "Longest time without a job's heartbeat", "kind")
        self.job_progress = self.gauge(
            "job_progress_age_seconds", "Longest time without progress of a job here", "kind"
        )
        self.job_attempts = self.gauge("job_attempts", "Most tries of a job that is not over", "kind")
        self.pruned = self.counter("pruned_total", "Rows deleted behind their table's horizon", "table")
        self.prune_overdue = self.gauge(
            "prune_overdue_seconds", "Time that the oldest row stands beyond its table's horizon", "table"
        )
        self.disk_free = self.gauge("disk_free_bytes", "Free on the disk of NORIA_HOME")

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """A counter of this service."""
        return Counter(self.prefix + name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """A gauge of this service."""
        return Gauge(self.prefix + name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, *labels: str, most: float = SECONDS[-1]) -> Histogram:
        """A histogram of this service, in seconds; its buckets reach the longest time that is allowed, `most`."""
        return Histogram(self.prefix + name, text, labels, registry=self.registry, buckets=buckets(most))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
