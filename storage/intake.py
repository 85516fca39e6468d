"""Rows for what the receiver stored: which study an instance belongs to, and what to do with one that came before.

known SOP Instance UID, same content     dropped and counted: a re-send changes nothing
known SOP Instance UID, other content    quarantined: the first is kept, never silently swapped
known, but its file is lost or damaged   takes its place, where it agrees with all that the row says; logged as an error
the same that is quarantined already     dropped: who sends it every minute fills no disk
one of the node's own results            dropped and counted: the PACS sent it back
cannot be parsed, or not what was said   quarantined
its caller is known for no clinic        quarantined, for no clinic
its study was erased                     quarantined: what was erased does not come back by itself
anything else                            kept, in the study's open generation, or with a generation that was cancelled

Files are compared between two tries of the transaction, never within it: PostgreSQL would end it when a large one takes
long to read, each time it is tried again, and on SQLite nobody else could write meanwhile.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any

import sqlalchemy as sa

from domain.states import StudyState
from storage.clinic_lock import lock_clinic
from storage.content import check_content, content_sha256, is_same_content
from storage.database import Database, utc_now
from storage.events import add_event
from storage.headers import StoredInstance
from storage.instances import Spool
from storage.plain import to_plain
from storage.sealed import Damaged
from storage.tables import clinics, instances, quarantine, results, studies

ASIDE_COMPARED = 20  # of one SOP Instance UID; somebody who changes it each time gets a row each time

_CLINIC: sa.BindParameter[str] = sa.bindparam("clinic")
_UIDS: sa.BindParameter[Any] = sa.bindparam("uids", expanding=True)
# A relay may have taken the equipment out of a result of ours, by which it would be known; it keeps its UID.
_OF_OURS = sa.join(results, studies, studies.c.id == results.c.study_id)
_KNOWN_UIDS = sa.union_all(
    sa.select(instances.c.sop_instance_uid).where(
        instances.c.clinic == _CLINIC, instances.c.sop_instance_uid.in_(_UIDS)
    ),
    sa.select(results.c.sop_instance_uid)
    .select_from(_OF_OURS)
    .where(studies.c.clinic == _CLINIC, results.c.sop_instance_uid.in_(_UIDS)),
)
_IS_OURS = (
    sa.select(results.c.id)
    .select_from(_OF_OURS)
    .where(studies.c.clinic == _CLINIC, results.c.sop_instance_uid == sa.bindparam("uid"))
)
_KNOWN = sa.select(instances).where(instances.c.clinic == _CLINIC, instances.c.sop_instance_uid == sa.bindparam("uid"))
_ASIDE = (
    sa.select(quarantine.c.spool_key)
    .where(
        sa.func.coalesce(quarantine.c.clinic, "") == _CLINIC,
        quarantine.c.sop_instance_uid == sa.bindparam("uid"),
        quarantine.c.reason == sa.bindparam("reason"),
    )
    .order_by(quarantine.c.id.desc())
    .limit(ASIDE_COMPARED)
)
_ENTER = sa.insert(instances)
_NEWEST_GENERATION = (
    sa.select(studies.c.id, studies.c.generation, studies.c.state)
    .where(studies.c.clinic == _CLINIC, studies.c.study_instance_uid == sa.bindparam("uid"))
    .order_by(studies.c.generation.desc())
    .limit(1)
    # A worker may be closing it: whoever has the row first decides whether this image is still part of it.
    .with_for_update()
)
_GOES_ON = sa.update(studies).where(studies.c.id == sa.bindparam("of"))
_OPEN = sa.insert(studies).returning(studies.c.id)
_RELEASE = sa.update(studies).where(
    studies.c.id.in_(sa.bindparam("of", expanding=True)), studies.c.state == StudyState.RECEIVING
)


class Verdict(StrEnum):
    KEPT = "kept"
    DUPLICATE = "duplicate"
    CONFLICTING = "conflicting"
    OWN_RESULT = "own_result"
    UNREADABLE = "unreadable"
    UNKNOWN_CALLER = "unknown_caller"
    ERASED = "erased"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What became of one stored instance. `keeps_file` is False when its file in the spool is no longer needed.

    is_aside_already: the same content is in quarantine, for the same reason.
    first_key: of a duplicate, the key of the file that came first and should still be there.
    first_is_lost: that is not there any more, or damaged.
    """

    spool_key: str
    verdict: Verdict
    study_id: int | None = None
    is_aside_already: bool = False
    first_key: str = ""
    first_is_lost: bool = False

    @property
    def keeps_file(self) -> bool:
        return not self.is_aside_already and self.verdict not in (Verdict.DUPLICATE, Verdict.OWN_RESULT)


