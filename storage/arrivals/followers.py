"""Brings into the database what listeners were told besides instances: a follower for each kind of request.

    requests/commitments        ->  rows of commitments, which workers report on (workflow/commitment.py)
    requests/reports            ->  rows of confirmations: what destinations that were asked to commit reported
    requests/procedure_steps    ->  rows of procedure steps, at which workers look to complete a study

They run beside the indexer, where the listeners are: a worker needs nothing of the receiver's disk. What is said of
MPPS and of commitment is forgotten here, too, rows and files together.

A request for commitment gets its row after all that was stored before it, other content under a known UID above all:
its asker deletes what is committed to.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

from storage.database import Database
from storage.periodic import Periodic
from storage.requests.commitments import record_commitments
from storage.requests.confirmation_folder import REPORTS, ConfirmationFolder
from storage.requests.confirmations import record_reports
from storage.requests.files import COMMITMENTS, RequestBox
from storage.requests.procedure_steps import record_steps
from storage.requests.step_folder import STEPS, StepFolder
from storage.requests.transactions import Transactions
from storage.retention import forget_commitments, forget_steps

POLL_S = 0.5
INDEXED_SOON_S = 0.2
Mark = Callable[[], Event | None]  # as Indexer.mark
FORGETS_EVERY = 7200  # polls: an hour


class Follower:
    """One kind of request, in a background thread of its own. Another machine's, or another process's, do no harm."""

    def __init__(self, name: str, bring_in: Callable[[], object], forget: Callable[[], object]) -> None:
        """`bring_in`: whatever waits, often. `forget`: what ended long ago, now and then."""
        self.name = name
        self._bring_in = bring_in
        self._forget = forget
        self._polls = 0
        self._thread = Periodic(name, self.work, period_s=POLL_S)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop()

    def work(self) -> None:
        self._bring_in()
        if self._polls % FORGETS_EVERY == 0:
            self._forget()
        self._polls += 1


class Settled:
    """Brings in requests for commitment, once the indexer has recorded all that was stored before they were made."""

    def __init__(self, database: Database, box: RequestBox, mark: Mark) -> None:
        self._database = database
        self._box = box
        self._take_mark = mark
        self._asked: Sequence[str] = ()
        self._is_indexed = Event()

    def bring_in(self) -> None:
        """Whatever waits and may be judged. While the indexer is behind, the rest waits for the same mark."""
        if not self._asked and (waiting := self._box.waiting()) and (mark := self._take_mark()) is not None:
            self._asked, self._is_indexed = waiting, mark
        if self._asked and self._is_indexed.wait(INDEXED_SOON_S):
            record_commitments(self._database, self._box, self._asked)
            self._asked = ()


def followers(database: Database, data_dir: Path, *, mark: Mark) -> tuple[Follower, ...]:
    """One for each kind of request that a listener keeps in this folder. `mark`: of the indexer beside them."""
    return _of_commitments(database, data_dir, mark), _of_reports(database, data_dir), _of_steps(database, data_dir)


def _of_commitments(database: Database, data_dir: Path, mark: Mark) -> Follower:
    box, transactions = RequestBox(data_dir, COMMITMENTS), Transactions(data_dir)

    def forget() -> None:
        box.remove_leftovers()
        transactions.forget_old()
        forget_commitments(database)

    return Follower(COMMITMENTS, Settled(database, box, mark).bring_in, forget)


def _of_reports(database: Database, data_dir: Path) -> Follower:
    """Workers, too, get reports, on the association on which they asked: those they bring in themselves."""
    folder = ConfirmationFolder(data_dir)
    return Follower(REPORTS, lambda: record_reports(database, folder), folder.reports.remove_leftovers)


def _of_steps(database: Database, data_dir: Path) -> Follower:
    folder = StepFolder(data_dir)

    def forget() -> None:
        folder.remove_leftovers()
        folder.forget_old_steps()
        forget_steps(database)

    return Follower(STEPS, lambda: record_steps(database, folder.changes), forget)
