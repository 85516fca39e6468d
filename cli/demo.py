"""`collimator demo`: a node, a stand-in PACS and real studies; what went in and what came out, in one folder.

start the node (receiver, worker, portal) and a PACS
send a chest  ->  results reach the PACS, one ledger row
send a limb   ->  no model is configured: kept, explained in a note, free
send the chest again, and let the PACS send its results back  ->  nothing happens
"""

import argparse
import json
import shutil
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file

from cli import log
from cli.demo_pacs import LOOPBACK, NODE, PACS, DemoPacs, demo_pacs
from cli.demo_roles import CLINIC, MODALITY, POLL_S, STARTS_WITHIN_S, demo_roles
from cli.models import pull
from cli.parts import models_dir
from cli.stopping import stop_signal
from config.settings import Settings
from domain.errors import CollimatorError, Misconfigured, Retry
from domain.states import DeliveryState, StudyState
from inference.registry import Registry
from metering.ledger import LedgerRow, read_ledger
from reports.html import overlay_as_png, sr_as_html
from scu.store import Address, Answer, describe, send_files
from storage.api_keys import create_key
from storage.counts import Count, Counts, read_counts
from storage.database import Database
from storage.overview import FindingLine, StudyFilter, StudyHistory, read_history
from storage.plain import to_plain

FINISHES_WITHIN_S = 180.0
# Column -> its width, in the order of SummaryRow's fields.
COLUMNS = {"study": 20, "decision": 44, "findings": 26, "delivered": 16, "charged": 7, "seconds": 7}
AT_REST = (StudyState.DONE, StudyState.HELD, StudyState.FAILED)


@dataclass(frozen=True, kw_only=True, slots=True)
class SummaryRow:
    """One line of the table at the end."""

    study: str
    decision: str
    findings: str
    delivered: str
    charged: str
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--stay", action="store_true", help="leave the node and the portal running")


def run(args: argparse.Namespace) -> int:
    log.configure(output_format="console", level="warning")
    check(args.out)
    started = time.monotonic()
    say(f"a node and a PACS start in {args.out}")
    with demo_pacs(args.out / "pacs") as pacs, demo_roles(args.out, pacs.port, prepare) as settings:
        node = DemoNode(settings, args.out)
        rows = tell(node, pacs)
        ledger = read_ledger(node.database)
        write_summary(args.out, rows, ledger)
        print("\n" + table(rows))
        for row in ledger:
            print(f"ledger: {row.clinic}, {row.period}, plan {row.tier}, study {row.study_instance_uid}")
        say(f"done in {time.monotonic() - started:.0f} s; everything is in {args.out.absolute()}")
        if args.stay:
            stay(node)
    return 0 if all_as_promised(rows) else 1


def check(out: Path) -> None:
    """Raises:
    Misconfigured: the folder holds something that no demonstration has left there, and that one would remove.
    """
    configuration = out / "collimator.toml"
    is_an_earlier_one = configuration.is_file() and f'"{CLINIC}"' in configuration.read_text(errors="replace")
    if out.exists() and not is_an_earlier_one and (not out.is_dir() or any(out.iterdir())):
        raise Misconfigured(
            f"--out {out} holds something that is not an earlier demonstration's",
            hint="name a folder that is empty or not there yet",
        )


def tell(node: "DemoNode", pacs: "DemoPacs") -> list[SummaryRow]:
    """The demonstration itself: four things happen to the node, and each ends as a row."""
    chest = Path(str(get_testdata_file("RG1_UNCR.dcm")))
    limb = Path(str(get_testdata_file("RG3_UNCR.dcm")))
    rows = []

    say("a chest radiograph comes from the modality by C-STORE")
    rows.append(node.send_study(chest, "chest (RG1)", pacs))
    say("a radiograph of a limb comes from the modality")
    rows.append(node.send_study(limb, "extremity (RG3)", pacs))

    say("the modality sends the chest again")
    rows.append(node.send_again(chest, "chest (RG1), sent again"))
    say("the PACS sends the results back to the node")
    rows.append(node.send_back(pacs))
    return rows


