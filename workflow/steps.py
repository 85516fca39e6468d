"""The steps of process_study, each a plain function on the rooms it needs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
import structlog

from domain.clinics import ResultForm
from domain.errors import Away, Misconfigured, Refuse, Retry
from domain.findings import Analysis, DisplayImage, LeftOut, ModelIdentity
from domain.plans import Plan
from domain.queueing import why_stat
from domain.routing import Decision, Silent, decide, explain
from domain.states import NOTED, Reason
from domain.study import Instance, Study
from domain.versions import Choice, Role, choose
from inference.gates import with_gates
from inference.package import Package
from metering.entitlements import with_entitlements
from metering.quota import release, reserve, why_none
from metering.subscriptions import subscription_at
from reports.language import Words
from reports.picture.page import FILM_BOXES
from reports.request import Note, PreviousResult, ReportRequest
from reports.words import LANGUAGES
from reports.write import write_results as write_objects
from storage import studies
from storage.clinic_lock import lock_clinic
from storage.database import utc_now
from storage.events import add_event
from storage.outboxes import wake
from storage.queue_order import note_start
from storage.study_keys import study_name
from workflow.durable import Entry
from workflow.finish import finish
from workflow.reference import begin_references
from workflow.results import keep
from workflow.rooms import Rooms
from workflow.written import Written

log = structlog.get_logger()

MAXIMUM_ATTEMPTS = 3
RETRY_DELAY_S = 5.0
AWAY_DELAY_S = 30.0
DEFAULT_FORM = ResultForm(profile="standard")


@dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """What is to look at a study, and what speaks against it: message, reason and hint of a Refuse."""

    decision: Decision
    refusal: tuple[str, Reason, str] | None = None

    def granted(self) -> Decision:
        """Raises:
        Refuse: something speaks against it.
        """
        if self.refusal is None:
            return self.decision
        message, reason, hint = self.refusal
        raise Refuse(message, reason=reason, hint=hint)


def admit(rooms: Rooms, study_id: int, study: Study) -> Entry[Admission]:
    """Decide which version of which package sees which image; what is left is to keep that, and to take one study from
    the clinic's quota. Doing it again changes nothing: a study that has its quota keeps it.
    """
    with rooms.database.read() as connection:
        plan = subscription_at(connection, clinic=study.clinic, moment=utc_now()).plan
        plan = with_entitlements(connection, plan, clinic=study.clinic)
    decision = decide(study, rooms.rulebook)
    decision = replace(decision, choices=tuple(_choices(rooms, study, decision, plan)))
    decision = with_gates(decision, study, _answering(rooms, decision), rooms.rulebook)
    refusals = {package: why for package in decision.packages if (why := why_silent(rooms, decision, package, plan))}
    decision = replace(decision, silent=tuple(Silent(package=p, why=why.message) for p, why in refusals.items()))

    def enter(connection: sa.Connection) -> Admission:
        lock_clinic(connection, study.clinic)  # as in intake, before the study's row
        studies.require_queued(connection, study_id)
        studies.save_decision(connection, study_id, explain(decision), decision.reason)
        note_start(connection, study_id)
        refusal = why_not(study, decision, refusals) or reserve_quota(connection, rooms, study)
        if refusal is None:
            return Admission(decision=decision)
        return Admission(decision=decision, refusal=(refusal.message, Reason(refusal.reason), refusal.hint))

    return enter


def why_not(study: Study, decision: Decision, refusals: Mapping[str, Refuse]) -> Refuse | None:
    """Why nothing may or can look at a study; None: something may. `refusals`: of the packages that do not answer."""
    if not any(instance.facts.has_pixels for instance in study.instances):
        return Refuse("the study holds no image", reason=Reason.NO_IMAGE)
    if not decision.packages:
        return Refuse(decision.reason, reason=Reason.UNROUTABLE)
    return None if decision.answering else refusals[decision.packages[0]]


def why_silent(rooms: Rooms, decision: Decision, package: str, plan: Plan) -> Refuse | None:
    """Why a package may or can not look at its images; None: it may."""
    if package not in plan.packages:
        return Refuse(
            f"the {plan.tier} plan does not include the {_spoken(package)} model",
            reason=Reason.NOT_IN_PLAN,
            hint="it is analysed by itself when the plan includes it",
        )
    choice = decision.choice(package)
    if serving_package(rooms, choice) is None:
        return Refuse(
            f"the {_spoken(package)} model is not configured on this node",
            reason=Reason.NOT_CONFIGURED,
            hint=_why_not_there(rooms, choice),
        )
    return None


def reserve_quota(connection: sa.Connection, rooms: Rooms, study: Study) -> Refuse | None:
    """Take one study from the clinic's quota; why not, where none is left."""
    now = utc_now()
    if reserve(
        connection,
        clinic=study.clinic,
        study_instance_uid=study.study_instance_uid,
        now=now,
        is_stat=is_stat(rooms, study),
    ):
        return None
    return why_none(connection, clinic=study.clinic, now=now)


