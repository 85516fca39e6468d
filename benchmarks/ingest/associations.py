"""What an association costs besides its instances: set-up and release, sitting idle, memory.

All receivers run at the same time here. CPU and memory are each one's own; only the time of day is shared.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ingest.raw_sender import Association, contexts_of
from benchmarks.ingest.receivers import CALLED_AE_TITLE, CALLING_AE_TITLE, NotStarted, Receiver, Running, running
from benchmarks.ingest.wire import Item

IDLE_ASSOCIATIONS = 10
SETTLES_WITHIN_S = 1.0  # some never do: they look for news all the time


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """set_ups: associations set up and released one after the other; idle_s: how long ten are left alone."""

    set_ups: int
    idle_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AssociationCosts:
    """
    set_up_cpu_ms, set_up_ms: of one association with one presentation context and its release; CPU of the receiver.
    idle_cpu_percent: of one core, with ten associations that say nothing; the receiver's own idling included.
    further_rss_mb, further_pss_mb: of each association beyond the first, after each has brought one instance.
    """

    receiver: str
    set_up_cpu_ms: float | None = None
    set_up_ms: float | None = None
    idle_cpu_percent: float | None = None
    further_rss_mb: float | None = None
    further_pss_mb: float | None = None
    failure: str = ""


class Subject:
    """A receiver and the associations that are open with it.

    Raises:
        OSError: from every method, where the receiver refuses or ends an association.
    """

    def __init__(self, started: Running, items: Sequence[Item]) -> None:
        self._started = started
        self._items = items
        self._open: list[Association] = []
        self._measured: dict[str, float] = {}

    def set_up_and_release(self, times: int) -> None:
        self._associate().release()
        cpu_s, begun_s = self._started.tree.cpu_s(), time.monotonic()
        for _ in range(times):
            self._associate().release()
        self._measured["set_up_ms"] = (time.monotonic() - begun_s) / times * 1000
        self._started.tree.settle(at_most_s=SETTLES_WITHIN_S)
        self._measured["set_up_cpu_ms"] = (self._started.tree.cpu_s() - cpu_s) / times * 1000

    def open_all(self) -> None:
        rss, pss = [], []
        for item in self._items:
            association = self._associate()
            association.send(association.prepare(item, 0))
            self._open.append(association)
            if len(self._open) in (1, len(self._items)):
                self._started.tree.settle(at_most_s=SETTLES_WITHIN_S)
                rss.append(self._started.tree.rss_bytes())
                pss.append(self._started.tree.pss_bytes())
        self._measured["further_rss_mb"] = (rss[-1] - rss[0]) / (len(self._items) - 1) / 1e6
        self._measured["further_pss_mb"] = (pss[-1] - pss[0]) / (len(self._items) - 1) / 1e6

    def begin_idling(self) -> None:
        self._idle_from_s, self._cpu_s = time.monotonic(), self._started.tree.cpu_s()

    def end_idling(self) -> None:
        cpu_s = self._started.tree.cpu_s() - self._cpu_s
        self._measured["idle_cpu_percent"] = cpu_s / (time.monotonic() - self._idle_from_s) * 100
        for association in self._open:
            association.release()

    def costs(self, receiver: str) -> AssociationCosts:
        return AssociationCosts(receiver=receiver, failure="", **self._measured)

    def _associate(self) -> Association:
        return Association(
            self._started.place.port,
            calling_ae_title=CALLING_AE_TITLE,
            called_ae_title=CALLED_AE_TITLE,
            contexts=contexts_of(self._items),
        )


def measure_all(
    receivers: Iterable[Receiver], items: Sequence[Item], effort: Effort, work: Path
) -> list[AssociationCosts]:
    """`items`: small instances; each receiver gets ten of them."""
    failures: dict[str, str] = {}
    subjects: dict[str, Subject] = {}
    with ExitStack() as stack:
        for receiver in receivers:
            try:
                started = stack.enter_context(running(receiver, work / receiver.name, work / "programs"))
                subjects[receiver.name] = Subject(started, items[:IDLE_ASSOCIATIONS])
            except NotStarted as error:
                failures[receiver.name] = str(error)

        def each(step: Callable[[Subject], None]) -> None:
            for name in [name for name in subjects if name not in failures]:
                try:
                    step(subjects[name])
                except OSError as error:
                    failures[name] = f"{type(error).__name__}: {error}"

        each(lambda subject: subject.set_up_and_release(effort.set_ups))
        each(Subject.open_all)
        each(Subject.begin_idling)
        time.sleep(effort.idle_s)
        each(Subject.end_idling)
    for name in subjects:
        shutil.rmtree(work / name, ignore_errors=True)
    return [
        AssociationCosts(receiver=name, failure=failures[name]) if name in failures else subjects[name].costs(name)
        for name in subjects | failures
    ]
