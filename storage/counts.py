"""Counts over the tables at this moment, for /health and /metrics; no identifier of a study or a patient is in them.

They are taken anew for each scrape: what the tables say survives restarts and is the same whichever portal answers.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from domain.findings import INSTEAD_OF
from domain.states import DeliveryState
from storage.database import Database, database_clock, utc_now
from storage.tables import (
    commitments,
    deliveries,
    executors,
    instances,
    ledger,
    quarantine,
    results,
    studies,
    study_events,
)

ON_CPU_INSTEAD = (study_events.c.event == "analysed", study_events.c.detail.contains(INSTEAD_OF))
BY_CLINIC_AND_DESTINATION = (studies.c.clinic, deliveries.c.destination)


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """How much there is of something, under the labels that it was counted by."""

    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Everything that is counted, each with the labels of its counts."""

    studies: tuple[Count, ...]  # clinic, state
    quarantined: tuple[Count, ...]  # clinic, reason
    deliveries: tuple[Count, ...]  # clinic, destination, state
    oldest_pending_delivery_s: tuple[Count, ...]  # clinic, destination
    charged: tuple[Count, ...]  # clinic; in this calendar month, in UTC
    instances: tuple[Count, ...]  # clinic
    sent_again: tuple[Count, ...]  # clinic
    sent_back: tuple[Count, ...]  # clinic
    commitments: tuple[Count, ...]  # clinic, state
    device_failed: tuple[Count, ...]  # clinic


def read_counts(database: Database, *, clinics: Collection[str] | None) -> Counts:
    """All counts of the clinics that the reader may see (None: all)."""
    month = utc_now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    on_the_way = studies.join(results).join(deliveries)
    pending = deliveries.c.state == DeliveryState.PENDING
    with database.read() as connection:

        def count(
            table: sa.FromClause, labels: tuple[sa.Column[Any], ...], what: Any = None, *where: Any
        ) -> tuple[Count, ...]:
            query = sa.select(*labels, sa.func.count() if what is None else what).select_from(table).where(*where)
            if clinics is not None:
                query = query.where(labels[0].in_(clinics))
            rows = connection.execute(query.group_by(*labels).order_by(*labels))
            # A quarantined instance of an unknown caller belongs to no clinic.
            return tuple(Count(labels=tuple(label or "" for label in row[:-1]), value=_number(row[-1])) for row in rows)

        oldest = sa.func.min(results.c.written_at)
        charges = (ledger.c.kind == "charge", ledger.c.charged_at >= month)
        return Counts(
            studies=count(studies, (studies.c.clinic, studies.c.state)),
            quarantined=count(quarantine, (quarantine.c.clinic, quarantine.c.reason)),
            deliveries=count(on_the_way, (*BY_CLINIC_AND_DESTINATION, deliveries.c.state)),
            oldest_pending_delivery_s=count(on_the_way, BY_CLINIC_AND_DESTINATION, oldest, pending),
            charged=count(ledger, (ledger.c.clinic,), None, *charges),
            instances=count(instances, (instances.c.clinic,)),
            sent_again=count(instances, (instances.c.clinic,), sa.func.sum(instances.c.times_sent_again)),
            sent_back=count(studies.join(results), (studies.c.clinic,), sa.func.sum(results.c.times_sent_back)),
            commitments=count(commitments, (commitments.c.clinic, commitments.c.state)),
            device_failed=count(studies.join(study_events), (studies.c.clinic,), None, *ON_CPU_INSTEAD),
        )


def workers_alive(database: Database, *, lease_s: float) -> int:
    """How many workers have shown themselves within the lease, by the database's own clock."""
    with database.read() as connection:
        now = database_clock(connection)
        alive = sa.select(sa.func.count()).select_from(executors).where(executors.c.seen_at > now - lease_s)
        return connection.scalar(alive) or 0


def _number(value: object) -> float:
    """A moment counts as the seconds since then."""
    return (utc_now() - value).total_seconds() if isinstance(value, datetime) else float(str(value))
