"""One run: a node in pieces, a PACS on a bad day, a modality, and somebody who wishes them all ill.

start all -> studies, kills and longer misfortunes at the same time -> peace -> look what became of every study
"""

import random
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import sqlalchemy as sa

from storage.tables import studies
from tests.chaos.databases import Database, database
from tests.chaos.misfortunes import KILLS, LONGER, PAUSE_S, PAUSES, House, in_turn
from tests.chaos.modality import Modality
from tests.chaos.outcome import Outcome
from tests.chaos.pacs import JOURNAL, MISFORTUNES
from tests.chaos.promises import ALWAYS, IN_THE_END, Scene, broken, files_half_written, let_an_hour_pass, misfortunes
from tests.chaos.roles import Role, adopt_orphans, descendants, lines
from tests.factories.packages import build_package
from tests.factories.ports import free_port
from tests.journeys.house import LOOPBACK, Node, Process, wait_until

WORKERS = 3
LEASE_S = 5.0
# Much more than it ever needs, on a machine that is busy.
DRAINED_WITHIN_S = 900.0

# No plan's quota is to end the run; the lease is short; the log is read by a program.
PLAN = ('tier = "professional"', 'tier = "enterprise"')
MORE = f"""
[worker]
lease_s = {LEASE_S}

[logging]
format = "json"
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """At least so many studies, spread over about so many seconds; every misfortune happens at least once."""

    database: str
    studies: int
    seconds: float
    seed: int


def chaos(folder: Path, plan: Plan) -> Outcome:
    """Run it in `folder`, which is empty. What this process's descendants leave behind becomes its own."""
    adopt_orphans()
    outcome = Outcome(database=plan.database, seed=plan.seed, lease_s=LEASE_S)
    began = time.monotonic()
    with database(plan.database, folder) as chosen:
        house = move_in(folder, plan, chosen, outcome)
        pacs = start_pacs(house.node, folder / "pacs", plan.seed)
        modality = Modality(house.node, folder, studies=plan.studies, pause_s=0.6 * plan.seconds / plan.studies)
        try:
            for role in house.roles():
                role.start()
            modality.start()
            wish_ill(house, plan, modality, folder / "pacs")
            let_drain(house, pacs, folder / "pacs", modality)
        finally:
            modality.stop()
            house.node.stop()
            pacs.stop()
        outcome.broken["processes left behind"] = wait_for_none_left()
    outcome.seconds = time.monotonic() - began
    return outcome


def move_in(folder: Path, plan: Plan, chosen: Database, outcome: Outcome) -> House:
    """A node that is configured, migrated and has a chest model."""
    node = Node(folder, pacs_port=free_port(), database_url=chosen.url)
    node.config.write_text(node.config.read_text().replace(*PLAN) + MORE)
    migrated = node.run("migrate")
    assert migrated.returncode == 0, migrated.stderr
    build_package(node.data_dir / "models" / "chest", name="chest")
    return House(
        node=node,
        database=chosen,
        receiver=Role(node, "receiver", "receivers"),
        workers=[Role(node, "worker", f"worker-{number}") for number in range(1, WORKERS + 1)],
        portal=Role(node, "portal", "portal"),
        outcome=outcome,
        chance=random.Random(plan.seed),
    )


def start_pacs(node: Node, folder: Path, seed: int) -> Process:
    folder.mkdir()
    port = node.config.read_text().rpartition("port = ")[2].split()[0]
    process = Process([sys.executable, "-m", "tests.chaos.pacs", str(folder), port, str(seed)], folder / "pacs.log")
    wait_until((folder / JOURNAL).exists, "the PACS has started")
    return process


