"""GET /metrics: the node's counts in Prometheus' text format, read from the database at each scrape."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from metering.billing_status import BillingStatus, events_waiting, read_status
from metering.usage import read_usage
from portal_api.auth import requires, visible_clinics
from portal_api.parts import Parts, parts_of
from portal_api.permissions import Permission
from storage.answers.drift import read_drift
from storage.api_keys import ApiKey
from storage.arrivals.receivers import receiver_signs
from storage.counts import read_counts, workers_alive

router = APIRouter(tags=["node"])

# Field of Counts, metric, labels, what it says. A name that ends in _total only ever grows.
METRICS = (
    ("studies", "collimator_studies", ("clinic", "state"), "Studies by state."),
    ("quarantined", "collimator_quarantined_instances", ("clinic", "reason"), "Instances that cannot be used."),
    ("deliveries", "collimator_deliveries", ("clinic", "destination", "state"), "Results on their way, by state."),
    (
        "oldest_pending_delivery_s",
        "collimator_oldest_pending_delivery_seconds",
        ("clinic", "destination"),
        "How long the oldest result has been waiting for its destination.",
    ),
    (
        "charged",
        "collimator_studies_charged_this_month",
        ("clinic",),
        "Studies charged in this calendar month, in UTC.",
    ),
    ("instances", "collimator_instances", ("clinic",), "Instances that were received and kept."),
    ("sent_again", "collimator_instances_sent_again_total", ("clinic",), "Identical re-sends, acknowledged, dropped."),
    ("sent_back", "collimator_results_sent_back_total", ("clinic",), "Own results that a PACS sent back."),
    ("commitments", "collimator_commitments", ("clinic", "state"), "Requests for storage commitment, by state."),
    (
        "device_failed",
        "collimator_analyses_on_cpu_instead_total",
        ("clinic",),
        "Analyses that the CPU made because no GPU of the settings could.",
    ),
)
BILLING_METRICS: tuple[tuple[str, str, Callable[[BillingStatus, datetime], float]], ...] = (
    ("collimator_billing_waiting", "Ledger rows that Stripe does not know.", lambda line, _: line.waiting),
    (
        "collimator_billing_oldest_waiting_seconds",
        "Since when the oldest of them waits.",
        lambda line, now: _seconds(line.oldest_waiting, now),
    ),
    ("collimator_billing_overdue", "Of them, those that wait longer than seven days.", lambda line, _: line.overdue),
    (
        "collimator_billing_silent_seconds",
        "How long ago Stripe last answered; after 72 hours new studies wait.",
        lambda line, now: _seconds(line.seen_at, now),
    ),
    (
        "collimator_billing_corrected",
        "Periods that Stripe billed otherwise than the ledger.",
        lambda line, _: line.corrected,
    ),
)
DRIFT_LABELS = ("clinic", "caller", "package", "version", "feature")


def _seconds(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else (now - since).total_seconds()


@router.get(
    "/metrics",
    summary="Counts for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
def metrics(request: Request, key: Annotated[ApiKey, Depends(requires(Permission.METRICS))]) -> Response:
    """The clinics that the key may see, and the node as a whole."""
    registry = CollectorRegistry()
    registry.register(DatabaseCollector(parts_of(request), visible_clinics(key)))
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


class DatabaseCollector(Collector):
    """Reads everything once, when the registry asks."""

    def __init__(self, parts: Parts, clinics: frozenset[str] | None) -> None:
        self._parts = parts
        self._clinics = clinics

    def describe(self) -> list[Metric]:
        """Nothing: a registry that knows no names beforehand need not read the database to be built."""
        return []

    def collect(self) -> Iterator[Metric]:
        signs = receiver_signs(self._parts.database)
        yield GaugeMetricFamily(
            "collimator_receivers_alive",
            "Receivers that have shown themselves within the last 20 seconds, with all their listeners.",
            value=sum(sign.is_alive for sign in signs),
        )
        seen = GaugeMetricFamily(
            "collimator_receiver_seen_seconds_ago", "How long each receiver has been silent.", labels=("receiver",)
        )
        for sign in signs:
            seen.add_metric((sign.name,), sign.seconds_ago)
        yield seen
        yield GaugeMetricFamily(
            "collimator_workers_alive",
            "Workers that have shown themselves within their lease.",
            value=workers_alive(self._parts.database, lease_s=self._parts.worker_lease_s),
        )
        counts = read_counts(self._parts.database, clinics=self._clinics)
        for field, name, labels, says in METRICS:
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = kind(name, says, labels=labels)
            for count in getattr(counts, field):
                family.add_metric(count.labels, count.value)
            yield family
        yield from self._quota()
        yield from self._billing()
        yield from self._drift()

    def _quota(self) -> Iterator[Metric]:
        """Of each clinic's present billing period."""
        used = GaugeMetricFamily(
            "collimator_quota_used_studies", "Studies charged or reserved in the billing period.", labels=("clinic",)
        )
        included = GaugeMetricFamily(
            "collimator_quota_included_studies",
            "Studies that the plan includes; missing where that is every study.",
            labels=("clinic",),
        )
        alert = GaugeMetricFamily(
            "collimator_quota_alert_percent",
            "80 or 100 once so much of the included studies is used; 0 before.",
            labels=("clinic",),
        )
        waiting = GaugeMetricFamily(
            "collimator_quota_waiting_studies", "Studies kept until there is quota for them.", labels=("clinic",)
        )
        state = GaugeMetricFamily(
            "collimator_subscription", "1: the state that the clinic's subscription is in.", labels=("clinic", "state")
        )
        for one in read_usage(self._parts.database):
            if self._clinics is not None and one.clinic not in self._clinics:
                continue
            used.add_metric((one.clinic,), one.used)
            if one.included is not None:
                included.add_metric((one.clinic,), one.included)
            alert.add_metric((one.clinic,), one.alert or 0)
            waiting.add_metric((one.clinic,), one.waiting)
            state.add_metric((one.clinic, one.state), 1)
        yield from (used, included, alert, waiting, state)

    def _billing(self) -> Iterator[Metric]:
        """Of clinics that pay by Stripe (docs/runbooks/billing.md)."""
        now = datetime.now(UTC)
        lines = read_status(self._parts.database, now=now, clinics=self._clinics)
        for name, says, value in BILLING_METRICS:
            family = GaugeMetricFamily(name, says, labels=("clinic",))
            for line in lines:
                family.add_metric((line.clinic,), value(line, now))
            yield family
        yield GaugeMetricFamily(
            "collimator_stripe_events_waiting",
            "Events of Stripe's that nobody has acted on.",
            value=events_waiting(self._parts.database),
        )

    def _drift(self) -> Iterator[Metric]:
        psi = GaugeMetricFamily(
            "collimator_model_drift_psi",
            "Population stability index of a week's scores or images against the first ones.",
            labels=DRIFT_LABELS,
        )
        alarm = GaugeMetricFamily(
            "collimator_model_drift_alarm",
            "1: they have changed, by more than chance (docs/runbooks/model-drift.md).",
            labels=DRIFT_LABELS,
        )
        for line in read_drift(self._parts.database, clinics=self._clinics):
            if line.psi is not None:
                labels = (line.clinic, line.calling_ae_title, line.package, line.version, line.feature)
                psi.add_metric(labels, line.psi)
                alarm.add_metric(labels, line.is_alarm)
        yield psi
        yield alarm
