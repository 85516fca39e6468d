"""What is done to the node: two hands at work at the same time, one that kills and one that does what takes longer."""

import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from tests.chaos.databases import Database
from tests.chaos.outcome import Outcome
from tests.chaos.promises import jobs_table
from tests.chaos.roles import MACHINE, Role
from tests.journeys.house import Node

AWAY_S = 2.0  # before a role is started again, at most
PAUSE_S = 1.5  # between two kills, on average; in a longer run more, so that a worker also gets something done
PAUSES = 60  # in the time of a run
WORK_WITHIN_S = 60.0  # a worker gets a job
LEASES = 10  # after which nobody took over


@dataclass(kw_only=True)
class House:
    """Everything that something can be done to. `fell_over`: roles that ended although nobody had killed them."""

    node: Node
    database: Database
    receiver: Role
    workers: list[Role]
    portal: Role
    outcome: Outcome
    chance: random.Random
    machines: int = 0
    fell_over: list[str] = field(default_factory=list)

    def roles(self) -> list[Role]:
        return [self.receiver, *self.workers, self.portal]


Misfortune = Callable[[House], bool]  # whether it could be done


def in_turn(house: House, misfortunes: Sequence[tuple[str, Misfortune]], *, until: float, pause_s: float) -> None:
    """Do each of them, in an order that chance decides, again and again until the time has come."""
    while True:
        for name, misfortune in house.chance.sample(misfortunes, len(misfortunes)):
            while not misfortune(house):
                time.sleep(0.1)
            house.outcome.done_to[name] += 1
            time.sleep(house.chance.expovariate(1 / pause_s))
        if time.monotonic() > until:
            return


def kill(role: Role, house: House) -> bool:
    """SIGKILL, and after a while a new start. Not to one that somebody holds, or that has not even begun."""
    if not role.taken.acquire(blocking=False):
        return False
    try:
        if role.is_alive() and not role.is_ready():
            return False
        if not role.is_alive():
            house.fell_over.append(role.name)
        role.kill()
        time.sleep(house.chance.uniform(0.0, AWAY_S))
        role.start()
        return True
    finally:
        role.taken.release()


def kill_receiver(house: House) -> bool:
    return kill(house.receiver, house)


def kill_listener(house: House) -> bool:
    return house.receiver.kill_child("listener")


def kill_indexer(house: House) -> bool:
    return house.receiver.kill_child("indexer")


def kill_worker(house: House) -> bool:
    return kill(house.chance.choice(house.workers), house)


def kill_portal(house: House) -> bool:
    return kill(house.portal, house)


def a_machine_dies(house: House) -> bool:
    """A worker on a machine of its own joins, takes a job, and dies with the machine; nobody ever starts it again."""
    house.machines += 1
    machine = Role(house.node, "worker", f"machine-{house.machines}", machine=MACHINE)
    machine.start()
    executor_id = wait_for_job(house, machine)
    machine.kill()
    if executor_id is None:
        return False
    note_taken_over(house, "a machine dies for good", executor_id)
    return True


def a_worker_freezes(house: House) -> bool:
    """A worker with a job is stopped for longer than its lease and then goes on as if nothing had been."""
    worker = house.chance.choice(house.workers)
    with worker.taken:
        executor_id = wait_for_job(house, worker)
        if executor_id is None:
            return False
        worker.send(signal.SIGSTOP)
        try:
            if house.database.is_held():
                return False
            note_taken_over(house, "a worker freezes and comes back", executor_id)
            time.sleep(house.chance.uniform(0.0, house.outcome.lease_s))
        finally:
            worker.send(signal.SIGCONT)
    return True


def trouble_with_the_database(house: House) -> bool:
    house.database.trouble_for(house.chance.uniform(2.0, 6.0))
    return True


KILLS: list[tuple[str, Misfortune]] = [
    ("receiver killed", kill_receiver),
    ("receiver: a listener killed", kill_listener),
    ("receiver: the indexer killed", kill_indexer),
    *[("worker killed", kill_worker)] * 3,
    ("portal killed", kill_portal),
]
LONGER: list[tuple[str, Misfortune]] = [
    ("a machine dies for good", a_machine_dies),
    ("a worker freezes and comes back", a_worker_freezes),
    ("trouble with the database", trouble_with_the_database),
]


def wait_for_job(house: House, worker: Role) -> str | None:
    """The worker's executor id, once it has taken a job; None when there was none for it."""
    deadline = time.monotonic() + WORK_WITHIN_S
    while time.monotonic() < deadline:
        executor_id = worker.executor_id()
        if executor_id is not None and jobs_of(house, executor_id):
            return executor_id
        time.sleep(0.02)
    return None


def note_taken_over(house: House, what: str, executor_id: str) -> None:
    """Wait until the worker has no job any more, which another one sees to, and note how long that took."""
    began = time.monotonic()
    while jobs_of(house, executor_id):
        if time.monotonic() - began > LEASES * house.outcome.lease_s:
            house.outcome.broken.setdefault("work that nobody took over", []).append(executor_id)
            return
        time.sleep(0.05)
    house.outcome.taken_over_s.setdefault(what, []).append(round(time.monotonic() - began, 1))


def jobs_of(house: House, executor_id: str) -> list[str]:
    """What the worker is at. A database that is away just now is asked again."""
    running = sa.text(
        f"SELECT workflow_uuid FROM {jobs_table(house.node)} WHERE executor_id = :executor_id AND status = 'PENDING'"
    )
    while True:
        try:
            with house.node.database.read() as connection:
                return list(connection.scalars(running, {"executor_id": executor_id}))
        except sa.exc.OperationalError:
            time.sleep(0.2)