class DemoNode:
    """The node under demonstration, and a window on its database."""

    def __init__(self, settings: Settings, out: Path) -> None:
        self.settings = settings
        self.out = out
        self.database = Database(settings.database_url)
        self.address = Address(ae_title=NODE, host=LOOPBACK, port=settings.receiver.port)

    def send_study(self, path: Path, title: str, pacs: DemoPacs) -> SummaryRow:
        """Send one study and follow it until its results are in the PACS or it is explained."""
        begun = time.monotonic()
        self._send(path, MODALITY)
        history = self._follow(path)
        seconds = time.monotonic() - begun
        self._export(title, history, pacs)
        return SummaryRow(
            study=title,
            decision=_decision(history),
            findings=_findings(history),
            delivered=", ".join(kind for kind, _ in _delivered(history)) or "nothing",
            charged="yes" if history.is_charged else "no",
            seconds=round(seconds, 1),
        )

    def send_again(self, path: Path, title: str) -> SummaryRow:
        begun, before = time.monotonic(), self._counts()
        self._send(path, MODALITY)
        self._wait(lambda: _sum(self._counts().sent_again) > _sum(before.sent_again), "the re-send is recognised")
        return SummaryRow(
            study=title,
            decision="same instance, same content: acknowledged and dropped",
            findings="no new analysis",
            delivered="nothing new",
            charged=_charged_since(before, self._counts()),
            seconds=round(time.monotonic() - begun, 1),
        )

    def send_back(self, pacs: DemoPacs) -> SummaryRow:
        begun, before, files = time.monotonic(), self._counts(), pacs.files()
        for path in files:
            self._send(path, PACS)
        came_back = _sum(before.sent_back) + len(files)
        self._wait(lambda: _sum(self._counts().sent_back) >= came_back, "the results are recognised")
        return SummaryRow(
            study=f"{len(files)} results, sent back by the PACS",
            decision="the node's own results: acknowledged and dropped",
            findings="no new analysis",
            delivered="nothing new" if pacs.files() == files else "MORE RESULTS",
            charged=_charged_since(before, self._counts()),
            seconds=round(time.monotonic() - begun, 1),
        )

    def _send(self, path: Path, calling_ae_title: str) -> None:
        outcome = send_files([describe(path)], self.address, calling_ae_title=calling_ae_title, timeout_s=30.0)[0]
        if outcome.answer is not Answer.STORED:
            raise Retry(f"the node did not take {path.name}: {outcome.detail}")
        say(f"  sent {path.name}: the node answered 0x0000")

    def _follow(self, path: Path) -> StudyHistory:
        """Print the study's history as it grows, until it is at rest and nothing is on its way any more."""
        uid, shown = str(dcmread(path, stop_before_pixels=True).StudyInstanceUID), 0
        deadline = time.monotonic() + FINISHES_WITHIN_S
        while time.monotonic() < deadline:
            for history in read_history(self.database, StudyFilter(study_instance_uid=uid)):
                for event in history.events[shown:]:
                    say(f"  {event.event}: {event.detail}".removesuffix(": "))
                shown = len(history.events)
                if history.state in AT_REST and not _pending(history):
                    return history
            time.sleep(POLL_S)
        raise Retry(f"{path.name} was not finished within {FINISHES_WITHIN_S:.0f} s", hint="see the node's log above")

    def _counts(self) -> Counts:
        return read_counts(self.database, clinics=None)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not condition():
            if time.monotonic() > deadline:
                raise Retry(f"waited {STARTS_WITHIN_S:.0f} s until {what}")
            time.sleep(POLL_S)

    def _export(self, title: str, history: StudyHistory, pacs: DemoPacs) -> None:
        """Lay out, as files that a person can open, what the PACS got for one study."""
        folder = self.out / title.partition(" ")[0]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for kind, sop_instance_uid in _delivered(history):
            content = pacs.file_of(sop_instance_uid).read_bytes()
            (folder / f"{kind}.dcm").write_bytes(content)
            if kind == "overlay":
                (folder / "overlay.png").write_bytes(overlay_as_png(content))
            else:
                (folder / f"{kind}.html").write_text(sr_as_html(content), encoding="utf-8")


def prepare(settings: Settings) -> None:
    """What the node needs before it starts: models, tables, and a key for its portal."""
    pull_adult_model(settings)
    database = Database(settings.database_url)
    database.migrate()
    key_file(settings).write_text(create_key(database, name="demo", role="admin") + "\n", encoding="utf-8")
    database.close()