def record_instances(
    database: Database,
    spool: Spool,
    stored: Sequence[StoredInstance],
    *,
    meanwhile: Callable[[], None] = lambda: None,
) -> list[Recorded]:
    """Bring stored instances into the database, in one transaction; recording one twice changes nothing.

    meanwhile: is called after each look at files, which may be large.

    Raises:
        Away: the shared store is, and an earlier one has to be fetched from it.
    """
    contents = _Contents(spool)
    while True:
        with suppress(_NotLookedAt), database.write() as connection:
            recorded = _keep_new(connection, stored)
            for instance in stored:
                if instance.spool_key not in recorded:
                    recorded[instance.spool_key] = _record(connection, contents, instance)
            contents.require_all()
            return [recorded[instance.spool_key] for instance in stored]
        contents.look(meanwhile)


def replaces_lost(database: Database, spool: Spool, recorded: Recorded) -> bool:
    """Whether a duplicate, whose own file is still there, has taken the place of one that was lost: a disk or a shared
    store may lose a file, and a sender that is not committed to sends again. To drop that, too, would leave nothing.

    Raises:
        Away: the shared store is.
    """
    if not recorded.first_key or not spool.has(recorded.spool_key):
        return False
    if recorded.first_is_lost:
        # What is damaged. After a crash here a sweep finds the other, and does the rest.
        spool.remove(recorded.first_key)
    if spool.has(recorded.first_key):
        return False
    with database.write() as connection:
        replaced = connection.execute(
            sa.update(instances)
            .where(instances.c.spool_key == recorded.first_key, instances.c.removed_at.is_(None))
            .values(spool_key=recorded.spool_key)
        )
    return bool(replaced.rowcount)


def record_release(database: Database, study_ids: Sequence[int], *, at: datetime | None = None) -> None:
    """The associations that brought these studies were released: nothing more is on its way. `at`: when; now."""
    if study_ids:
        with database.write() as connection:
            connection.execute(_RELEASE, {"of": list(study_ids), "released_at": at or utc_now()})


def unknown_keys(database: Database, keys: Sequence[str]) -> list[str]:
    """Those of the spool's keys that no row mentions, or only one that says that the file was removed."""
    with database.read() as connection:
        known = set(
            connection.scalars(
                sa.union_all(
                    sa.select(instances.c.spool_key).where(
                        instances.c.spool_key.in_(keys), instances.c.removed_at.is_(None)
                    ),
                    sa.select(quarantine.c.spool_key).where(quarantine.c.spool_key.in_(keys)),
                )
            )
        )
    return [key for key in keys if key not in known]


def sync_clinics(database: Database, tiers: Mapping[str, str]) -> None:
    """Write the configured clinics and their tiers; a clinic that left the configuration keeps its rows."""
    with database.write() as connection:
        present = set(connection.scalars(sa.select(clinics.c.name)))
        for name, tier in tiers.items():
            if name in present:
                connection.execute(sa.update(clinics).where(clinics.c.name == name).values(tier=tier))
            else:
                connection.execute(sa.insert(clinics).values(name=name, tier=tier))


class _NotLookedAt(Exception):
    """A guess was recorded: the transaction has to go."""


