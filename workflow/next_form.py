"""What a destination gets instead of results whose SOP class it does not take: the next form of its profile.

    air  ->  standard  ->  text  ->  sc_only

The picture and the text of `standard` are forms by themselves: where they arrive, nothing more has to be written. An
extra that a destination does not take stays away, and its profile stands for it.
"""

from dataclasses import dataclass

from domain.clinics import ResultForm
from domain.errors import Away, CollimatorError
from domain.routing import decide
from reports.write import kinds_of, next_profile
from scu.store import Answer
from storage import deliveries, studies
from storage.studies import ResultRow
from workflow.rooms import Rooms
from workflow.sending import Sent
from workflow.steps import write_form


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """The form that stands for the destination's own; empty: there is none. `rows`: what was written for it."""

    name: str = ""
    why: str = ""
    rows: tuple[ResultRow, ...] = ()


NO_FORM = Form()


def next_form(rooms: Rooms, clinic: str, destination_name: str, study_id: int, sent: Sent) -> Form:
    """Choose the form, and write what of it is not on its way already."""
    destination = rooms.destination(clinic, destination_name)
    with rooms.database.read() as connection:
        waiting = deliveries.waiting(connection, study_id, destination_name)
        refused = deliveries.refused_kinds(connection, study_id, destination_name)
        there = deliveries.kinds_on_the_way(connection, study_id, destination_name)
    refused |= {
        waiting[outcome.sop_instance_uid].kind
        for outcome in sent.outcomes
        if outcome.answer in (Answer.NOT_TAKEN, Answer.REFUSED) and outcome.sop_instance_uid in waiting
    }
    profile = destination and next_profile(destination.profile, refused)
    analyses = studies.analyses_of(rooms.database, study_id)
    if not destination or not profile or not analyses:
        return NO_FORM
    why = "; ".join(dict.fromkeys(outcome.detail for outcome in sent.outcomes if outcome.answer is Answer.NOT_TAKEN))
    form = ResultForm(profile=profile, language=destination.language)
    if set(kinds_of(profile)) <= there:
        return Form(name=form.name, why=why)
    try:
        study = studies.read_study(rooms.database, rooms.spool, study_id)
        written = write_form(rooms, study, decide(study, rooms.rulebook), analyses, form=form)
    except Away:
        raise
    except CollimatorError:  # without its images there is no picture: the results stay refused
        return NO_FORM
    return Form(name=form.name, why=why, rows=written.rows)