def key_file(settings: Settings) -> Path:
    return settings.node.data_dir / "api_key.txt"


def pull_adult_model(settings: Settings) -> None:
    """Use the real adult model where it can be had; say plainly what happens where it cannot."""
    if Registry(models_dir(settings)).get("chest").is_configured:
        return
    try:
        pull("chest", models_dir(settings))
        say("the adult chest model was pulled and checked")
    except CollimatorError as error:
        say(f"the adult chest model cannot be pulled here: {error.message}")
        say("in this demonstration only, the pediatric model stands in for it; its results are marked so")


def stay(node: DemoNode) -> None:
    """Leave the node running until Ctrl-C."""
    settings = node.settings
    key = key_file(settings).read_text(encoding="utf-8").strip()
    node_port, portal = settings.receiver.port, f"http://{LOOPBACK}:{settings.portal.port}"
    collimator = Path(sys.executable).with_name("collimator")
    print(
        f"\nThe node is running. Send to it:\n"
        f"  storescu -aet {MODALITY} -aec {NODE} {LOOPBACK} {node_port} FILE.dcm\n"
        f"  {collimator} send --from {MODALITY} --to {NODE}@{LOOPBACK}:{node_port} FILE.dcm\n"
        f"Look at it:\n"
        f"  {portal}/studies, with the key {key}; the interface is at /docs\n"
        f"  curl -H 'Authorization: Bearer {key}' {portal}/api/v1/studies\n"
        f"Stop it with Ctrl-C.",
        flush=True,
    )
    stop_signal().wait()


def write_summary(out: Path, rows: list[SummaryRow], ledger: list[LedgerRow]) -> None:
    (out / "ledger.json").write_text(json.dumps([to_plain(row) for row in ledger], indent=2) + "\n", encoding="utf-8")
    (out / "summary.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    (out / "summary.txt").write_text(table(rows) + "\n", encoding="utf-8")


def table(rows: list[SummaryRow]) -> str:
    """The rows as a table of COLUMNS, long sentences wrapped."""
    lines = [_line(list(COLUMNS)), _line(["-" * width for width in COLUMNS.values()])]
    for row in rows:
        cells = [
            textwrap.wrap(str(value), width) or [""]
            for value, width in zip(asdict(row).values(), COLUMNS.values(), strict=True)
        ]
        lines += [_line(list(parts)) for parts in zip_longest(*cells, fillvalue="")]
        lines.append("")
    return "\n".join(lines)


def _line(parts: list[str]) -> str:
    return "  ".join(part.ljust(width) for part, width in zip(parts, COLUMNS.values(), strict=True)).rstrip()


def all_as_promised(rows: list[SummaryRow]) -> bool:
    """One study analysed and charged, one explained and free, and two events that changed nothing."""
    return [row.charged for row in rows] == ["yes", "no", "no", "no"] and "overlay" in rows[0].delivered


def say(text: str) -> None:
    print(text, flush=True)


def _decision(history: StudyHistory) -> str:
    said = [event.detail for event in history.events if event.event in ("routed", "held", "failed")]
    return "; ".join(dict.fromkeys(said))


def _findings(history: StudyHistory) -> str:
    if not history.findings:
        return "not analysed"
    model = history.findings[0]
    mark = "DEMONSTRATION MODEL, " if model.is_demonstration else ""
    return f"{mark}{model.model_title}: " + ", ".join(_answer(finding) for finding in history.findings)


def _answer(finding: FindingLine) -> str:
    return f"{finding.label} {'detected' if finding.is_detected else 'not detected'} ({100 * finding.certainty:.0f} %)"


def _delivered(history: StudyHistory) -> list[tuple[str, str]]:
    """(kind, SOP Instance UID) of the results that the PACS has."""
    return [
        (result.kind, result.sop_instance_uid)
        for result in history.results
        if any(delivery.state == DeliveryState.DELIVERED for delivery in result.deliveries)
    ]


def _pending(history: StudyHistory) -> bool:
    return any(d.state == DeliveryState.PENDING for result in history.results for d in result.deliveries)


def _sum(counts: tuple[Count, ...]) -> float:
    return sum(count.value for count in counts)


def _charged_since(before: Counts, after: Counts) -> str:
    return "no" if _sum(after.charged) == _sum(before.charged) else "yes"