class _Contents:
    """Answers what spooled files hold, once somebody has looked. Until then it notes the question, and guesses."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self._answers: dict[tuple[str, ...], bool | str | OSError] = {}
        self._open: dict[tuple[str, ...], Callable[[], bool | str]] = {}

    def is_same(self, spool_key: str, other_key: str) -> bool:
        """Raises:
        OSError: one of them cannot be read.
        """
        look = partial(is_same_content, self.spool, spool_key, other_key)
        return bool(self._answer((spool_key, other_key), look, guess=True))

    def is_lost(self, known: sa.Row[Any]) -> bool:
        """Whether a known instance's file is not there any more, or is not what came."""
        return bool(self._answer((known.spool_key, ""), partial(_is_lost, self.spool, known), guess=False))

    def sha256(self, spool_key: str) -> str:
        """Raises:
        OSError: it cannot be read.
        """
        return str(self._answer((spool_key,), partial(content_sha256, self.spool, spool_key), guess=""))

    def require_all(self) -> None:
        """Raises:
        _NotLookedAt: something was asked of which nothing is known yet.
        """
        if self._open:
            raise _NotLookedAt

    def look(self, meanwhile: Callable[[], None]) -> None:
        """Raises:
        Away: the shared store is.
        """
        for question, look in self._open.items():
            try:
                self._answers[question] = look()
            except OSError as error:
                self._answers[question] = error
            meanwhile()
        self._open = {}

    def _answer(self, question: tuple[str, ...], look: Callable[[], bool | str], *, guess: bool | str) -> bool | str:
        answer = self._answers.get(question)
        if answer is None:
            self._open[question] = look
            return guess
        if isinstance(answer, OSError):
            raise answer
        return answer


def _record(connection: sa.Connection, contents: _Contents, stored: StoredInstance) -> Recorded:
    clinic = stored.provenance.clinic
    if not clinic:
        detail = f"{stored.provenance.calling_ae_title} is a caller of no clinic"
        return _quarantine(connection, contents, stored, Verdict.UNKNOWN_CALLER, detail)
    if stored.problem:
        return _quarantine(connection, contents, stored, Verdict.UNREADABLE, stored.problem)
    # Two receivers may bring the same study at the same moment; the clinic's row is the lock.
    lock_clinic(connection, clinic)
    this = {"clinic": clinic, "uid": stored.sop_instance_uid}
    if stored.is_own_result:
        return _record_own(connection, stored)
    known = connection.execute(_KNOWN, this).first()
    if known is None:
        is_ours = connection.scalar(_IS_OURS, this) is not None
        return _record_own(connection, stored) if is_ours else _keep(connection, stored)
    return _record_again(connection, contents, known, stored)


def _record_own(connection: sa.Connection, stored: StoredInstance) -> Recorded:
    connection.execute(
        sa.update(results)
        .where(results.c.sop_instance_uid == stored.sop_instance_uid)
        .values(times_sent_back=results.c.times_sent_back + 1)
    )
    return Recorded(spool_key=stored.spool_key, verdict=Verdict.OWN_RESULT)


def _record_again(
    connection: sa.Connection, contents: _Contents, known: sa.Row[Any], stored: StoredInstance
) -> Recorded:
    """The clinic has sent an instance with this SOP Instance UID before."""
    if known.spool_key == stored.spool_key:
        # A file whose row says that it is removed was left behind by a crash in between.
        verdict = Verdict.KEPT if known.removed_at is None else Verdict.DUPLICATE
        return Recorded(spool_key=stored.spool_key, verdict=verdict, study_id=known.study_id)
    if known.removed_at is not None and known.content_sha256 is None:
        detail = "its study was erased; erase it again to be rid of this, too"
        return _quarantine(connection, contents, stored, Verdict.ERASED, detail)
    difference = _difference(contents, known, stored)
    # Nothing else is left of the first; who asked for commitment was told so, and sends again.
    first_is_lost = bool(difference) and _is_said_to_be(stored, known) and contents.is_lost(known)
    if difference and not first_is_lost:
        return _quarantine(connection, contents, stored, Verdict.CONFLICTING, difference)
    connection.execute(
        sa.update(instances).where(instances.c.id == known.id).values(times_sent_again=instances.c.times_sent_again + 1)
    )
    first_key = known.spool_key if known.removed_at is None else ""
    return Recorded(
        spool_key=stored.spool_key,
        verdict=Verdict.DUPLICATE,
        study_id=known.study_id,
        first_key=first_key,
        first_is_lost=first_is_lost,
    )