def is_stat(rooms: Rooms, study: Study) -> bool:
    """Whether it goes before all others: in the queue, in a batch, and on grace where the quota is used up."""
    return bool(
        why_stat(
            rooms.stat,
            clinic=study.clinic,
            calling_ae_title=study.calling_ae_title,
            facts=(instance.facts for instance in study.instances),
        )
    )


def analyse_and_write(
    rooms: Rooms, study_id: int, study: Study, decision: Decision, *, is_last_try: bool
) -> Entry[None]:
    """Run every package, and write what was found; what is left is to hand it over."""
    analyses = analyse_all(rooms, study, decision, is_last_try=is_last_try)
    log.debug("study_analysed", study_id=study_id)
    written = write_results(rooms, study, decision, analyses)
    log.debug("results_written", study_id=study_id)
    return lambda connection: hand_over_analysis(connection, rooms, study_id, study, decision, analyses, written)


def write_note_and_put_aside(rooms: Rooms, study_id: int, study: Study, refusal: Refuse) -> Entry[None]:
    """Write the note that says why, where there is to be one; what is left is to keep the study with its reason."""
    note = write_note(rooms, study, refusal)
    return lambda connection: put_aside(connection, rooms, study_id, study, refusal, note)


def analyse_all(rooms: Rooms, study: Study, decision: Decision, *, is_last_try: bool) -> tuple[Analysis, ...]:
    """Run every package that answers. One that refuses its images, or fails to the last, keeps back nothing that the
    others have found.

    Raises:
        Refuse, Retry: none has found anything; what the first one said.
    """
    analyses: list[Analysis] = []
    failures: dict[str, Refuse | Retry] = {}
    for package in decision.answering:
        try:
            analyses.append(analyse(rooms, study, decision, package))
        except Refuse as refusal:
            failures[package] = refusal
        except Retry as delay:
            if isinstance(delay, Away) or not is_last_try:
                raise
            failures[package] = delay
    if not analyses:
        raise next(iter(failures.values()))
    unseen = tuple(_unseen(study, decision, failures))
    return tuple(replace(analysis, unseen=unseen) for analysis in analyses)


def analyse(rooms: Rooms, study: Study, decision: Decision, package: str) -> Analysis:
    """Run one package, in the version that was chosen, on the images that were routed to it."""
    choice = decision.choice(package)
    serving = serving_package(rooms, choice)
    if serving is None:
        raise Refuse(
            f"the {_spoken(package)} model was there a moment ago",
            reason=Reason.NOT_CONFIGURED,
            hint=_why_not_there(rooms, choice),
        )
    routed = {image.sop_instance_uid for image in decision.images if image.package == package}
    images = [instance for instance in study.instances if instance.sop_instance_uid in routed]
    try:
        analysis = rooms.analyst.analyse(
            serving.name,
            images,
            version=serving.manifest.version,
            is_demonstration=serving.name != package,
            is_urgent=is_stat(rooms, study),
        )
    except Misconfigured as error:  # of the package, which a person may mend; until then the study says what it is
        log.error("package_fails", package=serving.name, reason=error.message)
        raise Retry(error.message, hint=error.hint) from error
    return replace(analysis, model=replace(analysis.model, role=choice.role))


def write_results(rooms: Rooms, study: Study, decision: Decision, analyses: Sequence[Analysis]) -> Written:
    """Write every analysis as the objects that the clinic's destinations take."""
    requests = _requests(rooms, study, decision, analyses)
    forms = _forms(rooms, study)
    return _keep(rooms, study, lambda language: _in_language(requests, language), forms, is_note=False)


def write_form(
    rooms: Rooms, study: Study, decision: Decision, analyses: Sequence[Analysis], *, form: ResultForm
) -> Written:
    """Write every analysis in one form, for a destination that turned out not to take its own."""
    requests = _requests(rooms, study, decision, analyses)
    return _keep(rooms, study, lambda language: _in_language(requests, language), [form], is_note=False)


def write_note(rooms: Rooms, study: Study, refusal: Refuse) -> Written:
    """Write the note that tells the PACS why there is no analysis, where the clinic wants notes."""
    clinic = rooms.clinic(study.clinic)
    if refusal.reason not in NOTED or not clinic.sends_notes:
        return Written(rows=())

    def in_language(language: str) -> list[ReportRequest]:
        note = replace(note_in_words(refusal, LANGUAGES[language]), is_drawn=clinic.draws_notes)
        return [ReportRequest(study=study, node=rooms.node, note=note, language=language)]

    return _keep(rooms, study, in_language, _forms(rooms, study), is_note=True)


