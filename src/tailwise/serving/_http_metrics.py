"""Counts and times for Prometheus; of several workers together."""

import os
from collections.abc import Mapping
from dataclasses import asdict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from tailwise.serving._lineup import Lineup
from tailwise.serving._records import ServedList
from tailwise.serving._service import Served

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is imported


class Metrics:
    """What the service counts.

    Several workers write into files of one folder, ``PROMETHEUS_MULTIPROC_DIR``, and each answers for
    all of them: counters and histograms are sums; gauges have the ``pid`` of a process, and go with it.
    """

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.requests = Counter(
            "tailwise_http_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "tailwise_http_request_seconds",
            "From the arrival of a request to its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.answers = Counter(
            "tailwise_lists",
            "Requests for lists; reason says why a fallback made one, or why none was made (method refused).",
            ("variant", "surface", "method", "reason"),
            registry=registry,
        )
        self.explored = Counter(
            "tailwise_explored_lists", "Lists that were drawn.", ("variant",), registry=registry
        )
        self.warnings = Counter(
            "tailwise_warnings",
            "What went wrong without stopping an answer: log-unavailable means an unlogged list, "
            "refusal-not-logged a request without a list that the log does not know of.",
            ("kind",),
            registry=registry,
        )
        self.swaps = Counter("tailwise_swaps", "Models replaced.", ("name", "outcome"), registry=registry)
        self.generation = self._gauge("tailwise_deployment_generation", "Deployment taken up.")
        self.model = self._gauge("tailwise_model_info", "1 for each served model.", "name", "digest")
        self.in_flight = self._gauge("tailwise_model_requests_in_flight", "Requests with a model.", "name")
        self.engine = self._gauge(
            "tailwise_engine", "Numbers of a model's engine: see Engine.state().", "name", "number"
        )
        self.event_log = self._gauge(
            "tailwise_event_log", "Numbers of the event log: see EventLog.state().", "number"
        )

    @property
    def registry(self) -> CollectorRegistry:
        """Where further metrics of this process are registered."""
        return self._registry

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode="liveall")

    def count_list(self, served: Served) -> None:
        """Count one list."""
        answer, variant = served.record.answer, served.record.assigned.variant
        self.answers.labels(variant, served.record.surface, answer.method, answer.reason or "").inc()
        if answer.is_explored:
            self.explored.labels(variant).inc()
        for kind in served.warnings:
            self.warnings.labels(kind).inc()

    def count_refusal(self, refused: ServedList) -> None:
        """Count a request that ended without a list."""
        variant, answer = refused.assigned.variant, refused.answer
        self.answers.labels(variant, refused.surface, answer.method, answer.reason or "").inc()

    def count_unlogged_refusal(self) -> None:
        """Count a request without a list that the log does not keep."""
        self.warnings.labels("refusal-not-logged").inc()

    def observe(self, lineup: Lineup, generation: int, log_state: Mapping[str, object]) -> None:
        """Take down the state of this process; to be called every few seconds.

        Args:
            lineup: What is served.
            generation: Of the deployment.
            log_state: Of the event log; its numbers are taken.
        """
        self.generation.set(generation)
        if not os.environ.get(_FOLDER):  # in files of several processes a label cannot be taken back
            self.model.clear()
        for name, member in lineup.members().items():
            self.model.labels(name, member.engine.model.digest[:12]).set(1)
            self.in_flight.labels(name).set(member.n_in_flight)
            for number, value in _numbers(asdict(member.engine.state())).items():
                self.engine.labels(name, number).set(value)
        for number, value in _numbers(log_state).items():
            self.event_log.labels(number).set(value)

    def forget_model(self, name: str, digest: str) -> None:
        """Say that a model is no longer served."""
        self.model.labels(name, digest[:12]).set(0)

    def text(self) -> bytes:
        """Write the metrics of all workers."""
        registry = self._registry
        if os.environ.get(_FOLDER):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _numbers(state: Mapping[str, object]) -> dict[str, float]:
    """The numbers of a state, True as 1; the rest is for people."""
    return {name: float(value) for name, value in state.items() if isinstance(value, int | float)}
