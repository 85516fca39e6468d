"""The way of one study through the house. Read this first.

    read -> admit: route, may it be analysed?, reserve quota -> analyse -> write results -> hand over to deliver.py
                           │                                                                   └── and to shadow.py
                          └── no: put aside, with a note for the PACS that says why; nothing is charged

This function alone holds every room; rooms never call each other. Each durable step is done once: after a crash the
study goes on behind the last finished step, and a step that was cut short is repeated with the same result. Each costs
up to three commits, so that what may well be repeated together is one.

A study that a person cancels is not queued any more: the next step that writes rows finds that out, and the job ends
without a trace. The names and the order of the steps are part of what is in flight (docs/adr/0002).
"""

from domain.errors import Refuse, Retry
from domain.findings import Analysis
from domain.routing import Decision
from storage.studies import read_study
from workflow.durable import Durable
from workflow.rooms import Rooms
from workflow.steps import (
    admit,
    analyse,
    hand_over_analysis,
    put_aside,
    try_again,
    write_note,
    write_results,
)
from workflow.written import Written


def process_study(study_id: int, attempt: int, *, rooms: Rooms, durable: Durable) -> None:
    """Analyse one closed study and hand its results over for delivery."""
    study = rooms.database.patiently(lambda: read_study(rooms.database, rooms.spool, study_id))
    try:
        try:
            decision = durable.step("admit", Decision, admit, rooms, study_id, study)
            analyses = tuple(
                durable.step(f"analyse {package}", Analysis, analyse, rooms, study, decision, package)
                for package in decision.packages
            )
            written = durable.step("write", Written, write_results, rooms, study, decision, analyses)
            durable.transaction("hand over", hand_over_analysis, rooms, study_id, study, decision, analyses, written)
        except Refuse as refusal:
            note = durable.step("write note", Written, write_note, rooms, study, refusal)
            durable.transaction("put aside", put_aside, rooms, study_id, study, refusal, note)
    except Retry as delay:
        durable.transaction("try again", try_again, rooms, study_id, study, attempt, delay)