def _difference(contents: _Contents, known: sa.Row[Any], stored: StoredInstance) -> str:
    """Why this is not the known instance sent once more; empty when it is."""
    other = "an instance with this SOP Instance UID and other content is here already; the first is kept"
    if known.size_bytes != stored.size_bytes:
        return other
    try:
        if known.content_sha256:
            digest = stored.content_sha256 or contents.sha256(stored.spool_key)
            return "" if digest == known.content_sha256 else other
        if known.removed_at is not None:
            return other
        return "" if contents.is_same(known.spool_key, stored.spool_key) else other
    except OSError as error:
        if not contents.spool.has(stored.spool_key):
            return ""  # another process has compared them, and dropped it
        return f"it cannot be compared with the instance that is here already: {error.strerror}"


def _is_said_to_be(stored: StoredInstance, known: sa.Row[Any]) -> bool:
    """Whether it agrees with all that the row of an instance which should be here says of its content."""
    if known.removed_at is not None or known.content_sha256:
        return False
    return (
        stored.size_bytes,
        stored.study_instance_uid,
        stored.series_instance_uid,
        stored.sop_class_uid,
        stored.transfer_syntax_uid,
        to_plain(stored.facts),
    ) == (
        known.size_bytes,
        known.study_instance_uid,
        known.series_instance_uid,
        known.sop_class_uid,
        known.transfer_syntax_uid,
        known.facts,
    )


def _is_lost(spool: Spool, known: sa.Row[Any]) -> bool:
    """Raises:
    Away: the shared store is.
    """
    key, uid = known.spool_key, known.sop_instance_uid
    try:
        check_content(spool, key, clinic=known.clinic, sop_instance_uid=uid, size=known.size_bytes, digest="")
    except OSError as error:
        return isinstance(error, FileNotFoundError | Damaged)  # another one says only that it cannot be read now
    return False


def _keep_new(connection: sa.Connection, stored: Sequence[StoredInstance]) -> dict[str, Recorded]:
    """Keep those of a batch that are plainly new, in few statements; what became of each, by its spool key.

    Nearly all that comes is new. Of several with the same SOP Instance UID only the first is.
    """
    by_clinic: dict[str, dict[str, StoredInstance]] = {}
    for instance in stored:
        firsts = by_clinic.setdefault(instance.provenance.clinic, {})
        if not (instance.problem or instance.is_own_result):
            firsts.setdefault(instance.sop_instance_uid, instance)
    by_clinic.pop("", None)
    unseen: set[str] = set()
    for clinic, firsts in sorted(by_clinic.items()):  # in one order, so that two receivers never wait for each other
        lock_clinic(connection, clinic)
        known = set(connection.scalars(_KNOWN_UIDS, {"clinic": clinic, "uids": list(firsts)}))
        unseen.update(instance.spool_key for uid, instance in firsts.items() if uid not in known)
    new = [instance for instance in stored if instance.spool_key in unseen]
    study_ids = _open_studies(connection, new)
    if new:
        connection.execute(_ENTER, [_row(one, study_ids[one.spool_key]) for one in new])
    return {
        one.spool_key: Recorded(spool_key=one.spool_key, verdict=Verdict.KEPT, study_id=study_ids[one.spool_key])
        for one in new
    }


def _open_studies(connection: sa.Connection, new: Sequence[StoredInstance]) -> dict[str, int]:
    """The study row of each instance, by its spool key. One look is enough for a study that has taken an image."""
    receiving: dict[tuple[str, str], int] = {}
    study_ids = {}
    for instance in new:
        study = (instance.provenance.clinic, instance.study_instance_uid)
        study_id = receiving.get(study) or _open_study(connection, instance)
        if instance.facts.has_pixels:
            receiving[study] = study_id
        study_ids[instance.spool_key] = study_id
    return study_ids


