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
from config.clinics import DestinationSettings
from config.settings import Settings
from domain.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MANUFACTURER, MODEL_NAME
from reports.write import FORMS, KINDS_OF_A_REJECTION, all_writers, contexts_of_profile, contexts_of_rejection
from scp import associate
from scp.contexts import STORAGE_COMMITMENT_PUSH_MODEL, TRANSFER_SYNTAXES, UNCOMPRESSED
from scp.fast import SMALLEST_PEER_PDU
from scp.limits import MEBIBYTE, Limits
from scp.mpps import MODALITY_PERFORMED_PROCEDURE_STEP
from scp.status import Status
from scp.storage_sop_classes import STORAGE_SOP_CLASSES
from scu.confirmation import TRANSFER_SYNTAXES as PROPOSED
from scu.store import answer_of
from storage.file_meta import PRIVATE_INFORMATION_CREATOR_UID

PAGE = Path(__file__).with_name("conformance.md")
WITHDRAWAL = "(when results are withdrawn)"
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
            ("Maximum PDU received", f"{Limits().maximum_pdu_size} bytes"),
            ("Presentation contexts in one association", associate.MOST_CONTEXTS),
            ("Simultaneous associations as acceptor", f"{receiver.maximum_associations} (configurable)"),
            ("of one caller", f"{receiver.maximum_associations_per_caller} (configurable)"),
            ("of one address", f"{receiver.maximum_associations_per_address} (configurable)"),
            ("of all callers that the configuration does not name, where it lets them in", "a quarter (configurable)"),
            ("ARTIM timer, and silence in the middle of a PDU", f"{receiver.artim_s:g} s (configurable)"),
            ("Silence on an association before it is aborted", f"{receiver.association_timeout_s:g} s (configurable)"),
            ("Largest data set of a request other than C-STORE", f"{Limits().maximum_message_size // MEBIBYTE} MiB"),
            ("Largest object", f"{receiver.maximum_instance_mb} MiB (configurable)"),
            ("Largest deflated object, inflated", f"{receiver.maximum_inflated_mb} MiB (configurable)"),
            ("Asynchronous operations", "none"),
        ],
    )


def acceptor_syntaxes() -> str:
    return _table(("transfer syntax", "UID"), [(syntax.name, syntax) for syntax in TRANSFER_SYNTAXES])


def acceptor_classes() -> str:
    verification = ("Verification SOP Class", "1.2.840.10008.1.1", ", ".join(syntax.name for syntax in UNCOMPRESSED))
    services = [
        (UID(uid).name, uid, ", ".join(syntax.name for syntax in UNCOMPRESSED))
        for uid in (STORAGE_COMMITMENT_PUSH_MODEL, MODALITY_PERFORMED_PROCEDURE_STEP)
    ]
    storage = [(UID(uid).name, uid, "all of the table above") for uid in STORAGE_SOP_CLASSES]
    return _table(("SOP class", "UID", "transfer syntaxes"), [verification, *services, *storage])


def rejections() -> str:
    when = {
        associate.CALLING_AE_TITLE_NOT_RECOGNIZED: "the Calling AE Title is unknown, or its address or certificate is",
        associate.CALLED_AE_TITLE_NOT_RECOGNIZED: "the Called AE Title is not the node's",
        associate.APPLICATION_CONTEXT_NOT_SUPPORTED: "the application context name is not DICOM's",
        associate.PROTOCOL_VERSION_NOT_SUPPORTED: "the protocol version is not 1",
        associate.NO_REASON_GIVEN: f"the peer takes PDUs of less than {SMALLEST_PEER_PDU} bytes only",
        associate.LOCAL_LIMIT_EXCEEDED: "more associations than allowed; the peer may come again",
    }
    return _table(
        ("result", "source", "reason", "when"),
        [(rejection.result, rejection.source, rejection.reason, why) for rejection, why in when.items()],
    )


def statuses() -> str:
    meanings = {
        Status.SUCCESS: "the instance is durable",
        Status.PROCESSING_FAILURE: "an unexpected error; nothing was stored",
        Status.DUPLICATE_SOP_INSTANCE: "stored in quarantine: the same SOP Instance UID is here with other content"
        " (only where the configuration asks for this answer)",
        Status.INVALID_OBJECT_INSTANCE: "Affected SOP Instance UID is not a UID",
        Status.SOP_CLASS_NOT_SUPPORTED: "the SOP Class UID is not one of storage",
        Status.OUT_OF_RESOURCES: "no room, too large an object, or the shared store is away that must have it first",
        Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS: "the SOP Class UID is not that of the presentation context, or the"
        " data set names another instance or class than the request",
        Status.CANNOT_UNDERSTAND: "the data set is empty, cut short, or none in its transfer syntax",
    }
    return _table(("status", "when"), [(f"0x{status:04X}", when) for status, when in meanings.items()])


