"""The way of one study through the house. Read this first.

    scp/store.py -> storage/arrivals/indexer.py -> workflow/intake.py closes it -> process_study, here:

    read -> admit: route, may it be analysed?, reserve quota -> analyse, write results, hand over -> deliver.py
                           │                                                              └── and to shadow.py
                          └── no: put aside, with a note for the PACS that says why; nothing is charged

    deliver.py sends -> record.py: what the PACS said, the charge -> confirm.py, where a PACS is asked to commit -> done

workflow/ alone knows the rooms; rooms never call each other. Each durable step is done once: after a crash the
study goes on behind the last finished step, and a step that was cut short is repeated with the same result. To remember
one is a commit, so that what may well be repeated together is one.

A study that a person cancels is not queued any more: the next step that writes rows finds that out, and the job ends
without a trace. The names and the order of the steps are part of what is in flight (docs/adr/0002).
"""

from types import NoneType

from domain.errors import Refuse, Retry
from storage.studies import read_study
from workflow.durable import Durable
from workflow.rooms import Rooms
from workflow.steps import (
    MAXIMUM_ATTEMPTS,
    Admission,
    admit,
    analyse_and_write,
    try_again,
    write_note_and_put_aside,
)


def process_study(study_id: int, attempt: int, *, rooms: Rooms, durable: Durable) -> None:
    """Analyse one closed study and hand its results over for delivery."""
    study = rooms.database.patiently(lambda: read_study(rooms.database, rooms.spool, study_id))
    try:
        try:
            decision = durable.enter("admit", Admission, admit, rooms, study_id, study).granted()
            is_last_try = attempt >= MAXIMUM_ATTEMPTS
            durable.enter(
                "hand over", NoneType, analyse_and_write, rooms, study_id, study, decision, is_last_try=is_last_try
            )
        except Refuse as refusal:
            durable.enter("put aside", NoneType, write_note_and_put_aside, rooms, study_id, study, refusal)
    except Retry as delay:
        durable.transaction("try again", try_again, rooms, study_id, study, attempt, delay)
