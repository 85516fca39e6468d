"""Keeps the promise behind an N-ACTION: looks at what is held, and reports it to whoever asked.

    rows (arrivals/followers.py)  ->  wait for the indexer  ->  look  ->  one association for each caller  ->  rows

What is held is looked at anew for every attempt, so that a report never says what is no longer true. It goes to the
address from which was asked, and to the port that is configured for the caller now.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from domain.clinics import Clinic
from domain.commitment import (
    CommitmentReport,
    CommitmentRequest,
    CommitmentRules,
    CommitmentState,
    Refused,
    failure_reason,
    who_is_told,
)
from domain.errors import CollimatorError, Misconfigured
from domain.tls import TlsFiles
from scu.commitment import send_reports
from scu.store import Address, address_of_caller
from storage.database import Database
from storage.instances import Spool
from storage.periodic import Periodic
from storage.requests.commitments import Commitment, end_waiting, holdings, record_report, take_due

log = structlog.get_logger()

POLL_S = 1.0
# Callers that are away keep their thread until they time out; the others are served meanwhile.
CALLERS_AT_ONCE = 8
TIMEOUT_S = 10.0
TAKEN_FOR_S = 300.0
# What the log says of the state after an attempt. A report that is given up is nobody's but an administrator's.
SAID = {
    CommitmentState.REPORTED: (logging.INFO, "commitment_reported"),
    CommitmentState.PENDING: (logging.WARNING, "commitment_not_reported"),
    CommitmentState.GIVEN_UP: (logging.ERROR, "commitment_given_up"),
}


class Commitments:
    """Part of each worker; several workers share the work."""

    def __init__(
        self,
        database: Database,
        spool: Spool,
        *,
        clinics: Iterable[Clinic],
        rules: CommitmentRules,
        ae_title: str,
        tls_files: TlsFiles | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._database = database
        self._spool = spool
        self._callers = {clinic.name: clinic.callers for clinic in clinics}
        self._rules = rules
        self._ae_title = ae_title
        self._tls_files = tls_files
        self._timeout_s = timeout_s
        self._thread = Periodic("commitments", self.work, period_s=POLL_S)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop()

    def work(self) -> None:
        """Everything that can be done now."""
        end_waiting(self._database)
        self.report_due()

    def report_due(self) -> int:
        """Try every report that is due, on one association for each caller; how many were tried."""
        by_caller: dict[tuple[str, str, str], list[Commitment]] = defaultdict(list)
        for due in take_due(self._database, for_s=TAKEN_FOR_S):
            asked_by = due.request.clinic, due.request.calling_ae_title, due.request.peer_address
            by_caller[asked_by].append(due)
        if by_caller:
            with ThreadPoolExecutor(CALLERS_AT_ONCE, thread_name_prefix="report") as pool:
                list(pool.map(self._report, by_caller.values()))
        return sum(map(len, by_caller.values()))

    def _report(self, due: Sequence[Commitment]) -> None:
        """All of one caller."""
        reports: list[CommitmentReport] = []
        try:
            reports = [self._look(commitment.request) for commitment in due]
            errors = send_reports(
                reports,
                self._address(due[0].request),
                calling_ae_title=self._ae_title,
                timeout_s=self._timeout_s,
            )
        except CollimatorError as refusal:
            errors = [" - ".join(part for part in (refusal.message, refusal.hint) if part)] * len(due)
        promises = [report.committed for report in reports] or [()] * len(due)
        for commitment, error, promised in zip(due, errors, promises, strict=True):
            state = record_report(self._database, commitment, error, self._rules, promised)
            level, event = SAID[state]
            log.log(
                level,
                event,
                clinic=commitment.request.clinic,
                calling_ae=commitment.request.calling_ae_title,
                count=len(commitment.request.asked),
                status=str(state),
                error=error,
            )

    def _look(self, request: CommitmentRequest) -> CommitmentReport:
        held = holdings(
            self._database, self._spool, request.clinic, [asked.sop_instance_uid for asked in request.asked]
        )
        reasons = {
            asked: failure_reason(asked, held.get(asked.sop_instance_uid), self._rules) for asked in request.asked
        }
        return CommitmentReport(
            transaction_uid=request.transaction_uid,
            committed=tuple(asked for asked, reason in reasons.items() if reason is None),
            refused=tuple(
                Refused(reference=asked, reason=reason) for asked, reason in reasons.items() if reason is not None
            ),
        )

    def _address(self, request: CommitmentRequest) -> Address:
        caller = who_is_told(self._callers.get(request.clinic, ()), request.calling_ae_title, request.peer_address)
        if caller is None:
            raise Misconfigured(
                f"no caller {request.calling_ae_title} at {request.peer_address} has a commitment_port",
                hint="set clinics.callers.commitment_port to where it listens for storage commitment",
            )
        return address_of_caller(caller, request.peer_address, self._tls_files)