def service_statuses() -> str:
    meanings = {
        Status.SUCCESS: "done; for N-ACTION: an N-EVENT-REPORT will follow",
        Status.INVALID_ATTRIBUTE_VALUE: "an attribute has a value that it may not have, or the data set is none",
        Status.PROCESSING_FAILURE: "N-SET: the step has ended already (Error ID 0xA710); N-ACTION: the outcome"
        " could not be reported",
        Status.DUPLICATE_SOP_INSTANCE: "N-CREATE: there is a step with this SOP Instance UID",
        Status.NO_SUCH_SOP_INSTANCE: "N-SET: there is no such step; N-ACTION, N-EVENT-REPORT: not the well-known"
        " instance",
        Status.NO_SUCH_EVENT_TYPE: "N-EVENT-REPORT: another Event Type ID than 1 and 2",
        Status.INVALID_ARGUMENT_VALUE: "N-ACTION, N-EVENT-REPORT: an argument has a value that it may not have, or"
        " N-EVENT-REPORT: its sender was not asked under this Transaction UID",
        Status.INVALID_OBJECT_INSTANCE: "the SOP Instance UID is not a UID",
        Status.MISSING_ATTRIBUTE: "an attribute that is required is missing",
        Status.NO_SUCH_ACTION: "N-ACTION: another Action Type ID than 1",
        Status.NOT_AUTHORIZED: "the caller is known for no clinic",
        Status.UNRECOGNIZED_OPERATION: "the request is no operation of its SOP class here",
        Status.RESOURCE_LIMITATION: "the request is larger than allowed, or cannot be kept now",
    }
    return _table(("status", "when"), [(f"0x{status:04X}", when) for status, when in meanings.items()])


def proposed() -> str:
    rows = []
    forms = {name: contexts_of_profile(name) for name in FORMS}
    for name, contexts in {**forms, WITHDRAWAL: contexts_of_rejection()}.items():
        rows += [(name, UID(sop_class).name, UID(syntax).name) for sop_class, syntax in contexts]
    return _table(("profile or extra", "SOP class", "transfer syntax"), rows)


def commitment_proposed() -> str:
    uid = UID(STORAGE_COMMITMENT_PUSH_MODEL)
    return _table(("SOP class", "transfer syntaxes"), [(uid.name, ", ".join(syntax.name for syntax in PROPOSED))])


def answers() -> str:
    codes = (0x0000, 0x0001, 0x0107, 0x0110, 0x0116, 0x0117, 0x0122, 0x0124, 0x0213, 0xA700, 0xA900, 0xB000, 0xC000)
    return _table(("status of the peer", "what the node does"), [(f"0x{c:04X}", _ACTIONS[answer_of(c)]) for c in codes])


def results() -> str:
    rows = [
        (writer.kind, UID(writer.sop_class_uid).name, writer.series_number, ", ".join(_forms_with(writer.kind)))
        for writer in all_writers().values()
    ]
    return _table(("kind", "SOP class", "Series Number", "profiles and extras"), rows)


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
    "service_statuses": service_statuses,
    "proposed": proposed,
    "commitment_proposed": commitment_proposed,
    "answers": answers,
    "results": results,
    "provenance": provenance,
}

_ACTIONS = {
    "stored": "counts as stored",
    "retry": "sends it again later, for up to seven days (configurable)",
    "not_taken": "sends the next form of its profile instead, where there is one",
    "refused": "does not send it again; the study is marked not_delivered",
}


def _forms_with(kind: str) -> list[str]:
    """Those that can be configured."""
    known = [str(DestinationSettings.model_fields[field].annotation) for field in ("profile", "extras")]
    forms = [form for form, kinds in FORMS.items() if kind in kinds and any(repr(form) in names for names in known)]
    return [*forms, *([WITHDRAWAL] if kind in KINDS_OF_A_REJECTION else [])]


def _table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(map(str, head))]
    lines += [["---"] * len(lines[0]), *(list(map(str, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
