"""Processes forked from one parent, which keeps them running and stops them in order.

    parent (one thread, no socket, no file)  ──fork──>  each child does its work until it is told to stop

Forking after the imports lets the children share the memory of what was imported. The parent handles its signals one
after the other (sigtimedwait(2)), so nothing ever interrupts it, and a child cannot miss its own: they are held back
until it is ready for them.
"""

import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator

import structlog

from cli.stopping import stop_signal

log = structlog.get_logger()

RESTART_DELAYS_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_AFTER_S = 60.0
MISCONFIGURED = 2
WATCHED = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGCHLD))
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15

Work = Callable[[threading.Event], int]


class Child:
    """One process: what it does until the event is set, and how long it may take to stop then.

    work: its result is the process's exit status; 2 ends the parent as well, anything else makes it start again.
    """

    def __init__(self, name: str, work: Work, *, stops_within_s: float) -> None:
        self.name = name
        self.work = work
        self.stops_within_s = stops_within_s
        self.process_id = 0
        self.start_at = 0.0
        self._started_at = 0.0
        self._failures = 0

    def started(self, process_id: int) -> None:
        self.process_id, self._started_at = process_id, time.monotonic()
        log.info("role_started", role=self.name, process_id=process_id)

    def ended(self, exit_status: int) -> None:
        """Note when to start it again: the more often it failed in a row, the later."""
        self.process_id = 0
        if time.monotonic() - self._started_at > STEADY_AFTER_S:
            self._failures = 0
        delay_s = RESTART_DELAYS_S[min(self._failures, len(RESTART_DELAYS_S) - 1)]
        self._failures += 1
        self.start_at = time.monotonic() + delay_s
        log.error("role_ended", role=self.name, exit_status=exit_status, delay_s=delay_s)


def in_own_process(work: Callable[[], int]) -> int:
    """Wait for work that is done in a process of its own, and return its exit status: its memory goes with it.

    That process leaves from here by an exception: nothing on the way up may hold it back. Call this before any thread.
    """
    sys.stdout.flush()
    if process_id := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])
    sys.exit(work())


class Crew:
    """The children of a process, in ranks: those of an earlier one are stopped before those of a later one.

    before_start: is called in the parent before each start, when no child that has ended is in the process table.
    """

    def __init__(self, *, before_start: Callable[[], None] = lambda: None) -> None:
        self._ranks: list[tuple[Child, ...]] = []
        self._children: list[Child] = []
        self._before_start = before_start
        self._process_id = os.getpid()
        self._ready = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._unready = 0

    def add(self, *children: Child) -> None:
        """Add the next rank."""
        self._ranks.append(children)
        self._children += children

    def child_is_ready(self) -> None:
        """For the children of the first rank: to be called once they can do what they are for."""
        os.eventfd_write(self._ready, 1)
        os.kill(self._process_id, signal.SIGCHLD)

    def run(self, *, on_ready: Callable[[], None]) -> int:
        """Keep all children running until told to stop, and return the exit status. `on_ready`: the first rank is.

        A child returns from here, too, with its own: whoever calls this must do nothing more than to end with it.
        """
        gc.collect()
        gc.freeze()  # the collector would touch, and so copy, every page that is shared
        sys.stdout.flush()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        self._unready = len(self._ranks[0])
        status = 0
        while not status:
            for child in self._due():
                self._before_start()
                if process_id := os.fork():
                    child.started(process_id)
                else:
                    return self._be(child, mask)
            happened = self._wait()
            if happened in (signal.SIGTERM, signal.SIGINT):
                break
            status = MISCONFIGURED if MISCONFIGURED in self._reap() else 0
            if self._unready and self._count_ready():
                on_ready()
        self._stop()
        return status

    def _be(self, child: Child, mask: Collection[int]) -> int:
        """In the child: do its work. A SIGINT from the terminal is the parent's: it stops its children in order."""
        _end_with_parent(self._process_id, child.name)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stop = stop_signal(signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return child.work(stop)

    def _due(self) -> Iterator[Child]:
        now = time.monotonic()
        return (child for child in self._children if not child.process_id and now >= child.start_at)

    def _wait(self) -> int:
        """The number of the next signal; 0 when a child is to be started before one comes."""
        waiting = [child.start_at - time.monotonic() for child in self._children if not child.process_id]
        happened = signal.sigtimedwait(WATCHED, max(0.0, min(waiting))) if waiting else signal.sigwaitinfo(WATCHED)
        return happened.si_signo if happened is not None else 0

    def _reap(self) -> list[int]:
        """The exit statuses of the children that have ended; the negative of a signal's number where one ended it."""
        statuses = []
        for child in self._children:
            if child.process_id:
                process_id, status = os.waitpid(child.process_id, os.WNOHANG)
                if process_id:
                    statuses.append(os.waitstatus_to_exitcode(status))
                    child.ended(statuses[-1])
        return statuses

    def _count_ready(self) -> bool:
        """Whether the last of the first rank has become ready."""
        try:
            self._unready -= os.eventfd_read(self._ready)
        except BlockingIOError:
            return False
        self._unready = max(0, self._unready)
        return not self._unready

    def _stop(self) -> None:
        for rank in self._ranks:
            alive = [child for child in rank if child.process_id]
            for child in alive:
                os.kill(child.process_id, signal.SIGTERM)
            deadline = time.monotonic() + max((child.stops_within_s for child in alive), default=0.0)
            for child in alive:
                self._end(child, deadline)

    def _end(self, child: Child, deadline: float) -> None:
        while not os.waitpid(child.process_id, os.WNOHANG)[0]:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                log.error("role_killed", role=child.name)
                os.kill(child.process_id, signal.SIGKILL)
                os.waitpid(child.process_id, 0)
                return
            signal.sigtimedwait({signal.SIGCHLD}, remaining_s)


def _end_with_parent(parent_id: int, name: str) -> None:
    """The kernel sends SIGTERM when the parent is gone (prctl(2)), which may have been before we asked for it."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    libc.prctl(PR_SET_NAME, name.encode()[:15])
    if os.getppid() != parent_id:
        os.kill(os.getpid(), signal.SIGTERM)
