"""Writes the tables of docs/conformance.md from the code: `python -m docs.conformance`.

The prose is written by hand; whatever stands between `<!-- table: NAME -->` and `<!-- end -->` comes from here, and a
test compares the page with what the code says today.
"""

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from pydicom.uid import UID

from cli.parts import SOFTWARE_VERSION
from config.settings import DestinationSettings, Settings
from domain.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MANUFACTURER, MODEL_NAME
from reports.write import PROFILES, all_writers, contexts_of_profile
from scp.contexts import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES, UNCOMPRESSED
from scp.server import CALLING_AE_TITLE_NOT_RECOGNIZED, MAXIMUM_PDU_SIZE
from scp.status import Status
from scu.store import answer_of
from storage.headers import PRIVATE_INFORMATION_CREATOR_UID

PAGE = Path(__file__).with_name("conformance.md")
SECTION = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    PAGE.write_text(generated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def generated(page: str) -> str:
    """The page with every table as the code has it now."""
    return SECTION.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}{match[3]}", page)


def identity() -> str:
    return _table(
        ("attribute", "value"),
        [
            ("Software version", SOFTWARE_VERSION),
            ("Implementation Class UID (0002,0012)", IMPLEMENTATION_CLASS_UID),
            ("Implementation Version Name (0002,0013)", IMPLEMENTATION_VERSION_NAME),
            ("Manufacturer (0008,0070) of results", MANUFACTURER),
            ("Manufacturer's Model Name (0008,1090) of results", MODEL_NAME),
        ],
    )


def limits() -> str:
    receiver = Settings().receiver
    return _table(
        ("limit", "value"),
        [
            ("Maximum PDU received", f"{MAXIMUM_PDU_SIZE} bytes"),
            ("Simultaneous associations as acceptor", f"{receiver.maximum_associations} (configurable)"),
            ("Silence on an association before it is aborted", f"{receiver.association_timeout_s:g} s (configurable)"),
            ("Asynchronous operations", "none"),
        ],
    )


def acceptor_syntaxes() -> str:
    return _table(("transfer syntax", "UID"), [(syntax.name, syntax) for syntax in TRANSFER_SYNTAXES])


def acceptor_classes() -> str:
    verification = ("Verification SOP Class", "1.2.840.10008.1.1", ", ".join(syntax.name for syntax in UNCOMPRESSED))
    storage = [(uid.name, uid, "all of the table above") for uid in STORAGE_SOP_CLASSES]
    return _table(("SOP class", "UID", "transfer syntaxes"), [verification, *storage])


def rejections() -> str:
    result, source, reason = CALLING_AE_TITLE_NOT_RECOGNIZED
    return _table(
        ("result", "source", "reason", "when"),
        [
            (result, source, reason, "the Calling AE Title is unknown, or comes from another address"),
            (1, 1, 7, "the Called AE Title is not the node's"),
            (2, 3, 2, "more associations than allowed"),
        ],
    )


def statuses() -> str:
    meanings = {
        Status.SUCCESS: "the instance is durable",
        Status.PROCESSING_FAILURE: "an unexpected error; nothing was stored",
        Status.INVALID_OBJECT_INSTANCE: "Affected SOP Instance UID is not a UID",
        Status.OUT_OF_RESOURCES: "the spool cannot take it now; send it again later",
        Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS: "Affected SOP Class UID is not that of the presentation context",
        Status.CANNOT_UNDERSTAND: "there is no data set",
    }
    return _table(("status", "when"), [(f"0x{status:04X}", meanings[status]) for status in Status])


def proposed() -> str:
    rows = []
    for profile in PROFILES:
        rows += [(profile, UID(sop_class).name, UID(syntax).name) for sop_class, syntax in contexts_of_profile(profile)]
    return _table(("profile", "SOP class", "transfer syntax"), rows)


def answers() -> str:
    codes = (0x0000, 0x0001, 0x0107, 0x0110, 0x0116, 0x0117, 0x0122, 0x0124, 0x0213, 0xA700, 0xA900, 0xB000, 0xC000)
    return _table(("status of the peer", "what the node does"), [(f"0x{c:04X}", _ACTIONS[answer_of(c)]) for c in codes])


def results() -> str:
    rows = [
        (writer.kind, UID(writer.sop_class_uid).name, writer.series_number, ", ".join(_profiles_with(writer.kind)))
        for writer in all_writers().values()
    ]
    return _table(("kind", "SOP class", "Series Number", "profiles"), rows)


def provenance() -> str:
    return _table(
        ("element", "value"),
        [
            ("Source and Sending Application Entity Title (0002,0016), (0002,0017)", "Calling AE Title"),
            ("Receiving Application Entity Title (0002,0018)", "the node's AE title"),
            ("Private Information Creator UID (0002,0100)", PRIVATE_INFORMATION_CREATOR_UID),
            ("Private Information (0002,0102)", "JSON: clinic, peer address, association, time of receipt"),
        ],
    )


TABLES: dict[str, Callable[[], str]] = {
    "identity": identity,
    "limits": limits,
    "acceptor_syntaxes": acceptor_syntaxes,
    "acceptor_classes": acceptor_classes,
    "rejections": rejections,
    "statuses": statuses,
    "proposed": proposed,
    "answers": answers,
    "results": results,
    "provenance": provenance,
}

_ACTIONS = {
    "stored": "counts as stored",
    "retry": "sends it again later, for up to seven days (configurable)",
    "refused": "does not send it again; the study is marked not_delivered",
}


def _profiles_with(kind: str) -> list[str]:
    known = DestinationSettings.model_fields["profile"].annotation
    return [profile for profile, kinds in PROFILES.items() if kind in kinds and profile in str(known)]


def _table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(map(str, head))]
    lines += [["---"] * len(lines[0]), *(list(map(str, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
