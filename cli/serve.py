"""`collimator serve`: receiver, worker and portal on one machine, each a process of its own, under one supervisor."""

import argparse
import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from cli.parts import open_database, settings_for
from cli.stopping import stop_signal
from storage.intake import sync_clinics

log = structlog.get_logger()

ROLES = ("receiver", "worker", "portal")
POLL_S = 0.2
RESTART_DELAYS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_AFTER_S = 60.0
MISCONFIGURED = 2
STOPS_WITHIN_S = 90.0
PR_SET_PDEATHSIG = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but --config."""


def run(args: argparse.Namespace) -> int:
    settings = settings_for(args.config)
    database = open_database(settings)
    database.patiently(lambda: sync_clinics(database, {clinic.name: clinic.tier for clinic in settings.clinics}))
    database.close()
    return Supervisor([Role(name, role_command(name, args.config)) for name in ROLES]).run()


def role_command(role: str, config: Path) -> list[str]:
    return [sys.executable, "-m", "cli", role, "--config", str(config)]


class Role:
    """One child process, started again when it ends by itself."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._command = list(command)
        self._failures = 0
        self._start_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._started_at = time.monotonic()
        self.process = subprocess.Popen(self._command, preexec_fn=_end_with_parent)  # noqa: S603
        log.info("role_started", role=self.name, process_id=self.process.pid)

    def look_after(self) -> int | None:
        """Restart the process when it is time to; its exit status in the moment it has ended."""
        if self.process is None:
            if time.monotonic() >= self._start_at:
                self.start()
            return None
        status = self.process.poll()
        if status is None:
            return None
        self.process = None
        ran_s = time.monotonic() - self._started_at
        self._failures = 0 if ran_s > STEADY_AFTER_S else self._failures + 1
        delay_s = RESTART_DELAYS_S[min(self._failures, len(RESTART_DELAYS_S) - 1)]
        self._start_at = time.monotonic() + delay_s
        log.error("role_ended", role=self.name, exit_status=status, delay_s=delay_s)
        return status

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, deadline: float) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.error("role_killed", role=self.name)
            self.process.kill()
            self.process.wait()


class Supervisor:
    """Runs roles until it is told to stop; the receiver stops first, so that nothing new comes in."""

    def __init__(self, roles: Sequence[Role]) -> None:
        self._roles = roles

    def run(self) -> int:
        stop = stop_signal()
        for role in self._roles:
            role.start()
        status = 0
        while not stop.wait(POLL_S):
            if any(role.look_after() == MISCONFIGURED for role in self._roles):
                status = MISCONFIGURED
                break
        deadline = time.monotonic() + STOPS_WITHIN_S
        for role in self._roles:
            role.stop()
        for role in self._roles:
            role.wait(deadline)
        log.info("node_stopped")
        return status


def _end_with_parent() -> None:
    """A supervisor that is killed must not leave its roles behind: the kernel sends them SIGTERM (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
