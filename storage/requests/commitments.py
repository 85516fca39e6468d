"""Rows for storage commitment: what was asked, what is held of it, and whether the caller was told.

States are drawn in domain/commitment.py. `due_at` of a waiting request is when it stops to wait for the indexer; of a
pending one, when its report is tried next. Taking a pending row moves its `due_at` ahead: nobody else takes it, and if
whoever took it dies, it is due again.

One row for each Transaction UID of a caller: who asks again is answered again, and by one report however often he asked
before it went out. storage/requests/transactions.py has seen to it that the same instances are meant.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from itertools import islice
from typing import Any

import sqlalchemy as sa
import structlog

from domain.commitment import CommitmentRequest, CommitmentRules, CommitmentState, Holding, Reference
from domain.errors import Away
from domain.states import StudyState
from storage.clinic_lock import lock_clinic
from storage.content import check_content
from storage.database import Database, utc_now
from storage.events import add_event
from storage.instances import Spool
from storage.requests.files import RequestBox
from storage.tables import commitments, instances, quarantine, studies

log = structlog.get_logger()

# An instance may be asked for while the indexer has yet to write its row.
INDEXER_BEHIND_S = 30.0
# ... and even where it has one, other content may have come under the same UID a moment ago, to another receiver of the
# same database; what came to the same one was compared before the request had its row (arrivals/followers.py).
SETTLES_WITHIN_S = 2.0
UIDS_AT_ONCE = 500
READ_AT_ONCE = 16  # files: a shared store is asked for several at once
DUE_LIMIT = 20  # each may name ten thousand instances
_NEXT = sa.select(commitments).order_by(commitments.c.due_at, commitments.c.id).limit(DUE_LIMIT)
_WAITING = _NEXT.where(commitments.c.state == CommitmentState.WAITING)
_DUE = _NEXT.where(commitments.c.state == CommitmentState.PENDING, commitments.c.due_at <= sa.bindparam("now"))


class FileState(Enum):
    """How it stands with the file of an instance that has a row."""

    WHOLE = "whole"
    DAMAGED = "damaged"  # or cannot be read now
    GONE = "gone"


@dataclass(frozen=True, kw_only=True, slots=True)
class Commitment:
    """A request that has its row. `attempts`: reports that were tried, this one included once it is taken."""

    commitment_id: int
    attempts: int
    due_at: datetime
    request: CommitmentRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitmentRow:
    """A request as an administrator sees it. `instances`: how many it names that were not erased since."""

    clinic: str
    calling_ae_title: str
    peer_address: str
    transaction_uid: str
    instances: int
    state: str
    attempts: int
    last_error: str
    requested_at: datetime
    next_attempt_at: datetime | None
    ended_at: datetime | None


def record_commitments(database: Database, box: RequestBox, keys: Sequence[str] | None = None) -> int:
    """Bring every waiting request, or these, into the database; how many that were. Doing one twice changes nothing.

    Raises:
        DBAPIError: the database is away; the requests wait.
    """
    return box.bring_in(database, CommitmentRequest, record_commitment, keys)


def record_commitment(connection: sa.Connection, request: CommitmentRequest) -> bool:
    """Enter one request, or that it was made again; a copy that is not newer than the row changes nothing.

    False when its clinic has no row yet: the receiver knew it before this worker did.
    """
    # Two workers may bring in the same request at the same moment; the clinic's row is the lock.
    if not lock_clinic(connection, request.clinic):
        return False
    transaction = {
        "clinic": request.clinic,
        "calling_ae_title": request.calling_ae_title,
        "transaction_uid": request.transaction_uid,
    }
    this = [commitments.c[column] == value for column, value in transaction.items()]
    known = connection.execute(sa.select(commitments).where(*this)).one_or_none()
    values = {
        "peer_address": request.peer_address,
        "asked": [[one.sop_class_uid, one.sop_instance_uid] for one in request.asked],
        "state": CommitmentState.WAITING,
        "requested_at": request.requested_at,
        "due_at": utc_now() + timedelta(seconds=INDEXER_BEHIND_S),
    }
    if known is None:
        connection.execute(sa.insert(commitments).values(**transaction, **values))
    elif known.requested_at < request.requested_at:
        if known.state == CommitmentState.WAITING:
            del values["due_at"]  # who asks every few seconds gets his report all the same
        connection.execute(
            sa.update(commitments).where(*this).values(**values, attempts=0, last_error="", ended_at=None)
        )
    return True


def holdings(database: Database, spool: Spool, clinic: str, sop_instance_uids: Sequence[str]) -> Mapping[str, Holding]:
    """What the node holds for this clinic under each of these SOP Instance UIDs; what it does not know is left out.

    Each file is opened, and as far as that can be told it is what came: whoever asks may delete his own.

    Raises:
        Away: the shared store is.
    """
    found: dict[str, Holding] = {}
    uids = iter(dict.fromkeys(sop_instance_uids))
    while some := list(islice(uids, UIDS_AT_ONCE)):
        with database.read() as connection:
            contested = set(
                connection.scalars(
                    sa.select(quarantine.c.sop_instance_uid).where(
                        quarantine.c.clinic == clinic,
                        quarantine.c.sop_instance_uid.in_(some),
                    )
                )
            )
            rows = connection.execute(
                sa.select(instances).where(instances.c.clinic == clinic, instances.c.sop_instance_uid.in_(some))
            ).all()
            ages = _delivered_days(connection, clinic, {row.study_instance_uid for row in rows})
        with ThreadPoolExecutor(READ_AT_ONCE, thread_name_prefix="held") as pool:
            states = list(pool.map(partial(_state_of_file, spool), rows))
        for row, state in zip(rows, states, strict=True):
            found[row.sop_instance_uid] = Holding(
                sop_class_uid=row.sop_class_uid,
                is_in_spool=state is not FileState.GONE,
                is_damaged=state is FileState.DAMAGED,
                is_contested=row.sop_instance_uid in contested,
                delivered_days=ages.get(row.study_instance_uid, 0.0),
            )
    return found


def _state_of_file(spool: Spool, row: sa.Row[Any]) -> FileState:
    """Raises:
    Away: the shared store is.
    """
    if row.removed_at is not None:
        return FileState.GONE
    try:
        check_content(
            spool,
            row.spool_key,
            clinic=row.clinic,
            sop_instance_uid=row.sop_instance_uid,
            size=row.size_bytes,
            digest=row.content_sha256 or "",
        )
    except FileNotFoundError:
        return FileState.GONE
    except OSError as error:
        log.error("spool_file_unreadable", spool_key=row.spool_key, clinic=row.clinic, error=str(error.strerror))
        return FileState.DAMAGED
    except Away:
        raise
    except Exception:  # whatever it is, nothing is promised of it
        log.exception("spool_file_unreadable", spool_key=row.spool_key, clinic=row.clinic)
        return FileState.DAMAGED
    return FileState.WHOLE


def _delivered_days(connection: sa.Connection, clinic: str, study_instance_uids: Collection[str]) -> dict[str, float]:
    """How long ago each study was delivered of which every generation is, as storage/retention.py counts it."""
    rows = connection.execute(
        sa.select(studies.c.study_instance_uid, studies.c.state, studies.c.finished_at).where(
            studies.c.clinic == clinic, studies.c.study_instance_uid.in_(study_instance_uids)
        )
    ).all()
    pending = {row.study_instance_uid for row in rows if row.state != StudyState.DONE or row.finished_at is None}
    ended: dict[str, datetime] = {}
    for row in rows:
        if row.study_instance_uid not in pending:
            ended[row.study_instance_uid] = max(row.finished_at, ended.get(row.study_instance_uid, row.finished_at))
    return {uid: (utc_now() - finished_at) / timedelta(days=1) for uid, finished_at in ended.items()}


def end_waiting(database: Database) -> int:
    """Make the report due of each request whose instances are all known, or that has waited long enough."""
    ended = 0
    for waiting in _read(database, _WAITING):
        recorded_at = waiting.due_at - timedelta(seconds=INDEXER_BEHIND_S)  # for the first time
        if utc_now() < max(recorded_at, waiting.request.requested_at) + timedelta(seconds=SETTLES_WITHIN_S):
            continue
        asked = {one.sop_instance_uid for one in waiting.request.asked}
        is_known = asked <= _known(database, waiting.request.clinic, asked)
        if is_known or waiting.due_at <= utc_now():
            with database.write() as connection:
                ended += connection.execute(
                    sa.update(commitments)
                    .where(commitments.c.id == waiting.commitment_id, commitments.c.state == CommitmentState.WAITING)
                    .values(state=CommitmentState.PENDING, due_at=utc_now())
                ).rowcount
    return ended


def _known(database: Database, clinic: str, sop_instance_uids: Collection[str]) -> set[str]:
    """Those of these that have a row."""
    known: set[str] = set()
    uids = iter(sop_instance_uids)
    with database.read() as connection:
        while some := list(islice(uids, UIDS_AT_ONCE)):
            these = (instances.c.clinic == clinic, instances.c.sop_instance_uid.in_(some))
            known.update(connection.scalars(sa.select(instances.c.sop_instance_uid).where(*these)))
    return known


def take_due(database: Database, *, for_s: float) -> list[Commitment]:
    """The reports that are due now, taken for `for_s` seconds: until then no other worker tries them."""
    taken = []
    for due in _read(database, _DUE, now=utc_now()):
        until = utc_now() + timedelta(seconds=for_s)
        with database.write() as connection:
            changed = connection.execute(
                sa.update(commitments)
                .where(
                    commitments.c.id == due.commitment_id,
                    commitments.c.state == CommitmentState.PENDING,
                    commitments.c.due_at == due.due_at,
                )
                .values(attempts=commitments.c.attempts + 1, due_at=until)
            )
        if changed.rowcount:
            taken.append(
                Commitment(
                    commitment_id=due.commitment_id,
                    attempts=due.attempts + 1,
                    due_at=until,
                    request=due.request,
                )
            )
    return taken


def record_report(
    database: Database,
    commitment: Commitment,
    error: str,
    rules: CommitmentRules,
    committed: Collection[Reference] = (),
) -> CommitmentState:
    """Enter one attempt. `error`: why the caller does not have the report; empty: it has it. `committed`: what the
    report promises, for the history of the studies.

    The state after it: a report that did not arrive is tried again, until the caller has been away for too long.
    Whoever asked again meanwhile is answered by a later report, on what is held then.
    """
    now = utc_now()
    age = now - commitment.request.requested_at
    values: dict[str, object]
    if not error:
        state = CommitmentState.REPORTED
        values = {"ended_at": now}
    elif age >= timedelta(seconds=rules.give_up_after_s):
        state = CommitmentState.GIVEN_UP
        values = {"ended_at": now}
    else:
        state = CommitmentState.PENDING
        values = {"due_at": now + timedelta(seconds=rules.delay_s(commitment.attempts))}
    with database.write() as connection:
        entered = connection.execute(
            sa.update(commitments)
            # Another worker may have had it reported, when this attempt took longer than it was taken for.
            .where(
                commitments.c.id == commitment.commitment_id,
                commitments.c.state == CommitmentState.PENDING,
                commitments.c.requested_at == commitment.request.requested_at,
            )
            .values(state=state, last_error=error, **values)
        )
        if entered.rowcount and state is CommitmentState.REPORTED:
            _tell_studies(connection, commitment.request, committed)
    return state


def _tell_studies(connection: sa.Connection, request: CommitmentRequest, committed: Collection[Reference]) -> None:
    counts: Counter[int] = Counter()
    uids = iter(reference.sop_instance_uid for reference in committed)
    while some := list(islice(uids, UIDS_AT_ONCE)):
        these = (instances.c.clinic == request.clinic, instances.c.sop_instance_uid.in_(some))
        counts.update(connection.scalars(sa.select(instances.c.study_id).where(*these)))
    for study_id, count in sorted(counts.items()):
        add_event(connection, study_id, "committed", f"{count} instances to {request.calling_ae_title}")


def read_commitments(database: Database, *, clinic: str | None = None) -> list[CommitmentRow]:
    """Every request that is remembered, of this clinic or of all; the one that was made last comes last."""
    query = sa.select(commitments).order_by(commitments.c.requested_at, commitments.c.id)
    if clinic is not None:
        query = query.where(commitments.c.clinic == clinic)
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [
        CommitmentRow(
            clinic=row.clinic,
            calling_ae_title=row.calling_ae_title,
            peer_address=row.peer_address,
            transaction_uid=row.transaction_uid,
            instances=len(row.asked),
            state=row.state,
            attempts=row.attempts,
            last_error=row.last_error,
            requested_at=row.requested_at,
            next_attempt_at=row.due_at if row.state == CommitmentState.PENDING else None,
            ended_at=row.ended_at,
        )
        for row in rows
    ]


def _read(database: Database, query: sa.Select[*tuple[Any, ...]], **values: object) -> list[Commitment]:
    with database.read() as connection:
        rows = connection.execute(query, values).all()
    return [
        Commitment(
            commitment_id=row.id,
            attempts=row.attempts,
            due_at=row.due_at,
            request=CommitmentRequest(
                clinic=row.clinic,
                calling_ae_title=row.calling_ae_title,
                peer_address=row.peer_address,
                transaction_uid=row.transaction_uid,
                asked=tuple(Reference(sop_class_uid=c, sop_instance_uid=i) for c, i in row.asked),
                requested_at=row.requested_at,
            ),
        )
        for row in rows
    ]