def note_in_words(refusal: Refuse, words: Words) -> Note:
    """What the radiologist is told. The hint is for the administrator, who finds it in the study's history."""
    message = words.note_message.format(message=_sentence(refusal.message))
    return Note(title=words.note_titles[Reason(refusal.reason)], lines=(message, words.note_kept))


def hand_over_analysis(
    connection: sa.Connection,
    rooms: Rooms,
    study_id: int,
    study: Study,
    decision: Decision,
    analyses: Sequence[Analysis],
    written: Written,
) -> None:
    """Keep what was found and hand the results over, unless nobody waits for them any more; then shadows may look."""
    studies.require_queued(connection, study_id)
    begin_references(connection, rooms, study_id, analyses)
    studies.save_analyses(connection, study_id, analyses)
    hand_over(connection, rooms, study_id, study, written)
    if any(rooms.clinic(study.clinic).model(package).shadow for package in decision.answering):
        rooms.jobs.put_shadow(connection, study_id=study_id, attempt=1)


def hand_over(connection: sa.Connection, rooms: Rooms, study_id: int, study: Study, written: Written) -> None:
    """Enter the results and see to it that each destination has a job to bring them, all in one commit."""
    clinic = rooms.clinic(study.clinic)
    takers = {form.name: [d.name for d in clinic.destinations if form in d.forms] for form in _forms(rooms, study)}
    studies.save_results(connection, study_id, written.rows, takers)
    finish(connection, study_id)
    for name in sorted(destination.name for destination in clinic.destinations):
        wake(connection, rooms.jobs, clinic=clinic.name, destination=name)


def put_aside(
    connection: sa.Connection, rooms: Rooms, study_id: int, study: Study, refusal: Refuse, note: Written
) -> None:
    """Keep the study with its reason, give its quota back, and send the note on its way."""
    if not studies.is_queued(connection, study_id):
        return
    studies.put_aside(connection, study_id, refusal)
    release(connection, clinic=study.clinic, study_instance_uid=study.study_instance_uid)
    if note.rows:
        hand_over(connection, rooms, study_id, study, note)


def try_again(connection: sa.Connection, rooms: Rooms, study_id: int, study: Study, attempt: int, delay: Retry) -> None:
    """Put the job once more, later; after MAXIMUM_ATTEMPTS the study is parked and the others go on.

    What has to wait for the shared store has not been attempted.
    """
    if not studies.is_queued(connection, study_id):
        return
    if isinstance(delay, Away):
        log.warning("shared_store_away", study_id=study_id, error=delay.message)
        rooms.jobs.put_study(connection, study_id=study_id, attempt=attempt, delay_s=AWAY_DELAY_S)
        return
    if attempt >= MAXIMUM_ATTEMPTS:
        refusal = Refuse(
            f"gave up after {attempt} attempts: {delay.message}",
            reason=Reason.KEEPS_FAILING,
            hint="see the worker's log; `collimator study UID --retry` tries it again",
        )
        put_aside(connection, rooms, study_id, study, refusal, Written(rows=()))
        return
    rooms.jobs.put_study(
        connection,
        study_id=study_id,
        attempt=attempt + 1,
        delay_s=RETRY_DELAY_S * attempt,
    )
    add_event(connection, study_id, "retry", delay.message)


def serving_package(rooms: Rooms, choice: Choice) -> Package | None:
    """The package that answers: the chosen version, the package's stand-in in the demonstration, or None."""
    chosen = _installed(rooms, choice)
    if chosen is not None and chosen.is_configured:
        return chosen
    stand_in = rooms.stand_ins.get(choice.package)
    package = None if stand_in is None else rooms.registry.get(stand_in)
    return package if package is not None and package.is_configured else None


def _installed(rooms: Rooms, choice: Choice) -> Package | None:
    """The chosen version; None: since the worker began, somebody has removed it, or broken its manifest."""
    try:
        return rooms.registry.get(choice.package, choice.version)
    except Misconfigured:
        return None


def _why_not_there(rooms: Rooms, choice: Choice) -> str:
    """For the administrator."""
    try:
        return rooms.registry.get(choice.package, choice.version).why_not
    except Misconfigured as error:
        return f"{error.message}. {error.hint}".strip()


def explain_to_reader(decision: Decision, analysis: Analysis) -> tuple[str, ...]:
    """Why this model, for the readable report: one sentence for each way that an image went to it."""
    analysed = {image.sop_instance_uid for image in analysis.images}
    reasons = (image.reason for image in decision.images if image.sop_instance_uid in analysed)
    return tuple(dict.fromkeys(map(_sentence, reasons)))


def explain_version(model: ModelIdentity, words: Words) -> tuple[str, ...]:
    """Why this version, for the readable report; only where a reader would not expect it."""
    if model.role is not Role.CANARY:
        return ()
    return (words.version_is_tried.format(version=model.version),)