def _keep(connection: sa.Connection, stored: StoredInstance) -> Recorded:
    study_id = _open_study(connection, stored)
    connection.execute(_ENTER, _row(stored, study_id))
    return Recorded(spool_key=stored.spool_key, verdict=Verdict.KEPT, study_id=study_id)


def _row(stored: StoredInstance, study_id: int) -> dict[str, Any]:
    return {
        "study_id": study_id,
        "clinic": stored.provenance.clinic,
        "study_instance_uid": stored.study_instance_uid,
        "series_instance_uid": stored.series_instance_uid,
        "sop_instance_uid": stored.sop_instance_uid,
        "sop_class_uid": stored.sop_class_uid,
        "transfer_syntax_uid": stored.transfer_syntax_uid,
        "spool_key": stored.spool_key,
        "size_bytes": stored.size_bytes,
        "received_at": stored.provenance.received_at,
        "facts": to_plain(stored.facts),
        "content_sha256": stored.content_sha256,
    }


def _open_study(connection: sa.Connection, stored: StoredInstance) -> int:
    """The study row that takes this instance: the newest generation while it is receiving, or the next one.

    Only an image opens another generation: a report that is filed later must not start the analysis again. What still
    comes for a study that a person cancelled does not start it either.
    """
    this = {"clinic": stored.provenance.clinic, "uid": stored.study_instance_uid}
    newest = connection.execute(_NEWEST_GENERATION, this).first()
    if newest is not None and newest.state == StudyState.RECEIVING:
        connection.execute(_GOES_ON, {"of": newest.id, "last_received_at": utc_now(), "released_at": None})
        return int(newest.id)
    if newest is not None and (newest.state == StudyState.CANCELLED or not stored.facts.has_pixels):
        return int(newest.id)
    now = utc_now()
    generation = 1 if newest is None else newest.generation + 1
    opened = {
        "clinic": stored.provenance.clinic,
        "study_instance_uid": stored.study_instance_uid,
        "generation": generation,
        "state": StudyState.RECEIVING,
        "calling_ae_title": stored.provenance.calling_ae_title,
        "accession_number": stored.accession_number,
        "opened_at": now,
        "last_received_at": now,
    }
    study_id = int(connection.execute(_OPEN, opened).scalar_one())
    add_event(connection, study_id, "received", f"first instance from {stored.provenance.calling_ae_title}")
    return study_id


def _quarantine(
    connection: sa.Connection, contents: _Contents, stored: StoredInstance, verdict: Verdict, detail: str
) -> Recorded:
    present = connection.scalar(sa.select(quarantine.c.id).where(quarantine.c.spool_key == stored.spool_key))
    if present is None:
        if _is_aside_already(connection, contents, stored, verdict):
            return Recorded(spool_key=stored.spool_key, verdict=verdict, is_aside_already=True)
        connection.execute(
            sa.insert(quarantine).values(
                clinic=stored.provenance.clinic or None,
                spool_key=stored.spool_key,
                sop_instance_uid=stored.sop_instance_uid[:64],
                study_instance_uid=stored.study_instance_uid[:64],
                calling_ae_title=stored.provenance.calling_ae_title,
                peer_address=stored.provenance.peer_address[:64],
                reason=verdict,
                detail=detail,
                received_at=stored.provenance.received_at,
            )
        )
    return Recorded(spool_key=stored.spool_key, verdict=verdict)


def _is_aside_already(connection: sa.Connection, contents: _Contents, stored: StoredInstance, verdict: Verdict) -> bool:
    """Whether this clinic's quarantine has the same content, for the same reason."""
    aside = connection.scalars(
        _ASIDE, {"clinic": stored.provenance.clinic, "uid": stored.sop_instance_uid, "reason": verdict}
    )
    for spool_key in aside.all():
        try:
            if contents.is_same(spool_key, stored.spool_key):
                return True
        except OSError:  # then it is not known to be the same
            continue
    return False