def wish_ill(house: House, plan: Plan, modality: Modality, pacs_folder: Path) -> None:
    """Two hands, until the time is over; then wait until enough was sent, and the PACS has done all it can."""
    until, pause_s = time.monotonic() + plan.seconds, max(PAUSE_S, plan.seconds / PAUSES)
    with ThreadPoolExecutor(2) as hands:
        work = [
            hands.submit(in_turn, house, KILLS, until=until, pause_s=pause_s),
            hands.submit(in_turn, house, LONGER, until=until, pause_s=pause_s),
        ]
        for one in work:
            one.result()
    wait_until(lambda: len(modality.acknowledged) >= plan.studies, "all studies are sent", within_s=plan.seconds + 600)
    wait_until(lambda: len(misfortunes(pacs_folder)) == MISFORTUNES, "the PACS has done all it can", within_s=600)


def let_drain(house: House, pacs: Process, pacs_folder: Path, modality: Modality) -> None:
    """Nobody does any harm from here on. Wait until everything is done, and look."""
    began = time.monotonic()
    modality.stop()
    pacs.process.send_signal(signal.SIGUSR1)
    house.fell_over += [role.name for role in house.roles() if not role.is_alive()]
    outcome, node = house.outcome, house.node

    def scene() -> Scene:
        alive = frozenset(filter(None, (worker.executor_id() for worker in house.workers)))
        return Scene(node=node, pacs_folder=pacs_folder, sent=modality.acknowledged, alive=alive)

    def is_drained() -> bool:
        outcome.parked += retry_parked(node)
        if any(broken(scene(), IN_THE_END).values()):
            return False
        let_an_hour_pass(node)
        return not files_half_written(scene())

    try:
        wait_until(is_drained, "everything is done", within_s=DRAINED_WITHIN_S)
    except AssertionError:
        print("it never came to rest", file=sys.stderr)
    outcome.drained_after_s = time.monotonic() - began
    outcome.broken |= broken(scene(), IN_THE_END | ALWAYS)
    outcome.broken["processes that ended by themselves"] = house.fell_over
    outcome.broken["jobs that met an unexpected error"] = unexpected_errors(node)
    outcome.broken["a portal that does not answer"] = [] if portal_answers(node) else ["portal"]
    count(scene(), outcome)
    outcome.attempts = modality.attempts


def retry_parked(node: Node) -> int:
    """What the runbook tells a person to do with a study that kept failing; how many there were."""
    with node.database.read() as connection:
        parked = connection.scalars(sa.select(studies.c.study_instance_uid).where(studies.c.reason == "keeps_failing"))
        names = list(parked)
    for name in names:
        node.run("study", name, "--retry")
    return len(names)


def unexpected_errors(node: Node) -> list[str]:
    """What the workers logged as bugs."""
    return [
        f"{line['job']} in {log.stem}"
        for log in node.folder.glob("*.log")
        for line in lines(log)
        if line.get("event") == "job_failed"
    ]


def portal_answers(node: Node) -> bool:
    return httpx.get(f"http://{LOOPBACK}:{node.portal_port}/health", timeout=30.0).status_code == 200


def count(scene: Scene, outcome: Outcome) -> None:
    """What came of it, in figures."""
    arrivals = scene.arrivals()
    counts = scene.node.counts()
    outcome.studies = len(scene.sent)
    outcome.delivered = round(sum(count.value for count in counts.studies if count.labels[1] == "done"))
    outcome.results = len(list(scene.pacs_folder.glob("*.dcm")))
    outcome.ledger_rows = len(scene.node.ledger())
    outcome.stores = len(arrivals)
    held = [arrival["sop_instance_uid"] for arrival in arrivals if arrival["answer"].startswith("stores")]
    outcome.stores_again = len(held) - len(set(held))
    for answer, times in misfortunes(scene.pacs_folder).items():
        outcome.done_to[f"the PACS {answer}"] = times


def wait_for_none_left() -> list[str]:
    """What of the node still runs a while after all its roles have ended."""
    try:
        wait_until(lambda: not descendants(), "no process is left", within_s=30.0)
    except AssertionError:
        return descendants()
    return []