def _choices(rooms: Rooms, study: Study, decision: Decision, plan: Plan) -> Iterable[Choice]:
    """For what the plan includes; the rest is refused in a moment."""
    clinic = rooms.clinic(study.clinic)
    for package in decision.packages:
        if package in plan.packages:
            yield choose(
                clinic.model(package),
                clinic=clinic.name,
                study_instance_uid=study.study_instance_uid,
                default=newest.manifest.version if (newest := _installed(rooms, Choice(package=package))) else "",
            )


def _answering(rooms: Rooms, decision: Decision) -> dict[str, Package]:
    """What answers for each package; one that is not configured says at least what it would accept."""
    answering = {
        choice.package: serving_package(rooms, choice) or _installed(rooms, choice) for choice in decision.choices
    }
    return {name: package for name, package in answering.items() if package is not None}


def _unseen(study: Study, decision: Decision, failures: Mapping[str, Refuse | Retry]) -> Iterator[LeftOut]:
    """The images that no model has looked at: no rule takes them, or theirs does not answer, or refuses all it got."""
    images = {instance.sop_instance_uid for instance in study.instances if instance.facts.has_pixels}
    silent = {one.package: one.why for one in decision.silent}
    for package, error in failures.items():  # of what fails, the study's history has the details: they are not readers'
        says = f": {error.message}" if isinstance(error, Refuse) else " keeps failing"
        silent[package] = f"the {_spoken(package)} model{says}"
    for image in decision.images:
        if image.package is None and image.sop_instance_uid in images:
            yield LeftOut(sop_instance_uid=image.sop_instance_uid, why=image.reason)
        elif image.package in silent:
            refused = f"the {_spoken(image.package)} model refuses it: {image.refusal}" if image.refusal else ""
            yield LeftOut(sop_instance_uid=image.sop_instance_uid, why=refused or silent[image.package])


def _displays(rooms: Rooms, study: Study, analysis: Analysis) -> dict[str, DisplayImage]:
    analysed = {image.sop_instance_uid for image in analysis.images}
    images: Iterable[Instance] = (i for i in study.instances if i.sop_instance_uid in analysed)
    is_urgent = is_stat(rooms, study)
    return {
        image.sop_instance_uid: rooms.analyst.display(image.path, within=FILM_BOXES, is_urgent=is_urgent)
        for image in images
    }


def _forms(rooms: Rooms, study: Study) -> list[ResultForm]:
    """The forms to write; a clinic without destinations gets its results on disk."""
    forms = (form for destination in rooms.clinic(study.clinic).destinations for form in destination.forms)
    return list(dict.fromkeys(forms)) or [DEFAULT_FORM]


def _requests(rooms: Rooms, study: Study, decision: Decision, analyses: Sequence[Analysis]) -> list[ReportRequest]:
    return [
        ReportRequest(
            study=study,
            node=rooms.node,
            analysis=_told_of_all(analysis, others),
            displays=_displays(rooms, study, analysis),
            decision=explain_to_reader(decision, analysis),
            seen_by_others=tuple(image.sop_instance_uid for other in others for image in other.images),
            previous_results=tuple(
                PreviousResult(sop_class_uid=class_uid, sop_instance_uid=instance_uid, series_instance_uid=series_uid)
                for class_uid, instance_uid, series_uid in studies.previous_results(rooms.database, study)
            ),
        )
        for analysis, others in ((one, [other for other in analyses if other is not one]) for one in analyses)
    ]


def _told_of_all(analysis: Analysis, others: Sequence[Analysis]) -> Analysis:
    """With the images that the other models of the study were to see and have not: each report names all of them."""
    theirs = (
        replace(one, why=f"the {_spoken(other.model.package)} model has not seen it: {one.why}")
        for other in others
        for one in other.left_out
    )
    return replace(analysis, unseen=(*theirs, *analysis.unseen))


def _in_language(requests: Sequence[ReportRequest], language: str) -> list[ReportRequest]:
    return [
        replace(
            request,
            language=language,
            decision=(*request.decision, *explain_version(request.analysis.model, LANGUAGES[language])),
        )
        for request in requests
        if request.analysis is not None
    ]


def _keep(
    rooms: Rooms,
    study: Study,
    in_language: Callable[[str], Sequence[ReportRequest]],
    forms: Sequence[ResultForm],
    *,
    is_note: bool,
) -> Written:
    rows = []
    name = study_name(study.clinic, study.study_instance_uid)
    for form in forms:
        for request in in_language(form.language):
            for written in write_objects(request, profile=form.profile, open_file=rooms.spool.open_at):
                rows.append(keep(rooms, written, study=name, profile=form.name, is_note=is_note))
    return Written(rows=tuple(rows))


def _spoken(package: str) -> str:
    return package.replace("_", " ")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
